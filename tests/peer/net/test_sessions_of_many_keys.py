"""More programs with keys of their own than the device has sessions: none displaces another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.identity import Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.problem import refused_session_seconds
from peer.testing import Proxy
from tests.kit.serve import PATIENT
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peer.net.connection import CoapsConnection
    from tests.kit.serve import Serve, Served


def get(path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=(path,))


async def is_refused(connection: CoapsConnection) -> bool:
    response = await connection.request(get("echo"), timeout=10)
    return refused_session_seconds(response) is not None


class Programs:
    """Programs with a key each."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def start(
        self, served: Served, priority: SessionPriority = SessionPriority.NORMAL
    ) -> CoapsClient:
        identity = Identity.create()
        served.priorities[identity.fingerprint] = priority
        return await self._stack.enter_async_context(CoapsClient(identity, limits=PATIENT))

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def programs() -> AsyncIterator[Programs]:
    made = Programs()
    yield made
    await made.close()


@pytest.mark.parametrize("priority", [SessionPriority.NORMAL, SessionPriority.HIGH])
async def test_programs_with_different_keys_do_not_evict_each_other(
    serve: Serve, programs: Programs, priority: SessionPriority
) -> None:
    served = await serve(limits=Limits(sessions=4, session_reserve=0, refused_sessions=45))
    clients = [await programs.start(served, priority) for _ in range(9)]

    async def program(client: CoapsClient) -> bool:
        """Connect five times, as a program that reconnects; return whether none was refused."""
        outcomes = []
        for _ in range(5):
            connection = await client.connect(served.address, pinned=None)
            outcomes.append(await is_refused(connection))
            if outcomes[-1]:
                await connection.close()
            else:
                return True
        return False

    admitted = await asyncio.gather(*(program(client) for client in clients))
    assert sum(admitted) == 4
    assert served.count("sessions-evicted") == 0
    assert served.count("sessions-refused") == 5 * 5


async def test_a_session_that_is_not_in_use_makes_room_for_another_key(
    serve: Serve, programs: Programs
) -> None:
    limits = Limits(sessions=2, session_reserve=0, session_unused_seconds=0.0)
    served = await serve(limits=limits)
    clients = [await programs.start(served) for _ in range(3)]
    observing = await clients[0].connect(served.address, pinned=None)
    stream = observing.observe(get("value"))
    await anext(stream)
    idle = await clients[1].connect(served.address, pinned=None)
    assert not await is_refused(await clients[2].connect(served.address, pinned=None))
    await until(lambda: not idle.is_open)
    assert observing.is_open, "an observation is a use"
    await stream.aclose()


async def test_a_dead_session_makes_room_for_another_key(serve: Serve, programs: Programs) -> None:
    limits = Limits(sessions=2, session_reserve=0, session_probe_seconds=0.1)
    served = await serve(limits=limits)
    proxy = await Proxy.start(served.address)
    clients = [await programs.start(served) for _ in range(3)]
    alive = await clients[0].connect(served.address, pinned=None)
    dead = await clients[1].connect(proxy.address, pinned=None)
    streams = [session.observe(get("value")) for session in (alive, dead)]
    for stream in streams:
        await anext(stream)
    proxy.cut()
    async with asyncio.timeout(20):
        while await is_refused(  # noqa: ASYNC110  # the server has no such event
            await clients[2].connect(served.address, pinned=None)
        ):
            await asyncio.sleep(0.02)
    assert served.count("sessions-evicted") == 1
    assert alive.is_open
    proxy.close()


async def test_a_key_with_many_sessions_shares_them_with_a_newcomer_and_no_more(
    serve: Serve, programs: Programs
) -> None:
    """The numbers become even, and then no session is evicted."""
    served = await serve(limits=Limits(sessions=6, session_reserve=0, sessions_per_key=6))
    greedy, modest = [await programs.start(served) for _ in range(2)]
    taken = [await greedy.connect(served.address, pinned=None) for _ in range(6)]
    kept = [await modest.connect(served.address, pinned=None) for _ in range(3)]
    assert [await is_refused(one) for one in kept] == [False] * 3
    await until(lambda: sum(one.is_open for one in taken) == 3)
    assert [one.is_open for one in taken] == [False] * 3 + [True] * 3, "by age"
    for client in (greedy, modest) * 3:
        assert await is_refused(await client.connect(served.address, pinned=None))
    assert served.count("sessions-evicted") == 3
    assert all(one.is_open for one in (*kept, *taken[3:]))


async def test_an_owner_is_admitted_in_place_of_a_guest_in_use(
    serve: Serve, programs: Programs
) -> None:
    served = await serve(limits=Limits(sessions=2, session_reserve=0))
    guests = [await programs.start(served) for _ in range(2)]
    held = [await guest.connect(served.address, pinned=None) for guest in guests]
    owner = await programs.start(served, SessionPriority.HIGH)
    assert not await is_refused(await owner.connect(served.address, pinned=None))
    await until(lambda: not held[0].is_open)
    assert await is_refused(await guests[0].connect(served.address, pinned=None))
    assert held[1].is_open
