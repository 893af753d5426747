"""Pairing, as the device's user sees it: the window, the clients, and how attempts ended."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

from device_app.console.views import CeremonyView, LabelState, WindowView
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.pairing.ceremony import EndReason
from peer.pairing.methods import Method
from peer.pairing.sas import grouped
from peer.pairing.window_timer import CloseReason
from peer.terminal.durations import format_duration
from peer.terminal.layout import allows_colour, fingerprint_lines
from peer.terminal.reasons import reason_in_words

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"

_REASONS: Final[Mapping[str, str]] = {
    EndReason.REFUSED: "it was refused here",
    EndReason.CLIENT: "its user declined or cancelled",
    EndReason.SESSION_ENDED: "it disconnected",
    EndReason.TOO_LATE: "it was not accepted in time",
    EndReason.WINDOW_CLOSED: "the window's time was up",
    EndReason.CLOSED: "the window was closed",
    EndReason.RESTARTED: "it started again",
    EndReason.OVERLAP: "another client tried to pair at the same time",
    EndReason.STORE: "the attempt could not be stored here",
}
_LAST_REASONS: Final = {EndReason.OVERLAP, EndReason.CLOSED, EndReason.WINDOW_CLOSED}
"""Those with which the window closes as well."""
_CLOSE_REASONS: Final[Mapping[str, Sequence[str]]] = {
    CloseReason.TIME: ("The window closed because its time was up. No client was paired.",),
    CloseReason.FAILURES: (
        "The window closed after too many failed attempts. No client was paired.",
        "Paired clients are not affected. To try again: handfast-device open",
    ),
    CloseReason.OVERLAP: (
        "The window closed because two clients tried to pair. Both were refused.",
        "Find out whose the other client is. To try again: handfast-device open",
    ),
    CloseReason.CONSOLE: ("The window was closed. No client was paired.",),
    CloseReason.REPLACED: (
        "Another window replaces this one, with other methods or for another role.",
    ),
}


def window_lines(window: WindowView) -> list[str]:
    """An open window: how long, which role, what to run on the client, and the code if any."""
    left = format_duration(window["seconds_left"])
    return [
        f"The pairing window is open for {left}. A client that pairs becomes {window['role']}.",
        *lock_lines(window),
        "On the client, run:",
        *(f"  {line}" for line in client_command_lines(window["methods"])),
        *not_offered_lines(window),
        f"If the client does not find this device: handfast pair ADDRESS:{window['port']}",
        *code_lines(window),
    ]


def not_offered_lines(window: WindowView) -> list[str]:
    """The methods whose library is missing on the device."""
    return [
        f"The method {method} is not offered: {reason}."
        for method, reason in window.get("not_offered", {}).items()
    ]


def client_command_lines(offered: Sequence[str]) -> list[str]:
    """For each method, the command on the client and what its user does then."""
    methods = sorted((one for one in Method if one in offered), key=_needs_option)
    rows = [_client_command(method, is_first=method is methods[0]) for method in methods]
    width = max((len(command) for command, _ in rows), default=0)
    return [f"{command:<{width}}  {step}" for command, step in rows]


def _needs_option(method: Method) -> bool:
    """Whether the client uses the method only with more on its command line; these come last."""
    return method is Method.LABEL or not method.spec.verifies_key


def _client_command(method: Method, *, is_first: bool) -> tuple[str, str]:
    """The command for a method, and what the client's user does then."""
    command = "handfast pair" if is_first else f"handfast pair --method {method}"
    match method:
        case Method.LABEL:
            return "handfast pair PICTURE", "give a photo of the label, or its text"
        case Method.CODE:
            return command, "type the code"
        case Method.SAS:
            return command, "compare six digits on both sides"
        case Method.COMPARE:
            return command, "compare all digits of both fingerprints"
        case Method.BUTTON:
            step = "no check; gives only the role guest"
            return "handfast pair --method button", step
        case _:
            assert_never(method)


def _mismatch(name: str) -> str:
    """The meaning of a wrong message of the client, by the name of the method."""
    method = Method.named(name)
    match method:
        case Method.LABEL:
            return "it does not have the token of this device's label"
        case Method.CODE:
            return "the code was wrong, or an attacker is in the middle"
        case Method.SAS | Method.COMPARE | Method.BUTTON | None:
            return "its confirmation was wrong; it may be an attacker"
        case _:
            assert_never(method)


def code_lines(window: WindowView) -> list[str]:
    """The code that the client asks for, on a line of its own; empty if there is none."""
    if "code" not in window:
        return []
    return ["", f"    code  {_bold(window['code'])}    (valid for one attempt)", ""]


def _bold(text: str) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if allows_colour(sys.stderr) else text


def failed_lines(ceremony: CeremonyView, *, failures: int) -> list[str]:
    """Why a client was not paired, and how many attempts are left.

    Args:
        ceremony: the failed attempt.
        failures: failed attempts of this window, with this one.
    """
    reason = ceremony.get("reason", "")
    if reason == EndReason.MISMATCH:
        why = _mismatch(ceremony["method"])
    else:
        why = _REASONS.get(reason) or f"it could not be stored here: {reason_in_words(reason)}"
    found = [f"{ceremony['name']!r} was not paired: {why}."]
    left = DEFAULT_LIMITS.window_failures - failures
    if left <= 0 or reason in _LAST_REASONS:
        return found
    return [*found, "1 attempt is left." if left == 1 else f"{left} attempts are left."]


def closed_lines(reason: str) -> list[str]:
    """Why the window closed, and how to try again; empty after a success."""
    return list(_CLOSE_REASONS.get(reason, ()))


def pending_lines(pending: Sequence[CeremonyView]) -> list[str]:
    """The clients that wait to be accepted, what to compare, and how to answer."""
    if not pending:
        return ["no client is waiting"]
    found = []
    for ceremony in pending:
        address = f", from {ceremony['address']}" if "address" in ceremony else ""
        found.append(
            f"{ceremony['id']}  {ceremony['name']!r} asks for the role {ceremony['role']}{address}"
        )
        if "number" in ceremony:
            found.append(f"  this device shows  {grouped(ceremony['number'])}")
        else:
            fingerprint = Fingerprint.parse(ceremony["fingerprint"])
            found += fingerprint_lines("  client's fingerprint  ", fingerprint)
    return [*found, *_answer_lines(pending)]


def _answer_lines(pending: Iterable[CeremonyView]) -> list[str]:
    ids = [ceremony["id"] for ceremony in pending]
    name = ids[0] if len(ids) == 1 else "ID"
    what = "six digits" if all("number" in one for one in pending) else "fingerprint, every digit"
    return [
        f"Does the client show the same {what}?",
        f"If it does: handfast-device accept {name}",
        f"If not:     handfast-device refuse {name}",
    ]


def lock_lines(window: WindowView) -> list[str]:
    """How long no client can pair because of failed attempts; empty if clients can."""
    if not (blocked := window.get("blocked_seconds")):
        return []
    return [
        f"After too many failed attempts, no client can pair for {format_duration(blocked)}.",
        "Paired clients are not affected. To end this now: handfast-device open",
    ]


def label_line(label: LabelState, *, is_possible: bool = True) -> str:
    """The state of the label.

    Args:
        label: its state.
        is_possible: the configuration says that the board has a label.
    """
    if not is_possible:
        return "none (the configuration says that the board has no label)"
    if not label["made"]:
        return "none (`handfast-device label` creates one)"
    if label["dead"]:
        return "its code is blocked (`handfast-device label --revive`), its QR code is not"
    return "created"
