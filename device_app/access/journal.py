"""Facts for the audit trail: when, and on which boot.

The one place of the daemon that reads the system's clocks.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iam.audit import Event

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
