"""Times as people write them and read them.

Durations: `90`, `90s`, `2m`, `1h30m`, `2d`. Moments: a duration from now, a date with or without a
time of day (in the machine's own time zone, unless it names one), or seconds since 1970. A moment
of `90` or `20271301` is refused: as seconds since 1970 nobody means it. 0 stands for no limit.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from peer.errors import UsageError

#: What a moment may look like, for the help of an option.
MOMENTS: Final = "2d (from now), 2026-12-24, 2026-12-24T18:00 (local time), or seconds since 1970."

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_EARLIEST = 1_000_000_000  # of a bare number that is a moment: in 2001
_LATEST = 253_402_300_799  # the last second of the year 9999, as far as dates are written


def seconds_of(text: str) -> float:
    """Seconds of a duration; a bare number is seconds. Raises `UsageError`."""
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not text or _PARTS.sub("", text):
        raise UsageError(f"{text!r} is not a time", advice="Write 90s, 2m, 1h30m or 2d.")
    return sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))


def moment_of(text: str, now: float, *, whole_day: bool = False) -> float:
    """Seconds since 1970 of a moment; `now` likewise. Raises `UsageError`.

    A date alone is its beginning; with `whole_day`, as for an end, the day still counts.
    """
    text = text.strip()
    number = float(text) if _NUMBER.fullmatch(text) else None
    if number == 0 or (number is not None and _EARLIEST <= number <= _LATEST):
        return number
    try:
        found = _on_the_calendar(text, whole_day=whole_day)
        if number is not None and found is None:
            raise UsageError("a number that is neither a date nor a time of this century")
        return now + seconds_of(text) if found is None else found
    except (UsageError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is not a point in time", advice=f"Write {MOMENTS}") from error


def _on_the_calendar(text: str, *, whole_day: bool) -> float | None:
    """None if this is no date. A date without a zone is one of this machine's zone."""
    try:
        day = date.fromisoformat(text) + timedelta(days=1 if whole_day else 0)
    except ValueError:
        pass
    else:
        return datetime(day.year, day.month, day.day).astimezone().timestamp()
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        return None


def dated(moment: float, form: str = "%Y-%m-%d %H:%M:%S %z") -> str:
    """A moment for a person, in the machine's zone: `2026-12-24 18:00:00 +0100`."""
    if not 0 <= moment <= _LATEST:
        return f"{moment:.0f} s since 1970"
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime(form)


def in_utc(moment: float) -> str:
    """A moment for a record that is read anywhere: `2026-12-24T17:00:00Z`."""
    if not 0 <= moment <= _LATEST:
        return f"{moment:.0f} s since 1970"
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dated_shortly(moment: float) -> str:
    """The same to the minute, for a list: `2026-12-24 18:00`."""
    return dated(moment, "%Y-%m-%d %H:%M")


def spoken(seconds: float) -> str:
    """A duration for a person, rounded: `45 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    rest = round(seconds)
    for least, step in ((3600, 60), (86_400, 3600)):  # not `23 h 59 min`, a second after `1 d`
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


def spoken_when(moment: float, now: float) -> str:
    """A moment for a person, with how far off it is: `2026-12-24 18:00 (in 2 d 4 h)`."""
    away = f"in {spoken(moment - now)}" if moment >= now else f"{spoken(now - moment)} ago"
    return f"{dated_shortly(moment)} ({away})"
