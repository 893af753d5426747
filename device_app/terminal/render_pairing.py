"""What a person at the device reads about pairing: what to do, what happened, what is left."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.pairing.methods import Method
from peer.pairing.sas import grouped
from peer.pairing.window_timer import CloseReason
from peer.terminal.durations import format_duration
from peer.terminal.layout import allows_colour, fingerprint_lines

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"

_ENDINGS: Final[Mapping[str, str]] = {
    "refused": "it was refused here",
    "client": "its user said no, or gave up",
    "session-ended": "it went away",
    "too-late": "nobody answered in time",
    "window-closed": "the window's time was up",
    "closed": "the window was closed",
    "restarted": "it has started again",
    "overlap": "another client came in between",
}
_CLOSINGS: Final[Mapping[str, Sequence[str]]] = {
    CloseReason.TIME: ("The time is up: the window has closed, and nobody was paired.",),
    CloseReason.FAILURES: (
        "Too many tries have failed, so the window has closed; nobody was paired.",
        "Paired clients go on working. To try again: handfast-device open",
    ),
    CloseReason.OVERLAP: (
        "Two clients tried to pair: both were refused, and the window has closed.",
        "Find out who the other one is; then: handfast-device open",
    ),
    CloseReason.CONSOLE: ("The window was closed; nobody was paired.",),
}


def window_lines(window: Mapping[str, Any]) -> list[str]:
    """An open window: for how long, what to do at the client, and the code if there is one."""
    left = format_duration(window["seconds_left"])
    return [
        f"The pairing window is open for {left}; who pairs becomes {window['role']}.",
        *lock_lines(window),
        "On the client:",
        *(f"  {line}" for line in way_lines(window["methods"])),
        f"Where it does not find this device by itself: handfast pair ADDRESS:{window['port']}",
        *code_lines(window),
    ]


def way_lines(offered: Sequence[str]) -> list[str]:
    """What to type at the client, and what happens then, for each method."""
    methods = sorted((one for one in Method if one in offered), key=_needs_an_argument)
    rows = [_way(method, is_first=method is methods[0]) for method in methods]
    wide = max((len(typed) for typed, _ in rows), default=0)
    return [f"{typed:<{wide}}  {what}" for typed, what in rows]


def _needs_an_argument(method: Method) -> bool:
    """Return whether the client uses the method only with an argument; these come last."""
    return method is Method.LABEL or not method.spec.verifies_key


def _way(method: Method, *, is_first: bool) -> tuple[str, str]:
    """What to type at the client for a method, and what its user does then."""
    chosen = "handfast pair" if is_first else f"handfast pair --method {method}"
    match method:
        case Method.LABEL:
            return "handfast pair PICTURE", "a photo, or the text, of the label"
        case Method.CODE:
            return chosen, "type the code"
        case Method.SAS:
            return chosen, "compare six digits on both sides"
        case Method.COMPARE:
            return chosen, "compare both fingerprints, all their digits"
        case Method.BUTTON:
            return (
                "handfast pair --method button",
                "nothing: who is first is an unverified guest",
            )
        case _:
            assert_never(method)


def _mismatch(name: str) -> str:
    """What a wrong message of the client means, by the method's name."""
    method = Method.named(name)
    match method:
        case Method.LABEL:
            return "it did not have the token of this device's label"
        case Method.CODE:
            return "the code was wrong, or somebody is in between"
        case Method.SAS | Method.COMPARE | Method.BUTTON | None:
            return "its confirmation was wrong; somebody may be in between"
        case _:
            assert_never(method)


def code_lines(window: Mapping[str, Any]) -> list[str]:
    """The code that the client asks for: big, or at least alone."""
    if "code" not in window:
        return []
    return ["", f"    code  {_bold(str(window['code']))}    (for one try)", ""]


def _bold(text: str) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if allows_colour(sys.stderr) else text


def ended_lines(ceremony: Mapping[str, Any], *, failures: int) -> list[str]:
    """A ceremony that came to nothing, and how many more its window stands; `failures` with it."""
    reason = ceremony.get("reason", "")
    why = _ENDINGS.get(reason) or f"it could not be stored here ({reason})"
    if reason == "mismatch":
        why = _mismatch(ceremony["method"])
    said = [f"{ceremony['name']!r} was not paired: {why}."]
    left = DEFAULT_LIMITS.window_failures - failures
    if left <= 0 or reason in {"overlap", "closed", "window-closed"}:
        return said
    return [*said, "Another try is left." if left == 1 else f"{left} more tries are left."]


def closed_lines(reason: str) -> list[str]:
    """Why the window has closed without a success."""
    return list(_CLOSINGS.get(reason, ()))


def pending_lines(pending: Sequence[Mapping[str, Any]]) -> list[str]:
    """What waits for the device's user."""
    if not pending:
        return ["nothing waits for an answer"]
    found = []
    for one in pending:
        where = f", from {one['address']}" if "address" in one else ""
        found.append(f"{one['id']}  {one['name']!r} wants to be {one['role']}{where}")
        if "number" in one:
            found.append(f"  this device shows  {grouped(one['number'])}")
        else:
            found += fingerprint_lines(
                "  its fingerprint    ", Fingerprint.parse(one["fingerprint"])
            )
    digits = all("number" in one for one in pending)
    asked = "the same six digits" if digits else "the same, digit by digit"
    named = pending[0]["id"] if len(pending) == 1 else "ID"
    answer = f"If so, `handfast-device accept {named}`; if not, `refuse {named}`."
    return [*found, f"Does the client show {asked}?", answer]


def lock_lines(window: Mapping[str, Any]) -> list[str]:
    """For how long nobody can pair, in plain words; nothing if anybody can."""
    if not (blocked := window.get("blocked_seconds")):
        return []
    return [
        f"Too many tries have failed: nobody can pair for {format_duration(blocked)}.",
        "Paired clients go on working. `handfast-device open` ends it at once.",
    ]


def label_line(label: Mapping[str, Any], *, can_be: bool = True) -> str:
    """Whether there is a label, and what is wrong with it; `can_be`: the board may have one."""
    if not can_be:
        return "none, by the configuration"
    if not label["made"]:
        return "none (`handfast-device label` makes one)"
    if label["dead"]:
        return "made; its code is dead (`handfast-device label --revive`), its QR code works"
    return "made"
