"""The state of the device in one word, for displays and scripts (`watch`).

`state_of` decides by facts and the time alone. `state_tracker` collects the facts in the daemon.
All times are monotonic seconds.
"""

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from device_app.limits import PAIRED_SHOWN_SECONDS, REFUSED_SHOWN_SECONDS
from peer.pairing.ceremony import EndReason

REFUSALS: Final = frozenset({EndReason.OVERLAP, EndReason.MISMATCH, EndReason.REFUSED})
"""The endings of an attempt that the device's user should know: it may have been an attack."""

_NUMBER: Final = re.compile(r"\d+")


@unique
class DeviceState(StrEnum):
    """The states of a device; the first that applies is its state."""

    TROUBLE = "trouble"  # `health` reports a problem
    ASKING = "asking"  # a client waits for the answer of the device's user
    WORKING = "working"  # a client is pairing, and the device waits for it
    REFUSED = "refused"  # the last attempt ended in one of `REFUSALS`
    PAIRED = "paired"  # a client has just paired
    BLOCKED = "blocked"  # no client can start to pair: the back-off
    OPEN = "open"  # the pairing window is open
    IDLE = "idle"
    STOPPED = "stopped"  # no daemon is running; a command that watches tells this


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWindow:
    """The pairing window while it is open; `code` is the one that the device shows."""

    closes_at: float
    role: str
    methods: tuple[str, ...]
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The client that is pairing. `is_asking`: it waits for the answer of the device's user."""

    id: str
    name: str
    role: str
    method: str
    fingerprint: str
    ends_at: float
    is_asking: bool
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of the last attempt: with success, or for one of `REFUSALS`."""

    at: float
    reason: str = ""  # empty for a success
    name: str = ""
    role: str = ""
    method: str = ""

    @property
    def shown_until(self) -> float:
        """The time until which it is the state of the device, if nothing else happens."""
        return self.at + (REFUSED_SHOWN_SECONDS if self.reason else PAIRED_SHOWN_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that decides about the state.

    `ending` is that of the last attempt since a window was opened or extended: the person who did
    that has seen how the attempts before had ended.
    """

    problems: tuple[str, ...] = ()
    attempt: Attempt | None = None
    ending: Ending | None = None
    blocked_until: float = -math.inf
    window: OpenWindow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """The state of the device, and what a display shows with it; texts that do not apply are empty.

    Attributes:
        state: the state.
        pairing: the state without regard to problems: a device in trouble can still pair.
        ends_at: when `pairing` ends by itself; None if it does not.
        problems: those of `health`; a text in which only a number differs is the same problem.
        role: the role of a client that pairs, or has paired.
        methods: the methods of the open window.
        code: the code that the device shows in it.
        id: the attempt, to accept or refuse it.
        name: the client that is pairing, or whose attempt has ended.
        method: the method of that attempt.
        fingerprint: what the device's user compares if there is no number.
        number: what the device's user compares.
        reason: why the attempt ended, if it was refused.
    """

    state: DeviceState
    pairing: DeviceState
    ends_at: float | None = None
    problems: tuple[str, ...] = field(default=(), compare=False)
    problem_kinds: tuple[str, ...] = ()
    role: str = ""
    methods: tuple[str, ...] = ()
    code: str = ""
    id: str = ""
    name: str = ""
    method: str = ""
    fingerprint: str = ""
    number: str = ""
    reason: str = ""


def state_of(facts: Facts, now: float) -> WatchState:
    """Return the state of the device at a time."""
    pairing, ends_at = _pairing(facts, now)
    attempt, ending = facts.attempt, facts.ending
    window = facts.window if facts.window is not None and now < facts.window.closes_at else None
    is_asking = pairing is DeviceState.ASKING
    is_live = is_asking or pairing is DeviceState.WORKING
    has_ended = pairing in {DeviceState.REFUSED, DeviceState.PAIRED}
    about = attempt if is_live else ending if has_ended else None
    role = about.role if about is not None else ""
    return WatchState(
        state=DeviceState.TROUBLE if facts.problems else pairing,
        pairing=pairing,
        ends_at=ends_at,
        problems=facts.problems,
        # The problem of the clock, for example, contains the time.
        problem_kinds=tuple(_NUMBER.sub("0", problem) for problem in facts.problems),
        role=role or (window.role if window is not None else ""),
        methods=window.methods if window is not None else (),
        code=window.code if window is not None else "",
        id=attempt.id if attempt is not None and is_live else "",
        name=about.name if about is not None else "",
        method=about.method if about is not None else "",
        fingerprint=attempt.fingerprint if attempt is not None and is_asking else "",
        number=attempt.number if attempt is not None and is_asking else "",
        reason=ending.reason if ending is not None and has_ended else "",
    )


def _pairing(facts: Facts, now: float) -> tuple[DeviceState, float | None]:
    """Return the state of pairing, and when it ends by itself."""
    attempt, ending, window = facts.attempt, facts.ending, facts.window
    if attempt is not None:
        state = DeviceState.ASKING if attempt.is_asking else DeviceState.WORKING
        return state, attempt.ends_at
    if ending is not None and now < ending.shown_until:
        state = DeviceState.REFUSED if ending.reason else DeviceState.PAIRED
        return state, ending.shown_until
    if now < facts.blocked_until:
        return DeviceState.BLOCKED, facts.blocked_until
    if window is not None and now < window.closes_at:
        return DeviceState.OPEN, window.closes_at
    return DeviceState.IDLE, None
