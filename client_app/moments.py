"""Durations and moments, as people type them and as people read them.

A duration is `90`, `90s`, `500ms`, `2m`, `1h30m` or `2d`. A moment is a duration from now, a day or
a day and a time (of this machine's zone, unless it names one), or a number of seconds since 1970.
`90` and `20271301` are no moments: as seconds since 1970 nobody means them. 0 stands for no limit.
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
_EARLIEST: Final = 1_000_000_000  # of a bare number that is a moment: in 2001
_LATEST: Final = 253_402_300_799  # the last second of the year 9999

MOMENTS: Final = "2d (from now), 2030-12-24, 2030-12-24T18:00, or seconds since 1970"


def wall_clock() -> float:
    """Seconds since 1970 by this machine, which may be wrong: never a reason to trust or refuse."""
    return time.time()  # noqa: TID251 - the app's one reading


def duration(text: str) -> float:
    """Seconds, more than none. Raises `UsageError`."""
    plain = text.strip().lower()
    pieces = _PIECE.findall(plain)
    if _NUMBER.fullmatch(plain):
        seconds = float(plain)
    elif "".join(map("".join, pieces)) == plain:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    else:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"{text!r} is not a duration", advice="Write 90s, 2m, 1h30m or 2d.")
    return seconds


def moment(text: str, *, whole_day: bool = False) -> float | timedelta:
    """Seconds since 1970, or how long from now: which now that is, the device knows.

    A day alone is its beginning, or with `whole_day` its end. Raises `UsageError`.
    """
    plain = text.strip()
    number = float(plain) if _NUMBER.fullmatch(plain) else None
    if number == 0 or (number is not None and _EARLIEST <= number <= _LATEST):
        return number
    try:
        found = _of_calendar(plain, whole_day=whole_day)
        if number is not None and found is None:
            raise UsageError("a number that is neither a day nor a time of this century")
        return timedelta(seconds=duration(plain)) if found is None else found
    except (UsageError, ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a moment", advice=f"Write {MOMENTS}.") from None


def _of_calendar(text: str, *, whole_day: bool) -> float | None:
    """None for what is no date."""
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
    """A moment for a person, in this machine's zone: `2030-12-24 18:00 +0100`."""
    try:
        there = datetime.fromtimestamp(seconds, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} (seconds since 1970)"
    return there.strftime("%Y-%m-%d %H:%M %z")


class Seconds(click.ParamType[float]):
    """An option that is a duration, at most `longest` seconds."""

    name = "duration"

    def __init__(self, longest: float = _LONGEST) -> None:
        self._longest = longest

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, or a usage error."""
        try:
            seconds = duration(str(value))
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
        if seconds > self._longest:
            self.fail(f"{value!r} is longer than {self._longest:.0f} s", param, ctx)
        return seconds


class Moment(click.ParamType[float | timedelta]):
    """An option that is a moment; `whole_day` if it is an end."""

    name = "time"

    def __init__(self, *, whole_day: bool = False) -> None:
        self._whole_day = whole_day

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | timedelta:
        """Seconds since 1970 or a time from now, or a usage error."""
        try:
            return moment(str(value), whole_day=self._whole_day)
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
