"""What a person at the device reads about pairing: what to do, what happened, what is left."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from device_app.durations import spoken
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.pairing import methods
from peer.pairing.sas import grouped
from peer.pairing.window_timer import CloseReason

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"

_ASKED: Final[Mapping[str, str]] = {
    methods.CODE: "type the code",
    methods.SAS: "compare six digits on both sides",
    methods.COMPARE: "compare both fingerprints, all their digits",
}
"""What the client's user does, for the methods that a client takes by itself, the best first."""

_WRONG: Final[Mapping[str, str]] = {
    methods.CODE: "the code was wrong, or somebody is in between",
    methods.LABEL: "it did not have the token of this device's label",
}
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
    left = spoken(window["seconds_left"])
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
    rows: list[tuple[str, str]] = []
    for name in (one for one in _ASKED if one in offered):
        rows.append((f"handfast pair{f' --method {name}' if rows else ''}", _ASKED[name]))
    if methods.LABEL in offered:
        rows.append(("handfast pair PICTURE", "a photo, or the text, of the label"))
    if methods.BUTTON in offered:
        told = "nothing: who is first is an unverified guest"
        rows.append(("handfast pair --method button", told))
    wide = max((len(typed) for typed, _ in rows), default=0)
    return [f"{typed:<{wide}}  {told}" for typed, told in rows]


def code_lines(window: Mapping[str, Any]) -> list[str]:
    """The code that the client asks for: big, or at least alone."""
    if "code" not in window:
        return []
    return ["", f"    code  {_bold(str(window['code']))}    (for one try)", ""]


def _bold(text: str) -> str:
    plain = not sys.stderr.isatty() or os.environ.get("NO_COLOR")
    return text if plain or os.environ.get("TERM", "dumb") == "dumb" else f"{_BOLD}{text}{_PLAIN}"


def ended_lines(ceremony: Mapping[str, Any], *, failures: int) -> list[str]:
    """A ceremony that came to nothing, and how many more its window stands; `failures` with it."""
    reason = ceremony.get("reason", "")
    why = _ENDINGS.get(reason) or f"it could not be stored here ({reason})"
    if reason == "mismatch":
        other = "its confirmation was wrong; somebody may be in between"
        why = _WRONG.get(ceremony["method"], other)
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
            found += halves("  its fingerprint    ", Fingerprint.parse(one["fingerprint"]))
    digits = all("number" in one for one in pending)
    asked = "the same six digits" if digits else "the same, digit by digit"
    named = pending[0]["id"] if len(pending) == 1 else "ID"
    answer = f"If so, `handfast-device accept {named}`; if not, `refuse {named}`."
    return [*found, f"Does the client show {asked}?", answer]


def halves(before: str, fingerprint: Fingerprint) -> list[str]:
    """A fingerprint on two lines, so that no terminal breaks it where it likes."""
    groups = fingerprint.grouped.split()
    return [f"{before}{' '.join(groups[:8])}", f"{' ' * len(before)}{' '.join(groups[8:])}"]


def lock_lines(window: Mapping[str, Any]) -> list[str]:
    """For how long nobody can pair, in plain words; nothing if anybody can."""
    if not (blocked := window.get("blocked_seconds")):
        return []
    return [
        f"Too many tries have failed: nobody can pair for {spoken(blocked)}.",
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
