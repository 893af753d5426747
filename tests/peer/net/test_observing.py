"""Observe over real UDP: one pending notification, fair turns within a session, limits per key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.identity import Identity
from peer.limits import Limits
from peer.net.aiocoap_seam.exchanges import Exchanges
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.problem import ProblemError
from tests.kit.internals import (
    backlogs_of,
    layer_of,
    messages_of,
    observations_of,
    remotes_of,
    site_of,
    unacknowledged,
)
from tests.kit.raw_client import GET, RawClient, message
from tests.kit.waiting import until


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


def observing(connection: CoapsConnection) -> Any:
    """An observation that can be closed."""
    return connection.observe(get("value"))


async def read_until(stream: AsyncIterator[aiocoap.Message], payload: bytes) -> int:
    """Read notifications up to the one with this payload; return their number."""
    async with asyncio.timeout(20):
        count = 1
        while (await anext(stream)).payload != payload:
            count += 1
    return count


class Rendered:
    """Counts how often a resource was rendered."""

    def __init__(self, resource: Any) -> None:
        self.count = 0
        self._render = resource.render_get
        resource.render_get = self

    async def __call__(self, request: aiocoap.Message) -> aiocoap.Message:
        self.count += 1
        answer: aiocoap.Message = await self._render(request)
        return answer


@pytest.mark.parametrize("mtype", [aiocoap.CON, aiocoap.NON], ids=["con", "non"])
async def test_a_client_that_does_not_acknowledge_gets_one_notification_at_a_time(
    serve: Any, mtype: int
) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=600))
    rendered = Rendered(served.value)
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "value", number=1, token=b"t", observe=0, mtype=mtype))
    await raw.until(1)
    for value in range(1, 101):
        served.value.set(value)
        await raw.handled()  # one loop turn of both sides for each change
    first, second = raw.received
    assert (first.payload, second.payload) == (b"0", b"1")
    assert second.mtype is aiocoap.CON
    assert rendered.count == 2
    assert not any(backlogs_of(served.server).values())
    assert unacknowledged(served.server) == 1
    raw.acknowledge(second.mid)
    third = (await raw.until(3))[2]
    assert third.payload == b"100"
    raw.acknowledge(third.mid)
    await raw.handled()
    assert len(raw.received) == 3
    assert rendered.count == 3
    numbers = [one.opt.observe or 0 for one in raw.received]
    assert numbers == sorted(set(numbers))
    await raw.close()


async def test_a_reset_message_ends_the_observation(serve: Any) -> None:
    served = await serve()
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "value", number=1, token=b"t", observe=0))
    await raw.until(1)
    served.value.set(1)
    notification = (await raw.until(2))[1]
    raw.send(b"\x70\x00" + notification.mid.to_bytes(2))
    await raw.handled()
    assert not observations_of(served.value)
    (remote,) = remotes_of(served.server)
    assert not remote.under_way
    assert not remote.notifying.locked()
    await raw.close()


async def test_observations_of_one_session_take_turns(serve: Any, caller: CoapsClient) -> None:
    """Every observation is notified, one message at a time, each with its own token."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    layer = layer_of(served.server)
    most = 0
    send = layer.send

    def counted(message: aiocoap.Message) -> None:
        nonlocal most
        send(message)
        most = max(most, unacknowledged(served.server))
        assert not any(backlogs_of(served.server).values())

    layer.send = counted  # type: ignore[method-assign]
    streams = [observing(connection) for _ in range(8)]
    for stream in streams:
        assert await read_until(stream, b"0") == 1
    for value in range(1, 30):
        served.value.set(value)
    counts = [await read_until(stream, b"29") for stream in streams]
    assert max(counts) <= 2
    assert most == 1
    for stream in streams:
        await stream.aclose()


async def test_a_session_that_does_not_acknowledge_does_not_delay_others(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=600))
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "value", number=1, token=b"t", observe=0))
    await raw.until(1)
    connection = await caller.connect(served.address, pinned=None)
    async with aclosing(observing(connection)) as stream:
        assert await read_until(stream, b"0") == 1
        for value in range(1, 20):
            served.value.set(value)
            await read_until(stream, str(value).encode())
    assert len(raw.received) == 2
    await raw.close()


