"""Times as people write them: `90`, `90s`, `2m`, `1h30m`, `2d`."""

import re

from peer.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds_of(text: str) -> float:
    """Seconds of a duration; a bare number is seconds. Raises `UsageError`."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _PARTS.sub("", text):
        raise UsageError(f"{text!r} is not a time", advice="Write 90s, 2m, 1h30m or 2d.")
    return sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))


def spoken(seconds: float) -> str:
    """A duration for a person, rounded: `45 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    rest = round(seconds)
    for unit, size, smaller, small in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if rest >= size:
            more = rest % size // small
            return f"{rest // size} {unit}" + (f" {more} {smaller}" if more else "")
    return f"{rest} s"
