"""Parsing and printing of durations and moments.

A duration is `90`, `90s`, `500ms`, `2m`, `1h30m` or `2d`. A moment is a duration from now, a date
or a date and time (in this machine's zone unless it names one), or a number of seconds since 1970.
Numbers that would be seconds in 1970, such as `90` and `20271301`, are rejected as moments. 0 means
no limit.
"""

import re
import time
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

import click

from peer.errors import UsageError

_UNITS: Final = MappingProxyType(
    {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
)
_PIECE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|min|[smhd])")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_LONGEST: Final = 100 * 366 * _UNITS["d"]
_EARLIEST: Final = 1_000_000_000  # the smallest number that is read as a moment: in 2001
_LATEST: Final = 253_402_300_799  # the last second of the year 9999

MOMENTS: Final = "2d (from now), 2030-12-24, 2030-12-24T18:00, or seconds since 1970"


def wall_clock() -> float:
    """Seconds since 1970 by this machine's clock, which may be wrong: no decision depends on it."""
    return time.time()  # noqa: TID251 - the app's one reading


def duration(text: str) -> float:
    """Parse a duration; return seconds, more than 0. Raises `UsageError`."""
    plain = text.strip().lower()
    pieces = _PIECE.findall(plain)
    if _NUMBER.fullmatch(plain):
        seconds = float(plain)
    elif "".join(map("".join, pieces)) == plain:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    else:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"{text!r} is not a duration", advice="Examples: 90s, 2m, 1h30m, 2d.")
    return seconds


def moment(text: str, *, whole_day: bool = False) -> float | timedelta:
    """Parse a moment; return seconds since 1970, or the time from now by the device's clock.

    A date without a time is the start of that day, or its end with `whole_day`.

    Raises `UsageError`.
    """
    plain = text.strip()
    number = float(plain) if _NUMBER.fullmatch(plain) else None
    if number == 0 or (number is not None and _EARLIEST <= number <= _LATEST):
        return number
    try:
        found = _of_calendar(plain, whole_day=whole_day)
        if number is not None and found is None:
            raise UsageError("the number is neither a date nor a time")
        return timedelta(seconds=duration(plain)) if found is None else found
    except (UsageError, ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a time", advice=f"Examples: {MOMENTS}.") from None


def _of_calendar(text: str, *, whole_day: bool) -> float | None:
    """None if the text is not a date."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).astimezone().timestamp()
        except ValueError:
            return None
    day += timedelta(days=int(whole_day))
    return datetime.fromisoformat(day.isoformat()).astimezone().timestamp()


def shown(seconds: float) -> str:
    """Format a moment in this machine's zone: `2030-12-24 18:00 +0100`."""
    try:
        there = datetime.fromtimestamp(seconds, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} (seconds since 1970)"
    return there.strftime("%Y-%m-%d %H:%M %z")


class Seconds(click.ParamType[float]):
    """The type of an option that is a duration, `longest` seconds at most."""

    name = "duration"

    def __init__(self, longest: float = _LONGEST) -> None:
        self._longest = longest

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds, or fail with a usage error."""
        try:
            seconds = duration(str(value))
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
        if seconds > self._longest:
            self.fail(f"{value!r} is more than {self._longest:.0f} s", param, ctx)
        return seconds


class Moment(click.ParamType[float | timedelta]):
    """The type of an option that is a moment; `whole_day` as in `moment`."""

    name = "time"

    def __init__(self, *, whole_day: bool = False) -> None:
        self._whole_day = whole_day

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | timedelta:
        """Return what `moment` returns, or fail with a usage error."""
        try:
            return moment(str(value), whole_day=self._whole_day)
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
