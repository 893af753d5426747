"""The state of the device, as `handfast-device watch` prints it."""

from device_app.console.device_state import DeviceState
from device_app.console.views import WatchView
from device_app.terminal.block_digits import block_lines
from peer.identity import Fingerprint
from peer.pairing.sas import grouped
from peer.terminal.durations import format_duration, format_time
from peer.terminal.layout import fingerprint_lines, folded
from peer.terminal.reasons import reason_in_words
from peer.terminal.text import on_one_line

_INDENT = " " * 4


def watch_lines(view: WatchView, now: float, *, is_large: bool) -> list[str]:
    """A state: one line with the time, and below it what has to be read or compared.

    Args:
        view: the state.
        now: the time, in seconds since 1970.
        is_large: print codes and digits in large blocks as well.
    """
    line = f"{format_time(now, with_seconds=True)}  {view['state']}: {_sentence(view)}"
    found = folded(line, indent=_INDENT)
    for problem in view.get("problems", [])[1:]:
        found += folded(f"{_INDENT}{on_one_line(problem)}", indent=_INDENT)
    if view["state"] == DeviceState.TROUBLE and view["pairing"] != DeviceState.IDLE:
        found += folded(f"{_INDENT}{view['pairing']}: {_pairing(view)}", indent=_INDENT)
    return [*found, *_asking_lines(view, is_large=is_large), *_code_lines(view, is_large=is_large)]


def _sentence(view: WatchView) -> str:
    if problems := view.get("problems"):
        return on_one_line(problems[0])
    return _pairing(view)


def _pairing(view: WatchView) -> str:
    name, role, method = (view.get(field, "") for field in ("name", "role", "method"))
    left = format_duration(view["seconds_left"]) if "seconds_left" in view else ""
    client = f"{name!r} was not paired" if name else "no client was paired"
    sentences = {
        DeviceState.ASKING: f"{name!r} asks for the role {role}, method {method}; {left} left",
        DeviceState.WORKING: f"{name!r} is pairing as {role}, method {method}; {left} left",
        DeviceState.REFUSED: f"{client}: {reason_in_words(view.get('reason', ''))}",
        DeviceState.PAIRED: f"{name!r} has paired as {role}, method {method}",
        DeviceState.BLOCKED: f"after too many failed attempts, no client can pair for {left} "
        "(`handfast-device open` ends this)",
        DeviceState.OPEN: f"a client that pairs becomes {role}, "
        f"methods {', '.join(view.get('methods', []))}; {left} left",
        DeviceState.STOPPED: "no daemon is running",
    }
    return sentences.get(DeviceState(view["pairing"]), "the pairing window is closed")


def _asking_lines(view: WatchView, *, is_large: bool) -> list[str]:
    """The value that the device's user compares, and how to answer."""
    if view["pairing"] != DeviceState.ASKING:
        return []
    if "number" in view:
        found = [f"{_INDENT}this device shows  {grouped(view['number'])}"]
        found += block_lines(grouped(view["number"])) if is_large else []
    else:
        fingerprint = Fingerprint.parse(view["fingerprint"])
        found = fingerprint_lines(f"{_INDENT}client's fingerprint  ", fingerprint)
    return [
        *found,
        f"{_INDENT}If the client shows the same:  handfast-device accept {view['id']}",
        f"{_INDENT}If not:                        handfast-device refuse {view['id']}",
    ]


def _code_lines(view: WatchView, *, is_large: bool) -> list[str]:
    if "code" not in view:
        return []
    large = block_lines(view["code"]) if is_large else []
    return [f"{_INDENT}code  {view['code']}", *large]
