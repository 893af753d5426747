"""Typed access to the fields of a decoded map; a field of another type is `Malformed`."""

import math
import re
from collections.abc import Callable
from typing import Final, TypeVar

from peer.errors import Malformed

T = TypeVar("T")

_LATEST: Final = 253_402_300_799  # seconds from 1970 to the end of the year 9999
_HIGHEST: Final = 2**63 - 1  # the highest number in the device's store


class Fields:
    """A map from a device. Every method raises `Malformed` for a field of another type."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"the device's response: {what} is not a map")
        self.all: dict[object, object] = value
        self._what = what

    def text(self, name: str, default: str | None = None) -> str:
        """Text; `default` if it is absent or null, unless that is None."""
        value = self.all.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        """Text that matches a pattern."""
        value = self.text(name)
        if not pattern.fullmatch(value):
            raise self.wrong(name, "in the expected format")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.all.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, lowest: int = 0, highest: int = _HIGHEST) -> int:
        """A whole number within bounds."""
        value = self.all.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        if not lowest <= value <= highest:
            raise self.wrong(name, "in the valid range")
        return value

    def real(self, name: str) -> float:
        """A finite number that can be a time."""
        value = self.all.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        if not math.isfinite(value) or abs(value) > _LATEST:
            raise self.wrong(name, "in the valid range")
        return float(value)

    def time(self, name: str) -> int:
        """Seconds since 1970."""
        return int(self.real(name))

    def optional_time(self, name: str) -> int | None:
        """Seconds since 1970; None if it is absent or null."""
        return None if self.all.get(name) is None else self.time(name)

    def words(self, name: str) -> tuple[str, ...]:
        """A list of texts, which may be empty."""
        value = self.all.get(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, "a list of strings")
        return tuple(value)

    def each(self, name: str, read: Callable[[object], T]) -> tuple[T, ...]:
        """A list, each item decoded with `read`."""
        return each_untrusted(self.all.get(name), name, read)

    def wrong(self, name: str, due: str) -> Malformed:
        """The error for a field; without its value, which may be long or a secret."""
        return Malformed(f"the device's response: {name} of {self._what} is not {due}")


def each_untrusted(value: object, what: str, read: Callable[[object], T]) -> tuple[T, ...]:
    """Decode a list with `read`. Raises only `Malformed`."""
    if not isinstance(value, list):
        raise Malformed(f"the device's response: {what} is not a list")
    return tuple(read(one) for one in value)
