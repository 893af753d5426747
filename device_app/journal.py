"""Facts for the audit trail: when, on which boot, and not too often.

The one place of the daemon that reads the system's clocks.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iam.audit import Event

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEYS = 256
_HOUR = 3600.0


def wall_clock() -> float:
    """Seconds since 1970; on a board it may be wrong and may jump."""
    return time.time()  # noqa: TID251  # the app's one reading, handed on as an argument


def boot_clock() -> float:
    """Seconds since the boot, also those that the machine slept; nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's id of this start of the machine, or nothing where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Damper:
    """Lets through what strangers cause, but never so much that it pushes anything else out.

    Two bounds: one thing (`key`) once in `seconds`, and everything together `burst` at once and
    then `per_hour`. Whoever has many keys and addresses still meets the second. What is held back
    is counted, and the count goes with the next one that gets through.
    """

    def __init__(
        self, seconds: float, *, burst: int = 20, per_hour: float = 20.0, most: int = _KEYS
    ) -> None:
        self._seconds = seconds
        self._burst = float(burst)
        self._per_second = per_hour / _HOUR
        self._most = most
        self._last: OrderedDict[object, float] = OrderedDict()
        self._tokens = self._burst
        self._filled: float | None = None
        self._dropped = 0

    def admit(self, key: object, now: float) -> int | None:
        """None if this one is too many; else how many were held back since the last."""
        last = self._last.get(key)
        if (last is not None and now - last < self._seconds) or not self._takes_token(now):
            self._dropped += 1
            return None
        self._last.pop(key, None)
        self._last[key] = now
        while len(self._last) > self._most:
            self._last.popitem(last=False)
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _takes_token(self, now: float) -> bool:
        since = now - (now if self._filled is None else self._filled)
        self._filled = now
        self._tokens = min(self._burst, self._tokens + since * self._per_second)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Journal:
    """Makes events; whoever commits them decides with what."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = wall_clock,
        monotonic: Callable[[], float] = boot_clock,
        boot: str | None = None,
    ) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self._boot = boot_id() if boot is None else boot

    def event(self, kind: str, **fields: Any) -> Event:
        """An event of now, with the system's time as it is. Fields are those of
        `iam.audit.Event`; never a secret."""
        return Event(
            kind=kind, boot=self._boot, monotonic=self.monotonic(), wall=self.wall(), **fields
        )
