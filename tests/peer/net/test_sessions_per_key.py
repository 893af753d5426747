"""More programs with one key than the device has sessions for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import HandshakeFailed
from peer.identity import Identity
from peer.limits import SESSION_RETRY_SECONDS, Limits
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.problem import refused_session_seconds
from peer.testing import Proxy
from tests.kit.waiting import until

if TYPE_CHECKING:
    from peer.net.connection import CoapsConnection
    from tests.kit.serve import Serve, Served


def get(path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=(path,))


async def served_to(serve: Serve, client: Identity, limits: Limits) -> Served:
    served = await serve(limits=limits)
    served.priorities[client.fingerprint] = SessionPriority.NORMAL
    return served


async def is_refused(connection: CoapsConnection) -> bool:
    response = await connection.request(get("echo"), timeout=10)
    return refused_session_seconds(response) is not None


async def test_a_session_too_many_is_answered_with_the_reason(
    serve: Serve, client: Identity
) -> None:
    served = await served_to(serve, client, Limits(sessions_per_key=2))
    async with CoapsClient(client) as one:
        sessions = [await one.connect(served.address, pinned=None) for _ in range(3)]
        response = await sessions[2].request(get("echo"), timeout=10)
        assert response.code is Code.TOO_MANY_REQUESTS
        assert response.opt.max_age == SESSION_RETRY_SECONDS
        assert refused_session_seconds(response) == SESSION_RETRY_SECONDS
        assert [await is_refused(session) for session in sessions] == [False, False, True]
        assert len(served.server.sessions()) == 2
        assert served.count("sessions-evicted") == 0
        assert served.echo.served == 0, "nothing of a refused session reaches a resource"


async def test_many_programs_with_one_key_do_not_evict_each_other(
    serve: Serve, client: Identity
) -> None:
    served = await served_to(serve, client, Limits(sessions_per_key=3, refused_sessions=45))
    async with CoapsClient(client) as one:

        async def program() -> bool:
            """Connect and request five times; return whether the device refused every session."""
            sessions = [await one.connect(served.address, pinned=None) for _ in range(5)]
            return all([await is_refused(session) for session in sessions])

        refused = await asyncio.gather(*(program() for _ in range(9)))
    assert sum(not one for one in refused) >= 1
    assert served.count("sessions-evicted") == 0
    assert served.count("sessions-refused") == 9 * 5 - 3


async def test_a_session_that_is_not_in_use_makes_room(serve: Serve, client: Identity) -> None:
    limits = Limits(sessions_per_key=2, session_unused_seconds=0.0)
    served = await served_to(serve, client, limits)
    async with CoapsClient(client) as one:
        observing = await one.connect(served.address, pinned=None)
        stream = observing.observe(get("value"))
        await anext(stream)
        idle = await one.connect(served.address, pinned=None)
        newest = await one.connect(served.address, pinned=None)
        assert not await is_refused(newest)
        await until(lambda: not idle.is_open)
        assert observing.is_open, "an observation is a use"
        await stream.aclose()


async def test_a_dead_session_makes_room_and_one_that_responds_stays(
    serve: Serve, client: Identity
) -> None:
    limits = Limits(sessions_per_key=2, session_probe_seconds=0.1)
    served = await served_to(serve, client, limits)
    proxy = await Proxy.start(served.address)
    async with CoapsClient(client) as one:
        alive = await one.connect(served.address, pinned=None)
        dead = await one.connect(proxy.address, pinned=None)
        streams = [session.observe(get("value")) for session in (alive, dead)]
        for stream in streams:
            await anext(stream)
        proxy.cut()

        async def admitted() -> bool:
            return not await is_refused(await one.connect(served.address, pinned=None))

        async with asyncio.timeout(20):
            while not await admitted():  # noqa: ASYNC110  # the server has no such event
                await asyncio.sleep(0.02)
        assert served.count("sessions-evicted") == 1
        assert alive.is_open
        served.value.set(1)
        assert (await anext(streams[0])).payload
    proxy.close()


async def test_a_new_refused_session_replaces_the_oldest(serve: Serve, client: Identity) -> None:
    limits = Limits(sessions_per_key=1, refused_sessions=2, refused_seconds=600.0)
    served = await served_to(serve, client, limits)
    async with CoapsClient(client) as one:
        kept = await one.connect(served.address, pinned=None)
        refused = [await one.connect(served.address, pinned=None) for _ in range(4)]
        await until(lambda: not (refused[0].is_open or refused[1].is_open))
        assert [await is_refused(session) for session in refused[2:]] == [True, True]
        assert served.count("sessions-refused") == 4
        assert not await is_refused(kept)


async def test_a_refused_session_is_closed_after_its_time(serve: Serve, client: Identity) -> None:
    served = await served_to(serve, client, Limits(sessions_per_key=1, refused_seconds=0.3))
    async with CoapsClient(client) as one:
        kept = await one.connect(served.address, pinned=None)
        refused = await one.connect(served.address, pinned=None)
        await until(lambda: not refused.is_open)
        assert not await is_refused(kept)


async def test_an_unknown_key_gets_no_reason(serve: Serve, client: Identity) -> None:
    """Its session ends at once: refused sessions cost a slot."""
    served = await serve(limits=Limits(unpaired_sessions=1, unpaired_kept_seconds=60.0))
    served.priorities[client.fingerprint] = SessionPriority.LOW
    async with CoapsClient(client) as one:
        kept = await one.connect(served.address, pinned=None)
        with pytest.raises(HandshakeFailed, match="immediately"):
            await one.connect(served.address, pinned=None)
        assert kept.is_open


async def test_any_kind_of_request_is_refused(serve: Serve, client: Identity) -> None:
    served = await served_to(serve, client, Limits(sessions_per_key=1))
    async with CoapsClient(client) as one:
        await one.connect(served.address, pinned=None)
        late = await one.connect(served.address, pinned=None)
        for code in (Code.GET, Code.POST, Code.DELETE):
            message = aiocoap.Message(code=code, uri_path=("no", "such"))
            response = await late.request(message, timeout=10)
            assert refused_session_seconds(response) is not None
        stream = late.observe(get("value"))
        assert refused_session_seconds(await anext(stream)) is not None
        await stream.aclose()
