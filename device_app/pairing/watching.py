"""The news of one pairing window, for a follower that may read slowly or not at all.

What is kept for it is bounded by the ceremonies that a window stands: of news that only say how
things are now, the latest counts, and the end of the window is the last.
"""

import asyncio
from collections import deque
from typing import Self

from device_app.pairing.service import PairingService
from device_app.pairing.terms import PairingEvent, PairingEventKind

_LATEST_COUNTS = frozenset(
    {PairingEventKind.OPENED, PairingEventKind.CODE}
)  # told with the window as it is then


class WindowNews:
    """The news from now on until the window closes; a context manager that ends the watching."""

    def __init__(self, door: PairingService) -> None:
        self._news: deque[PairingEvent] = deque()
        self._came = asyncio.Event()
        self._stop = door.watch(self._heard)
        self._is_watching = True

    def __len__(self) -> int:
        return len(self._news)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end()

    async def next(self) -> PairingEvent:
        """The next one, as soon as there is one; after CLOSED there is none."""
        while not self._news:
            self._came.clear()
            await self._came.wait()
        return self._news.popleft()

    def _heard(self, news: PairingEvent) -> None:
        last = self._news[-1].kind if self._news else None
        if last is news.kind and news.kind in _LATEST_COUNTS:
            self._news.pop()
        self._news.append(news)
        self._came.set()
        if news.kind is PairingEventKind.CLOSED:
            self._end()

    def _end(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._stop()
