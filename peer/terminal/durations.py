"""Parsing and formatting of durations and times.

A duration is `90`, `90s`, `500ms`, `2m`, `1h30m`, `2 d 4 h` or `1 week`; a number alone is seconds.
A time is a duration from now, a date, a date and time (in this machine's zone unless it names one),
or a number of seconds since 1970. Numbers that would be a time in 1970, such as `90`, are rejected
as times, since they are probably typing errors. The time 0 means no limit.

A number that can be meant as a date is never read as seconds: eight digits are a date, and an error
as a duration; 12 digits are an error. A local time that the change to summer time skips does not
exist, and one that the change back repeats is ambiguous; both are refused.
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

_DURATION_ADVICE: Final = "Examples: 90s, 2m, 1h30m, 2d."
_TIME_ADVICE: Final = f"Examples: {TIME_EXAMPLES}."
_SIZES: Final = {
    0.001: "ms msec",
    1.0: "s sec secs second seconds",
    60.0: "m min mins minute minutes",
    3600.0: "h hr hrs hour hours",
    86_400.0: "d day days",
    604_800.0: "w week weeks",
}
_UNITS: Final = MappingProxyType({name: size for size, s in _SIZES.items() for name in s.split()})
_PIECE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([a-z]+)(?: |$|(?=[0-9]))")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_DATE_DIGITS: Final = re.compile(r"[0-9]{8}")
_CLOCK: Final = re.compile(r".*[T ]([0-9]{2}):?([0-9]{2})(?::?([0-9]{2}))?.*", re.IGNORECASE)
_EARLIEST: Final = 1_000_000_000  # the smallest number that is read as a time: in 2001
_LATEST: Final = 9_999_999_999  # and the largest one: in 2286; more digits are a date and time
_MINUTE: Final = 60
_DAY: Final = timedelta(days=1)
_LAST_SECOND: Final = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last one with a date
_TOO_LATE: Final = (
    ": the latest time is 9999-12-31T23:59:59Z; where a limit can be removed, 0 does that"
)


def parse_duration(text: str) -> float:
    """Parse a duration; return seconds, more than 0. Raises `UsageError`."""
    plain = _plain(text).lower()
    if _DATE_DIGITS.fullmatch(plain):
        raise UsageError(
            f"{text!r} is not a duration: eight digits are read as a date",
            advice=f"Give a unit, as in {plain}s. {_DURATION_ADVICE}",
        )
    pieces = list(_PIECE.finditer(plain))
    seconds = 0.0
    if _NUMBER.fullmatch(plain):
        seconds = float(plain)
    elif "".join(one[0] for one in pieces) == plain and {one[2] for one in pieces} <= {*_UNITS}:
        seconds = sum(float(one[1]) * _UNITS[one[2]] for one in pieces)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise UsageError(
            f"{text!r} is not a duration{_hint(plain, is_duration=True)}", advice=_DURATION_ADVICE
        )
    return seconds


def parse_time(text: str, *, whole_day: bool = False) -> float | timedelta:
    """Parse a time; return seconds since 1970, or the duration from now.

    A date without a time of day is the start of that day, or its end with `whole_day`.

    Raises `UsageError`; its text says why a time of day does not exist or is ambiguous.
    """
    plain = _plain(text)
    number = float(plain) if _NUMBER.fullmatch(plain) else None
    if number == 0 or (number is not None and _EARLIEST <= number <= _LATEST):
        return number
    try:
        found = _calendar_time(plain, whole_day=whole_day)
        if found is not None and found > _LAST_SECOND:
            raise OverflowError
        if number is not None and found is None:
            raise UsageError("the number is neither a date nor a time")
        return timedelta(seconds=parse_duration(plain)) if found is None else found
    except _NoSuchTime as error:
        raise UsageError(f"{text!r} is not a time: {error}", advice=error.advice) from None
    except OverflowError:
        raise UsageError(f"{text!r} is not a time{_TOO_LATE}", advice=_TIME_ADVICE) from None
    except (UsageError, ValueError, OSError):
        why = _wrong_clock(plain) or _hint(plain.lower())
        raise UsageError(f"{text!r} is not a time{why}", advice=_TIME_ADVICE) from None


def resolve_time(time: float | timedelta, now: float) -> float:
    """Convert what `parse_time` returns to seconds since 1970; `now` likewise."""
    return now + time.total_seconds() if isinstance(time, timedelta) else time


def past_times(
    now: float, *, begin: float | timedelta | None = None, end: float | timedelta | None = None
) -> str:
    """Return a sentence about those of the times that have passed, for a question; else ''.

    The times are as `parse_time` returns them. No limit (0) and None have not passed.
    """
    found = [
        f"Access would {verb} in the past: {format_time_from(time, now)}."
        for verb, time in (("begin", begin), ("end", end))
        if time and not isinstance(time, timedelta) and time <= now
    ]
    return " ".join(found)


def _hint(text: str, *, is_duration: bool = False) -> str:
    from peer.terminal.time_spellings import hint  # noqa: PLC0415 - only an error needs it

    return hint(text, is_duration=is_duration)


class _NoSuchTime(UsageError):
    """A local time that does not exist, or that exists twice."""


def _plain(text: str) -> str:
    if not text.isascii():
        from peer.pasted import in_words  # noqa: PLC0415 - most texts are ASCII

        text = in_words(text)
    return " ".join(text.split())


def _calendar_time(text: str, *, whole_day: bool) -> float | None:
    """None if the text is not a date, or if it is a week."""
    if "W" in text.upper():
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        if _wrong_clock(text):  # some versions of Python read 24:00 as the next day
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return _local_time(moment) if moment.tzinfo is None else moment.timestamp()
    if whole_day and day == date.max:  # the next day has no date
        return _LAST_SECOND
    day += timedelta(days=int(whole_day))
    return _local_time(datetime.fromisoformat(day.isoformat()), is_date=True)


def _local_time(moment: datetime, *, is_date: bool = False) -> float:
    """Seconds since 1970 of a local time. Raises `_NoSuchTime` if there is not exactly one.

    With `is_date`, midnight stands for the first moment of the day, which always exists.
    """
    if moment.date() == date.max:  # Python cannot look at the day after it
        return _local_time(moment - 2 * _DAY, is_date=is_date) + 2 * _DAY.total_seconds()
    before, after = moment.astimezone(), moment.replace(fold=1).astimezone()
    if before.utcoffset() == after.utcoffset():
        return before.timestamp()
    if before.replace(tzinfo=None, fold=0) == moment:
        if is_date:
            return before.timestamp()
        raise _NoSuchTime(
            "the clocks are set back then, so it happens twice",
            advice=f"Give the offset: {before.isoformat()} or {after.isoformat()}.",
        )
    change = _change_of_offset(*sorted((before.timestamp(), after.timestamp())))
    if is_date:
        return float(change)
    last = datetime.fromtimestamp(change - _MINUTE, UTC).astimezone()
    first = datetime.fromtimestamp(change, UTC).astimezone()
    raise _NoSuchTime(
        "the clocks are set forward then, so it does not exist",
        advice=f"The nearest times are {_minutes(last)} and {_minutes(first)}.",
    )


def _change_of_offset(early: float, late: float) -> int:
    """The first second with the offset of `late`; there is one change between the two."""
    low, high = int(early), int(late)
    wanted = datetime.fromtimestamp(high, UTC).astimezone().utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone().utcoffset() == wanted:
            high = middle
        else:
            low = middle
    return high


def _minutes(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M")


def _wrong_clock(text: str) -> str:
    """Say which part of a time of day is out of range; empty if none is."""
    if (clock := _CLOCK.fullmatch(text)) is None:
        return ""
    hour, minute, second = (int(part or 0) for part in clock.groups())
    if hour == 24:
        return ": the hour 24 is 00:00 of the next day"
    if hour > 24 or minute > 59:
        return ": hours go from 00 to 23, minutes from 00 to 59"
    return ": seconds go from 00 to 59" if second > 59 else ""


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
