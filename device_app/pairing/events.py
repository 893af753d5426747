"""Events of the pairing service, and a bounded queue of them for one slow reader."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self

from peer.pairing.ceremony import Ceremony


@unique
class PairingEventKind(StrEnum):
    """The kinds of events of the window and of the ceremonies in it."""

    OPENED = "opened"  # or extended
    PENDING = "pending"  # a ceremony waits for the device's user
    CODE = "code"  # the device shows another code
    DECIDED = "decided"  # the device's user has accepted; the client is next
    ENDED = "ended"
    CLOSED = "closed"  # no new ceremony; the port may stay open for the last client
    GONE = "gone"  # the port is closed as well


@dataclass(frozen=True, slots=True)
class PairingEvent:
    """One event of the pairing service."""

    kind: PairingEventKind
    ceremony: Ceremony | None = None
    reason: str = ""


Subscriber = Callable[[PairingEvent], None]


class PairingEvents:
    """The stream of a device's pairing events."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every event from now on.

        Returns:
            A function that ends the subscription; call it once.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: PairingEvent) -> None:
        """Call every subscriber, in the order of their subscriptions."""
        for subscriber in tuple(self._subscribers):
            subscriber(event)


# The window is read when the event is, so only the last of several in a row is needed.
_LATEST_ONLY = frozenset({PairingEventKind.OPENED, PairingEventKind.CODE})


class WindowEvents:
    """Queue of one window's events; a context manager that ends the subscription.

    The queue is bounded although its reader may be slow: a window has a bounded number of
    ceremonies, repeated `_LATEST_ONLY` events replace each other, and CLOSED is the last event.
    """

    def __init__(self, events: PairingEvents) -> None:
        self._queue: deque[PairingEvent] = deque()
        self._arrived = asyncio.Event()
        self._is_subscribed = True
        self._unsubscribe = events.subscribe(self._append)

    def __len__(self) -> int:
        return len(self._queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end()

    async def next(self) -> PairingEvent:
        """Wait for the next event. Do not call it again after CLOSED."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    def _append(self, event: PairingEvent) -> None:
        if self._queue and self._queue[-1].kind is event.kind and event.kind in _LATEST_ONLY:
            self._queue.pop()
        self._queue.append(event)
        self._arrived.set()
        if event.kind is PairingEventKind.CLOSED:
            self._end()

    def _end(self) -> None:
        if self._is_subscribed:
            self._is_subscribed = False
            self._unsubscribe()
