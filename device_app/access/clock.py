"""The device's time: what users' limits and `Clock:Now` go by. It never runs backwards.

A board may start in 1970, and its clock may be set at any moment, to anything. Whoever can turn a
clock back would prolong every limited access, so the device keeps a floor: the latest time it has
seen, which goes on by a clock that nobody can set and is stored with every commit and every hour.
A power cut on a board that starts in 1970 can so be worth an hour, and no more.
Device time is the system's time, or the floor where the system's time is behind it.

The price: a clock that was once set too far ahead drags the floor along. Then limited users are
out, the time counts as not known, and a person at the board says `clock --trust-system`; `trouble`
says so, and also that the time has just gone ahead by more than a year, which is right for a board
that was switched off and wrong for most others. What cannot be known is how long a board without a
clock was without power; that time does not count.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from device_app.durations import in_utc
from device_app.errors import AppError

#: A system clock from before this software was written is not set.
PLAUSIBLE_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
BEHIND_SECONDS: Final = 120.0  # a clock that was put right by so little is still believed
LEAP_SECONDS: Final = 366 * 86_400.0  # nobody's clock goes ahead so far at once without a reason
KEEP_SECONDS: Final = 600.0  # how often the store is asked whether an hour has come together


class Clock:
    """Device time in seconds since 1970. `wall` may jump, `monotonic` must not; `floor` is the
    latest time that was stored (0: nothing was)."""

    def __init__(
        self,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        floor: float = 0.0,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._floor = floor
        self._since = monotonic()
        self._leap: tuple[float, float] | None = None

    def now(self) -> float:
        """The device's time; never less than at an earlier call."""
        wall, at = self._wall(), self._monotonic()
        running = self._floor + (at - self._since)
        if wall < running:
            return running
        if running >= PLAUSIBLE_FROM and wall - running > LEAP_SECONDS:
            self._leap = running, wall
        self._floor, self._since = wall, at
        return wall

    @property
    def known(self) -> bool:
        """Whether the system's clock can be believed: it is set, and not behind what we saw."""
        wall = self._wall()
        return wall >= PLAUSIBLE_FROM and self.now() - wall <= BEHIND_SECONDS

    @property
    def trouble(self) -> str:
        """Why users' limits of time may end or begin too early; empty if nothing says so."""
        wall, now = self._wall(), self.now()
        if wall >= PLAUSIBLE_FROM and now - wall > BEHIND_SECONDS:
            return (
                f"the device's time is {in_utc(now)}, ahead of the system's, {in_utc(wall)}: "
                "limits of time go by the device's"
            )
        if self._leap is not None:
            before, after = self._leap
            return f"the time went ahead from {in_utc(before)} to {in_utc(after)} at once"
        return ""

    def system_time(self) -> float:
        """The system's time, for a person who says that it is right. Raises `AppError` while it is
        plainly not set."""
        wall = self._wall()
        if wall < PLAUSIBLE_FROM:
            raise AppError(
                "the system's clock is not set either", advice="Set it first, then trust it."
            )
        return wall

    def restart(self, now: float) -> None:
        """Begin anew from this time, backwards too."""
        self._floor, self._since = now, self._monotonic()
        self._leap = None


class TimeKeeper:
    """Calls `keep` now and then, and once more at the end. Made inside a running loop."""

    def __init__(self, keep: Callable[[], None], *, seconds: float = KEEP_SECONDS) -> None:
        self._keep = keep
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._turn)

    def _turn(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._turn)
        self._keep()

    def stop(self) -> None:
        """Keep once more, and then no more."""
        self._timer.cancel()
        self._keep()
