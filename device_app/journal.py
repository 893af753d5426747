"""Facts for the audit trail: when, on which boot, and not too often.

The one place of the daemon that reads the wall clock.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iam.audit import Event

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEYS = 256


def wall_clock() -> float:
    """Seconds since 1970; on a board it may be wrong and may jump."""
    return time.time()  # noqa: TID251  # the app's one reading, handed on as an argument


def boot_id() -> str:
    """The kernel's id of this start of the machine, or nothing where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Damper:
    """At most one of a kind per `seconds`, for a bounded number of kinds; counts what it drops."""

    def __init__(self, seconds: float, *, most: int = _KEYS) -> None:
        self._seconds = seconds
        self._most = most
        self._last: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def admit(self, key: object, now: float) -> int | None:
        """None if this one is too many; else how many were dropped since the last."""
        last, dropped = self._last.get(key, (None, 0))
        if last is not None and now - last < self._seconds:
            self._last[key] = (last, dropped + 1)
            return None
        self._last.pop(key, None)
        self._last[key] = (now, 0)
        while len(self._last) > self._most:
            self._last.popitem(last=False)
        return dropped


class Journal:
    """Makes events; whoever commits them decides with what."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = wall_clock,
        monotonic: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self._boot = boot_id() if boot is None else boot

    def event(self, kind: str, **fields: Any) -> Event:
        """An event of now. Fields are those of `iam.audit.Event`; never a secret."""
        return Event(
            kind=kind, boot=self._boot, monotonic=self.monotonic(), wall=self.wall(), **fields
        )
