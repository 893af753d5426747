"""Following an audit trail: every event arrives once and in order, and every gap is reported."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app import audit
from client_app.limits import EVENTS_PAGE
from client_app.models import Event, Events
from peer.errors import Malformed


def digest(seq: int, salt: str = "") -> str:
    return sha256(f"{seq}{salt}".encode()).hexdigest() if seq else "0" * 64


def event(seq: int, salt: str = "") -> Event:
    return Event(seq, "kind", 0.0, digest(seq, salt), digest(seq - 1, salt), {})


class Trail:
    """A valid audit trail of a device; tests falsify it."""

    def __init__(self, head: int, *, kept_from: int = 1) -> None:
        self.kept_from = kept_from
        self.head = head
        self.salt = ""
        self.queries: list[Mapping[str, int]] = []
        self.notifications: asyncio.Queue[Events | None] = asyncio.Queue()

    def section(self, first: int, last: int) -> Events:
        seqs = range(max(first, self.kept_from), min(last, self.head) + 1)
        events = tuple(event(seq, self.salt) for seq in seqs)
        return Events(self.head, digest(self.head, self.salt), events)

    async def page(self, query: Mapping[str, int]) -> Events:
        self.queries.append(query)
        if "since" in query:
            first = max(query["since"] + 1, self.kept_from)
            return self.section(first, first + EVENTS_PAGE - 1)
        assert 1 <= query["last"] <= EVENTS_PAGE
        return self.section(self.head - query["last"] + 1, self.head)

    async def observed(self, _query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
        yield self.section(self.head, self.head)
        while (section := await self.notifications.get()) is not None:
            yield section

    def notify(self, head: int) -> None:
        """Send a notification of the newest event of a trail of length `head`."""
        kept, self.head = self.head, head
        self.notifications.put_nowait(self.section(head, head))
        self.head = max(kept, head)

    async def followed(self, *, since: int | None = None, last: int | None = None) -> list[Event]:
        """The events that a follower receives until the notifications end."""
        self.notifications.put_nowait(None)
        stream = audit.follow(self.page, self.observed, since=since, last=last)
        return [one async for one in stream]


def seqs(events: list[Event] | tuple[Event, ...]) -> list[int]:
    return [one.seq for one in events]


# ----------------------------------------------------------------------------------- a valid trail


@pytest.mark.parametrize(
    ("since", "last", "found"),
    [
        (None, None, range(251, 301)),
        (None, 3, range(298, 301)),
        (None, 0, range(0)),
        (None, 250, range(51, 301)),
        (None, 900, range(11, 301)),
        (298, None, range(299, 301)),
        (300, None, range(0)),
        (20, None, range(21, 301)),
    ],
)
async def test_since_and_last_select_a_section_of_the_trail(
    since: int | None, last: int | None, found: range
) -> None:
    device = Trail(300, kept_from=11)
    read = await audit.read(device.page, since=since, last=last)
    assert (read.head, read.digest) == (300, digest(300))
    assert seqs(read.events) == list(found)
    assert not any(one.lost for one in read.events)
    assert seqs(await device.followed(since=since, last=last)) == list(found)


async def test_an_empty_trail_is_read_and_followed() -> None:
    device = Trail(0)
    assert await audit.read(device.page, since=None, last=None) == Events(0, digest(0), ())
    assert await audit.read(device.page, since=0, last=None) == Events(0, digest(0), ())
    device.notify(1)
    assert seqs(await device.followed()) == [1]


async def test_pruned_events_are_counted_as_lost() -> None:
    device = Trail(30, kept_from=11)
    read = await audit.read(device.page, since=4, last=None)
    assert seqs(read.events) == list(range(11, 31))
    assert [one.lost for one in read.events] == [6, *[0] * 19]


async def test_events_pruned_while_following_are_counted_as_lost() -> None:
    device = Trail(5)

    async def notifications(_query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
        device.head, device.kept_from = 500, 401
        yield device.section(500, 500)

    found = [one async for one in audit.follow(device.page, notifications, since=None, last=2)]
    assert seqs(found) == [4, 5, *range(401, 501)]
    assert [one.lost for one in found[2:4]] == [395, 0]


@given(
    heads=st.lists(st.integers(1, 400), max_size=12),
    start=st.integers(0, 400),
    repeated=st.booleans(),
)
@settings(max_examples=60)
def test_late_lost_and_repeated_notifications_lose_no_event(
    heads: list[int], start: int, repeated: bool
) -> None:
    """Each event up to the newest reported one arrives once and in order."""
    device = Trail(start)

    async def follow() -> list[Event]:
        for head in heads * (1 + repeated):
            device.notify(head)
        device.head = start

        async def notifications(query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
            async for section in device.observed(query):
                device.head = max(device.head, section.head)
                yield section

        device.notifications.put_nowait(None)
        return [one async for one in audit.follow(device.page, notifications, since=0, last=None)]

    found = asyncio.run(follow())
    assert seqs(found) == list(range(1, max([start, *heads]) + 1))


async def test_a_notification_with_one_new_event_needs_no_request() -> None:
    device = Trail(5)
    for head in range(6, 50):
        device.notify(head)
    device.head = 5
    await device.followed(last=1)
    assert len(device.queries) == 1


async def test_cancelling_a_follower_ends_the_observation() -> None:
    ended = asyncio.Event()
    device = Trail(5)

    async def notifications(_query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
        try:
            yield device.section(5, 5)
            await asyncio.Event().wait()
        finally:
            ended.set()

    stream = audit.follow(device.page, notifications, since=3, last=None)
    async with contextlib.aclosing(stream) as events:
        assert [(await anext(events)).seq for _ in range(2)] == [4, 5]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert ended.is_set()


# ---------------------------------------------------------------------- a trail that is not valid


class FalseTrail(Trail):
    """A device that answers queries with `since` from a list of false responses."""

    answers: list[Events]

    async def page(self, query: Mapping[str, int]) -> Events:
        return self.answers.pop(0) if "since" in query else await super().page(query)


async def test_an_event_that_has_changed_is_malformed() -> None:
    device = Trail(5)
    device.salt = "other"
    forged = device.section(5, 5)
    device.salt = ""
    device.notifications.put_nowait(forged)
    with pytest.raises(Malformed, match="event 5 has changed"):
        await device.followed(last=2)


async def test_an_event_that_does_not_continue_the_digest_is_malformed() -> None:
    device = Trail(5)
    device.salt = "other"
    device.notify(6)
    device.salt = ""
    device.head = 5
    with pytest.raises(Malformed, match="event 6 does not contain the digest"):
        await device.followed(last=2)


async def test_a_truncated_trail_is_malformed() -> None:
    with pytest.raises(Malformed, match="newest event is 5, but event 9 was read"):
        await audit.read(Trail(5).page, since=9, last=None)
    device = Trail(9)

    async def notifications(_query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
        device.head = 5
        yield device.section(5, 5)

    with pytest.raises(Malformed, match="newest event is 5, but event 9 was read"):
        _ = [one async for one in audit.follow(device.page, notifications, since=0, last=None)]


@pytest.mark.parametrize(
    "response",
    [Events(9, digest(9), ()), Events(9, digest(9), (event(4), event(5)))],
    ids=["none", "old ones"],
)
async def test_withheld_events_are_malformed(response: Events) -> None:
    """A device that announces events but never returns them is reported at once."""
    device = FalseTrail(5)
    device.answers = [response]
    device.notifications.put_nowait(replace(Trail(9).section(9, 9), events=()))
    with pytest.raises(Malformed, match="does not return them"):
        await device.followed(last=2)