async def test_a_shared_notification_is_sent_to_each_observer_with_its_own_token(
    serve: Any, caller: CoapsClient
) -> None:
    """`updated_state(message)` of aiocoap: one message object, sent at different times."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    async with CoapsClient(Identity.create()) as other:
        other_connection = await other.connect(served.address, pinned=None)
        streams = [
            observing(one) for one in (connection, connection, other_connection, other_connection)
        ]
        for stream in streams:
            await read_until(stream, b"0")
        for payload in (b"for all", b"once more"):
            served.value.updated_state(aiocoap.Message(code=Code.CONTENT, payload=payload))
            for stream in streams:
                assert await read_until(stream, payload) == 1
        for stream in streams:
            await stream.aclose()


async def test_a_shared_notification_is_retransmitted_with_each_observers_token(
    serve: Any,
) -> None:
    """The same without acknowledgements: each retransmission equals its first transmission."""
    served = await serve(limits=Limits(ack_timeout_seconds=0.05))
    raws = [await RawClient.connect(served.address) for _ in range(2)]
    for number, raw in enumerate(raws):
        raw.send(message(GET, "value", number=1, token=bytes([number]), observe=0))
        await raw.until(1)
    served.value.updated_state(aiocoap.Message(code=Code.CONTENT, payload=b"for all"))
    for number, raw in enumerate(raws):
        _, *notifications = await raw.until(4)
        assert {one.token for one in notifications} == {bytes([number])}
        assert len({one.mid for one in notifications}) == 1
    for raw in raws:
        await raw.close()


async def test_a_notification_larger_than_a_datagram_is_sent_in_blocks(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    fill = b"a"

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=fill * 5_000)

    served.value.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    async with aclosing(observing(connection)) as stream:
        for fill in (b"a", b"b", b"c"):
            served.value.updated_state()
            assert await read_until(stream, fill * 5_000) <= 2
    assert not caller.counters["coap-too-large"]


async def test_a_resource_can_end_an_observation(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    async with aclosing(observing(connection)) as stream:
        await read_until(stream, b"0")
        (observation,) = observations_of(served.value)
        observation.trigger(aiocoap.Message(code=Code.CONTENT, payload=b"bye"), is_last=True)
        async with asyncio.timeout(20):
            assert [one.payload async for one in stream] == [b"bye"]
    async with aclosing(observing(connection)) as stream:
        await read_until(stream, b"0")
        (observation,) = observations_of(served.value)
        observation.deregister()
        async with asyncio.timeout(20):
            assert [one.code async for one in stream] == [Code.INTERNAL_SERVER_ERROR]
    assert not observations_of(served.value)


async def test_observations_of_one_key_are_bounded_across_its_sessions(
    serve: Any, client: Identity
) -> None:
    served = await serve(limits=Limits(observations_per_key=3))
    async with CoapsClient(client) as one, CoapsClient(client) as two:
        connections = [await caller.connect(served.address, pinned=None) for caller in (one, two)]
        streams = [observing(connections[number % 2]) for number in range(3)]
        for stream in streams:
            await read_until(stream, b"0")
        for connection in connections:
            refused = await anext(observing(connection))
            assert (refused.code, refused.opt.max_age) == (Code.TOO_MANY_REQUESTS, 5)
            assert (await connection.request(get("value"))).code is Code.CONTENT
        async with CoapsClient(Identity.create()) as other:
            other_connection = await other.connect(served.address, pinned=None)
            async with aclosing(observing(other_connection)) as stream:
                await read_until(stream, b"0")
        await streams[0].aclose()
        await until(lambda: not (len(observations_of(served.value)) > 2))
        async with aclosing(observing(connections[1])) as stream:
            await read_until(stream, b"0")
        for stream in streams[1:]:
            await stream.aclose()
    site = site_of(served.server)
    await until(lambda: not observations_of(site))


async def test_authorization_is_checked_when_a_notification_is_sent(
    serve: Any, client: Identity
) -> None:
    """An observer that loses its permission before it acknowledges receives no later state."""
    allowed = True

    def authorise(*_arguments: object) -> None:
        if not allowed:
            raise ProblemError("denied", "no", "Ask.")

    served = await serve(authorise=authorise, limits=Limits(ack_timeout_seconds=600))
    raw = await RawClient.connect(served.address, client)
    raw.send(message(GET, "value", number=1, token=b"t", observe=0))
    await raw.until(1)
    served.value.set(1)
    notification = (await raw.until(2))[1]
    served.value.set(2)
    allowed = False
    raw.acknowledge(notification.mid)
    last = (await raw.until(3))[2]
    assert (last.code, last.opt.observe) == (Code.FORBIDDEN, None)
    assert not observations_of(served.value)
    await raw.close()


async def test_a_closed_observation_leaves_no_state_on_either_side(
    serve: Any, caller: CoapsClient
) -> None:
    """Neither side keeps any state of the observation, even if the resource never changes."""
    served = await serve(limits=Limits(observations_per_key=2))
    connection = await caller.connect(served.address, pinned=None)
    for _ in range(10):
        async with aclosing(observing(connection)) as stream:
            assert await read_until(stream, b"0") == 1
        await until(lambda: not observations_of(served.value))
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    (remote,) = remotes_of(served.server)
    assert not remote.under_way
    assert not messages_of(caller).token_manager.outgoing_requests
    assert not unacknowledged(caller)


async def test_an_acknowledgement_costs_the_same_whatever_others_have_under_way(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiocoap searches the messages to all sessions; 1,000 observers would cost 1,000,000 steps."""

    def search(_self: object) -> None:
        raise AssertionError("the messages to all sessions were searched")

    served = await serve(limits=Limits(ack_timeout_seconds=600))
    raws = [await RawClient.connect(served.address) for _ in range(3)]
    for number, raw in enumerate(raws):
        raw.send(message(GET, "value", number=1, token=bytes([number]), observe=0))
        await raw.until(1)
    served.value.set(1)
    for raw in raws:
        await raw.until(2)
    assert unacknowledged(served.server) == 3
    with monkeypatch.context() as patch:
        for name in ("keys", "items", "values", "__iter__"):
            patch.setattr(Exchanges, name, search)
        raws[1].acknowledge(raws[1].received[1].mid)
        await raws[1].handled()
    assert unacknowledged(served.server) == 2
    assert served.count("coap-dispatch-failed") == 0
    served.value.set(2)
    assert (await raws[1].until(3))[2].payload == b"2"
    for raw in raws:
        await raw.close()
