"""Device time: what limits of access and `Clock:Now` are compared with. It never runs backwards.

The clock of a board may start in 1970 and may be set to any value at any moment. Setting it back
must not extend an access that is limited in time, so the device keeps a floor: the latest time that
it has seen. The floor advances with a clock that cannot be set, and is stored with every commit and
once an hour. A power cut on a board that starts in 1970 extends an access by an hour at most.
Device time is the system's time, or the floor where the system's time is behind it.

If the system's clock is once set too far ahead, the floor follows it: access that is limited in
time ends, and the time counts as not known until someone at the device runs
`clock --trust-system`. `Clock.trouble` reports this, and also a jump ahead by more than a year,
which is right for a board that was switched off and wrong for most others. How long a board without
a clock was without power cannot be known; that time does not count.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from device_app.errors import AppError
from device_app.limits import CLOCK_BEHIND_SECONDS, CLOCK_JUMP_SECONDS, CLOCK_KEEP_SECONDS
from iam.attributes import CLOCK
from peer.terminal.durations import format_time_utc

_log = logging.getLogger("handfast.clock")
#: The kernel's file with the ID of this start of the machine. A sandbox may hide it.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: A system clock that shows a time before this software was written has not been set.
PLAUSIBLE_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
CLOCK_ADVICE: Final = "If the system's clock is right now: `handfast-device clock --trust-system`."


#: The system's time in seconds since 1970; on a board it may be wrong and may jump.
wall_clock: Final[Callable[[], float]] = time.time  # noqa: TID251 - passed on as an argument
#: Seconds since the boot, including those that the machine slept; it cannot be set.
boot_clock: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's ID of this start of the machine, or nothing where there is none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class SystemClocks:
    """The machine's two clocks, in seconds, and the ID of its start."""

    wall: Callable[[], float] = wall_clock
    monotonic: Callable[[], float] = boot_clock
    boot_id: str = field(default_factory=boot_id)


class Clock:
    """Device time in seconds since 1970. `floor` is the latest time that was stored, or 0."""

    def __init__(self, clocks: SystemClocks, *, floor: float = 0.0) -> None:
        self.wall = clocks.wall
        self.monotonic = clocks.monotonic
        self._floor = floor
        self._since = self.monotonic()
        self._jump: tuple[float, float] | None = None
        self._logged_trouble = ""

    def now(self) -> float:
        """The device's time; never less than at an earlier call."""
        wall, at = self.wall(), self.monotonic()
        running = self._floor + (at - self._since)
        if wall < running:
            return running
        if wall - running > CLOCK_JUMP_SECONDS and running >= PLAUSIBLE_FROM:
            self._jump = running, wall
        self._floor, self._since = wall, at
        return wall

    @property
    def known(self) -> bool:
        """Whether the system's clock is believed: it has been set, and is not behind the floor."""
        return _is_believed(self.wall(), self.now())

    def attributes(self) -> dict[str, str]:
        """`Clock:Now` for a decision, or nothing while the time is not known."""
        wall, now = self.wall(), self.now()
        return {CLOCK: str(int(now))} if _is_believed(wall, now) else {}

    @property
    def trouble(self) -> str:
        """Why limited access may begin or end too early; empty if there is no sign of that."""
        wall, now = self.wall(), self.now()
        if wall >= PLAUSIBLE_FROM and now - wall > CLOCK_BEHIND_SECONDS:
            return (
                f"the device's time is {format_time_utc(now)}, ahead of the system's, "
                f"{format_time_utc(wall)}: access periods follow the device's time"
            )
        if self._jump is not None:
            before, after = map(format_time_utc, self._jump)
            return f"the time went ahead from {before} to {after} at once"
        return ""

    def log_trouble(self) -> None:
        """Log `trouble`, once until it has gone."""
        before, self._logged_trouble = self._logged_trouble, self.trouble
        if self._logged_trouble and not before:
            _log.warning("%s. %s", self._logged_trouble, CLOCK_ADVICE)

    def system_time(self) -> float:
        """The system's time, for a person who confirms that it is right.

        Raises:
            AppError: the system's clock has plainly not been set.
        """
        wall = self.wall()
        if wall < PLAUSIBLE_FROM:
            raise AppError(
                "the system's clock is not set either", advice="Set it first, then trust it."
            )
        return wall

    def restart(self, now: float) -> None:
        """Start again from this time, even if it is earlier."""
        self._floor, self._since = now, self.monotonic()
        self._jump = None


def _is_believed(wall: float, now: float) -> bool:
    return wall >= PLAUSIBLE_FROM and now - wall <= CLOCK_BEHIND_SECONDS


class TimeKeeper:
    """Calls `keep` periodically, and once more at the end. Created inside a running loop."""

    def __init__(self, keep: Callable[[], None], *, seconds: float = CLOCK_KEEP_SECONDS) -> None:
        self._keep = keep
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._turn)

    def _turn(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._turn)
        self._keep()

    def close(self) -> None:
        """Call `keep` a last time and stop."""
        self._timer.cancel()
        self._keep()
