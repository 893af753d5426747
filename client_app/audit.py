"""Reading a device's trail of events: each once, in order, and nothing passed over in silence.

The trail is a chain: every event has a number and names the digest of the one before. A device
answers GET `/events` with a piece of it, at most so many events, and a notification of the observed
resource only says that there is more: it may be lost, stand for several events, or come after a
later answer. So a `Reader` remembers the number and digest of the last event it gave, takes from
any piece what is new, and what a notification leaves out is asked for (`since`).

Three things are told apart. What was given already is dropped, if it has not changed. Events that
the device no longer has (the trail is bounded) are counted at the next one, `Event.lost`. A link
that does not hold, an end before what was read, or events that are announced and then kept back are
`Malformed`: the device's trail was changed, or somebody cut it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from client_app.decode import broken, check_link
from client_app.models import Event, Events
from peer.errors import Malformed

LAST: Final = 50
"""How many events are shown if nobody says."""

MOST: Final = 100
"""The most that a device gives at a time."""

Page = Callable[[Mapping[str, int]], Awaitable[Events]]
"""GET `/events` with a query."""

PairingEvent = Callable[[Mapping[str, int]], AsyncIterator[Events]]
"""The same, observed."""


class Reader:
    """How far a trail was read: `seq` is the last event's number, -1 before the first piece."""

    def __init__(self, since: int | None = None) -> None:
        self.seq = -1 if since is None else since
        self._digest = ""

    def take_untrusted(self, piece: Events) -> list[Event]:
        """What is new in a piece. Raises `Malformed` if it contradicts what was read."""
        new: list[Event] = []
        for event in piece.events:
            if event.seq > self.seq:
                new.append(self._follows(event))
                self.seq, self._digest = event.seq, event.digest
            elif event.seq == self.seq and self._digest not in {"", event.digest}:
                raise broken(event.seq, "has changed since it was read")
        if self.seq < 0:
            self.seq = piece.head
        return new

    def continues(self, piece: Events) -> bool:
        """Whether a piece goes on where this reader is, so that nothing need be asked for."""
        return bool(piece.events) and piece.events[0].seq <= self.seq + 1

    def _follows(self, event: Event) -> Event:
        lost = event.seq - self.seq - 1
        if self.seq < 0:
            return event
        if not lost and self._digest:
            check_link(self.seq, self._digest, event)
        return replace(event, lost=lost)


async def read(page: Page, *, since: int | None, last: int | None) -> Events:
    """The events after `since`, or the `last` ones, up to the end that the trail has now."""
    reader = Reader(since)
    piece = await _first(page, reader, last=last)
    found = reader.take_untrusted(piece)
    while reader.seq < piece.head:
        found += reader.take_untrusted(await _after(page, reader))
    # A later piece may reach beyond the end that the first one named.
    upto = tuple(event for event in found if event.seq <= piece.head)
    return Events(piece.head, piece.digest, upto)


async def follow(
    page: Page, news: PairingEvent, *, since: int | None, last: int | None
) -> AsyncIterator[Event]:
    """The same events, then each new one. Does not end."""
    reader = Reader(since)
    for event in reader.take_untrusted(await _first(page, reader, last=last)):
        yield event
    async with contextlib.aclosing(news({"last": 1})) as pieces:  # type: ignore[type-var]
        async for told in pieces:
            if told.head < reader.seq:
                await _after(page, reader)  # told late, or the trail was cut: that raises
            if reader.continues(told):
                for event in reader.take_untrusted(told):
                    yield event
            while reader.seq < told.head:
                for event in reader.take_untrusted(await _after(page, reader)):
                    yield event


async def _first(page: Page, reader: Reader, *, last: int | None) -> Events:
    """The first piece. More than a device gives at a time are counted back from the end."""
    if reader.seq >= 0:
        return await _after(page, reader)
    wanted = LAST if last is None else last
    piece = await page({"last": min(max(1, wanted), MOST)})
    if wanted < 1:
        return replace(piece, events=())
    if wanted <= MOST or piece.head <= MOST:
        return piece
    reader.seq = max(0, piece.head - wanted)
    piece = await _after(page, reader)
    if piece.events:  # nobody asked for what is gone before the first one
        reader.seq = piece.events[0].seq - 1
    return piece


async def _after(page: Page, reader: Reader) -> Events:
    """What the device has after the last event that was read."""
    piece = await page({"since": reader.seq})
    if piece.head < reader.seq:
        raise Malformed(
            f"the device's newest event is {piece.head}, but event {reader.seq} was read before",
            advice="The device was reset, or an older state was restored. Read all events again.",
        )
    if piece.head > reader.seq and not any(one.seq > reader.seq for one in piece.events):
        raise Malformed(
            f"the device reports events after {reader.seq}, but does not return them",
            advice="Run `handfast-device events --verify` on the device to locate the damage.",
        )
    return piece
