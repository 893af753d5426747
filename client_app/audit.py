"""Reading a device's audit trail: every event once, in order, and no gap unnoticed.

The trail is a chain: each event has a number and contains the digest of the one before it. GET
`/events` returns a page of a limited number of events. A notification of the observed resource only
says that there are more; it may be lost, stand for several events, or arrive after a later page.
Therefore a `Reader` remembers the number and digest of its last event, takes the new events from
each page, and fetches those that a notification leaves out (`since`).

Events that were read already are dropped, if they have not changed. Events that the device no
longer stores are counted at the next one, in `Event.lost`. A digest that does not match, a trail
that ends before the last event read, and events that are announced but not returned are
`Malformed`: the trail was changed or cut.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from client_app.decode_events import broken_chain, check_link
from client_app.limits import EVENTS, EVENTS_PAGE
from client_app.models import Event, Events
from peer.errors import Malformed

FetchPage = Callable[[Mapping[str, int]], Awaitable[Events]]
"""GET `/events` with a query."""

ObservePages = Callable[[Mapping[str, int]], AsyncGenerator[Events, None]]
"""Observe `/events` with a query."""


class Reader:
    """The position in a trail: `seq` is the number of the last event, -1 before the first page."""

    def __init__(self, since: int | None = None) -> None:
        self.seq = -1 if since is None else since
        self._digest = ""

    def take_untrusted(self, page: Events) -> list[Event]:
        """Return the new events of a page. Raises `Malformed` if it contradicts earlier ones."""
        new: list[Event] = []
        for event in page.events:
            if event.seq > self.seq:
                new.append(self._checked(event))
                self.seq, self._digest = event.seq, event.digest
            elif event.seq == self.seq and self._digest not in {"", event.digest}:
                raise broken_chain(event.seq, "has changed since it was read")
        if self.seq < 0:
            self.seq = page.head
        return new

    def continues(self, page: Events) -> bool:
        """Whether a page starts at this position or before it, so that no event is left out."""
        return bool(page.events) and page.events[0].seq <= self.seq + 1

    def _checked(self, event: Event) -> Event:
        lost = event.seq - self.seq - 1
        if self.seq < 0:
            return event
        if not lost and self._digest:
            check_link(self.seq, self._digest, event)
        return replace(event, lost=lost)


async def read(fetch: FetchPage, *, since: int | None, last: int | None) -> Events:
    """Return the events after `since`, or the `last` ones, up to the present end of the trail."""
    reader = Reader(since)
    page = await _first(fetch, reader, last=last)
    found = reader.take_untrusted(page)
    while reader.seq < page.head:
        found += reader.take_untrusted(await _after(fetch, reader))
    # A later page may contain events after the head of the first one.
    events = tuple(event for event in found if event.seq <= page.head)
    return Events(page.head, page.digest, events)


async def follow(
    fetch: FetchPage, observe: ObservePages, *, since: int | None, last: int | None
) -> AsyncGenerator[Event, None]:
    """Yield the same events as `read`, then each new one. Does not end."""
    reader = Reader(since)
    for event in reader.take_untrusted(await _first(fetch, reader, last=last)):
        yield event
    async with contextlib.aclosing(observe({"last": 1})) as notifications:
        async for page in notifications:
            if page.head < reader.seq:
                await _after(fetch, reader)  # a late notification; raises if the trail was cut
            if reader.continues(page):
                for event in reader.take_untrusted(page):
                    yield event
            while reader.seq < page.head:
                for event in reader.take_untrusted(await _after(fetch, reader)):
                    yield event


async def _first(fetch: FetchPage, reader: Reader, *, last: int | None) -> Events:
    """The first page. If more events are wanted than a page has, they are counted from the end."""
    if reader.seq >= 0:
        return await _after(fetch, reader)
    wanted = EVENTS if last is None else last
    page = await fetch({"last": min(max(1, wanted), EVENTS_PAGE)})
    if wanted < 1:
        return replace(page, events=())
    if wanted <= EVENTS_PAGE or page.head <= EVENTS_PAGE:
        return page
    reader.seq = max(0, page.head - wanted)
    page = await _after(fetch, reader)
    if page.events:  # events that are no longer stored before the first one were not asked for
        reader.seq = page.events[0].seq - 1
    return page


async def _after(fetch: FetchPage, reader: Reader) -> Events:
    """The page after the last event that was read."""
    page = await fetch({"since": reader.seq})
    if page.head < reader.seq:
        raise Malformed(
            f"the device's newest event is {page.head}, but event {reader.seq} was read before",
            advice="The device was reset, or an older state was restored. Read all events again.",
        )
    if page.head > reader.seq and not any(one.seq > reader.seq for one in page.events):
        raise Malformed(
            f"the device reports events after {reader.seq}, but does not return them",
            advice="Run `handfast-device events --verify` on the device to locate the damage.",
        )
    return page
