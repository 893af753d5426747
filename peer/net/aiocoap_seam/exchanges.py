"""aiocoap's table of confirmable messages that are not acknowledged, with their number per remote.

aiocoap searches the whole table for each acknowledgement. With many observers of one resource, a
change would then cost the square of their number.
"""

import asyncio
from collections.abc import Callable

Key = tuple[object, int]
"""The remote and the Message ID."""
Exchange = tuple[Callable[[], object], asyncio.TimerHandle]


class Exchanges(dict[Key, Exchange]):
    """The messages under way. Entries are only set, and removed with `pop`."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[object, int] = {}

    def number_of(self, remote: object) -> int:
        """Return how many messages to a remote are under way."""
        return self._numbers.get(remote, 0)

    def __setitem__(self, key: Key, exchange: Exchange) -> None:
        if key not in self:
            self._numbers[key[0]] = self.number_of(key[0]) + 1
        super().__setitem__(key, exchange)

    def pop(self, key: Key) -> Exchange:  # type: ignore[override]  # no default
        """Remove an entry and return it. Raises `KeyError` if there is none."""
        found = super().pop(key)
        left = self._numbers.pop(key[0]) - 1
        if left:
            self._numbers[key[0]] = left
        return found
