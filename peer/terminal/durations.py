"""Parsing and formatting of durations and times.

A duration is `90`, `90s`, `500ms`, `2m`, `2min`, `1h30m` or `2d`; a number alone is seconds. A time
is a duration from now, a date, a date and time (in this machine's zone unless it names one), or a
number of seconds since 1970. Numbers that would be a time in 1970, such as `90`, are rejected as
times, since they are probably typing errors. The time 0 means no limit.
"""

import re
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

from peer.errors import UsageError

TIME_EXAMPLES: Final = (
    "2d (from now), 2030-12-24, 2030-12-24T18:00 (local time), or seconds since 1970"
)
"""Examples of times, for the help of an option."""

LONGEST_SECONDS: Final = 100 * 366 * 86_400.0
"""The longest duration that is accepted: a hundred years."""

_UNITS: Final = MappingProxyType(
    {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
)
_PIECE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|min|[smhd])")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_EARLIEST: Final = 1_000_000_000  # the smallest number that is read as a time: in 2001
_LATEST: Final = 253_402_300_799  # the last second of the year 9999


def parse_duration(text: str) -> float:
    """Parse a duration; return seconds, more than 0. Raises `UsageError`."""
    plain = text.strip().lower()
    pieces = _PIECE.findall(plain)
    if _NUMBER.fullmatch(plain):
        seconds = float(plain)
    elif "".join(map("".join, pieces)) == plain:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    else:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_SECONDS:
        raise UsageError(f"{text!r} is not a duration", advice="Examples: 90s, 2m, 1h30m, 2d.")
    return seconds


def parse_time(text: str, *, whole_day: bool = False) -> float | timedelta:
    """Parse a time; return seconds since 1970, or the duration from now.

    A date without a time of day is the start of that day, or its end with `whole_day`.

    Raises `UsageError`.
    """
    plain = text.strip()
    number = float(plain) if _NUMBER.fullmatch(plain) else None
    if number == 0 or (number is not None and _EARLIEST <= number <= _LATEST):
        return number
    try:
        found = _calendar_time(plain, whole_day=whole_day)
        if number is not None and found is None:
            raise UsageError("the number is neither a date nor a time")
        return timedelta(seconds=parse_duration(plain)) if found is None else found
    except (UsageError, ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a time", advice=f"Examples: {TIME_EXAMPLES}.") from None


def resolve_time(time: float | timedelta, now: float) -> float:
    """Convert what `parse_time` returns to seconds since 1970; `now` likewise."""
    return now + time.total_seconds() if isinstance(time, timedelta) else time


def _calendar_time(text: str, *, whole_day: bool) -> float | None:
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


def format_duration(seconds: float) -> str:
    """Format a duration, rounded: `45 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    rest = round(seconds)
    for least, step in ((3600, 60), (86_400, 3600)):  # not `23 h 59 min` one second after `1 d`
        if rest > least - step / 2:
            rest = round(rest / step) * step
    for unit, size, smaller, small in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if rest >= size:
            more = rest % size // small
            return f"{rest // size} {unit}" + (f" {more} {smaller}" if more else "")
    return f"{rest} s"


def format_time(seconds: float, *, with_seconds: bool = False) -> str:
    """Format seconds since 1970 in this machine's zone: `2030-12-24 18:00 +0100`."""
    return _formatted(seconds, f"%Y-%m-%d %H:%M{':%S' * with_seconds} %z", is_local=True)


def format_time_utc(seconds: float) -> str:
    """Format seconds since 1970 for a record that is read anywhere: `2030-12-24T17:00:00Z`."""
    return _formatted(seconds, "%Y-%m-%dT%H:%M:%SZ", is_local=False)


def format_time_from(seconds: float, now: float) -> str:
    """Format a time with its distance from `now`: `2030-12-24 18:00 +0100 (in 2 d 4 h)`."""
    away = seconds - now
    distance = f"in {format_duration(away)}" if away >= 0 else f"{format_duration(-away)} ago"
    return f"{format_time(seconds)} ({distance})"


def _formatted(seconds: float, form: str, *, is_local: bool) -> str:
    try:
        there = datetime.fromtimestamp(seconds, UTC)
        return (there.astimezone() if is_local else there).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since 1970"
