"""The agent of a device: brokers that come and go, topics that follow rights, and evil messages."""

import asyncio
import gc
import secrets
import tracemalloc
from dataclasses import replace

import pytest

from peer.identity import Identity
from peer.net.tasks import cancel_all
from peer.remote.agent_view import LinkState
from peer.remote.broker_link import pause_seconds
from peer.remote.messages import CarrierKind
from peer.remote.pair_keys import PairKeys, device_topic
from tests.kit.memory_remote import MemoryBroker
from tests.kit.remote_pair import LIMITS, PREFIX, RemotePair
from tests.kit.waiting import skip_time, until


def topic_of(pair: RemotePair, key: Identity) -> str:
    return device_topic(PREFIX, PairKeys(pair.secret(key.fingerprint)).topic)


async def test_the_view_says_which_broker_and_since_when(pair: RemotePair) -> None:
    view = pair.agent.view()
    assert (view.state, view.broker, view.why) == (LinkState.ATTACHED, "mqtts://one.example", "")
    assert view.since_seconds >= 0
    assert view.network.has_udp
    assert [one.state for one in view.brokers] == [LinkState.ATTACHED]
    await pair.agent.apply(None)
    assert (pair.agent.view().state, pair.agent.view().brokers) == (LinkState.OFF, ())


async def test_a_device_attaches_again_after_its_broker_was_lost(pair: RemotePair) -> None:
    pair.broker.kick()
    await until(lambda: len(pair.attached) == 2)
    assert pair.detached == [("mqtts://one.example", "unreachable")]
    assert (await pair.open()).is_open


async def test_a_device_probes_its_network_again_when_it_attaches(pair: RemotePair) -> None:
    """It may have started before its router, and have taken UDP for blocked."""
    for has_udp in (False, True):
        pair.has_udp = has_udp
        pair.broker.kick()
        await until(lambda: pair.agent.view().network.has_udp is has_udp)  # noqa: B023 - awaited


async def test_a_device_that_does_not_hear_itself_is_not_attached(pair: RemotePair) -> None:
    """A broker grants a topic whose messages its access rights drop."""
    pair.broker.deaf = lambda topic: "/c/" in topic
    pair.broker.kick()
    await until(lambda: pair.detached)
    await until(lambda: pair.broker.attempts >= 4)
    assert len(pair.attached) == 1
    assert len(pair.detached) == 1
    assert pair.failed[0] == ("mqtts://one.example", pair.agent.view().why)
    pair.broker.deaf = lambda _topic: False
    await until(lambda: len(pair.attached) == 2)


def test_a_pause_is_random_below_a_bound_that_doubles() -> None:
    """Brokers that come back must not meet all their devices at once."""
    longest = [pause_seconds(failures, 300, lambda n: b"\xff" * n) for failures in range(1, 11)]
    assert [round(one) for one in longest] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert pause_seconds(8, 300, bytes) == 0
    assert pause_seconds(8, 300, lambda size: b"\x80" + bytes(size - 1)) == 128
    assert pause_seconds(10_000, 300, lambda size: b"\x80" + bytes(size - 1)) == 150


async def test_a_pause_ends_when_the_networks_change(
    pair: RemotePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.remote.agent.ADDRESS_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("peer.remote.broker_link.pause_seconds", lambda *_args: 3600)
    pair.broker.is_down = True
    pair.broker.kick()
    await until(lambda: pair.agent.view().state is LinkState.WAITING)
    pair.broker.is_down = False
    pair.watches[0].fire()
    await until(lambda: len(pair.attached) == 2)


async def test_a_connection_is_checked_when_networks_change(
    pair: RemotePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TCP connection over an address that is gone looks open for minutes."""
    monkeypatch.setattr("peer.remote.agent.ADDRESS_SETTLE_SECONDS", 0.0)
    pair.broker.deaf = lambda topic: "/c/" in topic
    pair.watches[0].fire()
    await until(lambda: pair.detached)


async def test_a_device_listens_for_the_keys_that_may_connect(pair: RemotePair) -> None:
    other = Identity.create()
    own = topic_of(pair, pair.client)
    await until(lambda: pair.broker.topics() == {own})
    pair.allow(pair.client.fingerprint, other.fingerprint)
    await until(lambda: pair.broker.topics() == {own, topic_of(pair, other)})
    pair.allow(other.fingerprint)
    await until(lambda: pair.broker.topics() == {topic_of(pair, other)})
    pair.broker.kick()
    await until(lambda: len(pair.attached) == 2)
    await until(lambda: pair.broker.topics() == {topic_of(pair, other)})


async def test_a_key_that_lost_its_right_is_not_answered_from_the_same_turn_on(
    pair: RemotePair,
) -> None:
    """Even if the broker continues delivering."""
    pair.broker.change = lambda _topic, _data: None  # the request is lost on its way
    opening = asyncio.create_task(pair.open())
    await until(lambda: any("/d/" in topic for topic, _ in pair.broker.published))
    (request,) = [data for topic, data in pair.broker.published if "/d/" in topic]
    await cancel_all([opening])  # it would repeat the request
    published = len(pair.broker.published)
    pair.allow()
    for connection in pair.broker.connections:
        connection.inbox.put_nowait((topic_of(pair, pair.client), request))
    await until(lambda: pair.agent.view().counters.get("messages-topic"))
    assert len(pair.broker.published) == published


async def test_an_internal_error_in_one_message_stops_no_other(
    pair: RemotePair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.limits = replace(LIMITS, connect_request_again_seconds=0.1)
    pair.refusals.fails = True
    opening = asyncio.create_task(pair.open())
    await until(lambda: caplog.records)
    pair.refusals.fails = False
    assert (await opening).is_open, "the request was repeated"
    assert len(pair.attached) == 1
    assert [one.getMessage() for one in caplog.records] == [
        "cannot process a message of mqtts://one.example (logged once)"
    ]


async def test_a_carrier_that_fails_with_an_internal_error_does_not_stop_the_other(
    pair: RemotePair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.ice.broken.add(CarrierKind.RELAY)
    connection = await pair.open()
    assert connection.peer.path == "direct"
    assert caplog.records[0].getMessage() == "the relay carrier failed"


async def test_replayed_messages_open_nothing(pair: RemotePair) -> None:
    """An evil broker replays all that it has seen, in each order, on each topic."""
    connection = await pair.open()
    await connection.close()
    await until(lambda: not pair.agent.view().paths)
    await until(lambda: not pair.ice.open_carriers())
    seen, made = list(pair.broker.published), len(pair.ice.made)
    own = topic_of(pair, pair.client)
    for topic in {topic for topic, _ in seen}:
        for _, data in [*seen, *reversed(seen)]:
            pair.broker.deliver(topic, data)
    await until(lambda: all(one.inbox.empty() for one in pair.broker.connections))
    assert own in {topic for topic, _ in seen}
    assert len(pair.ice.made) == made, "no candidate was gathered"
    assert pair.agent.view().paths == ()
    answers = pair.broker.published[len(seen) :]
    assert len(answers) <= 5, "challenges, as for each repeated request"


async def test_a_flood_of_garbage_changes_nothing(pair: RemotePair) -> None:
    """11,000 messages: nothing is answered, memory stays flat, and a client gets in meanwhile."""
    topic = topic_of(pair, pair.client)
    (device,) = pair.broker.connections
    garbage = [secrets.token_bytes(size) for size in (0, 1, 28, 156, 540, 4124)]

    async def flood(count: int) -> None:
        for number in range(count):
            device.inbox.put_nowait((topic, garbage[number % len(garbage)]))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await until(device.inbox.empty)

    await flood(1000)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flooding = asyncio.create_task(flood(10_000))
    connection = await pair.open()
    await flooding
    await connection.close()
    await until(lambda: not pair.agent.view().paths)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 300_000
    assert pair.agent.view().counters["messages-malformed"] == 11_000


async def test_paths_that_are_not_used_end(pair: RemotePair) -> None:
    connection = await pair.open()
    assert pair.agent.view().paths
    skip_time(LIMITS.path_idle_seconds)
    await until(lambda: not pair.agent.view().paths)
    assert pair.agent.view().counters["paths-idle"] == 1
    await until(lambda: not connection.is_open)


async def test_other_settings_end_the_paths_of_the_former_ones(pair: RemotePair) -> None:
    connection = await pair.open()
    await pair.agent.apply(pair.settings())
    assert connection.is_open, "the same settings change nothing"
    pair.brokers["mqtts://two.example"] = MemoryBroker()
    await pair.agent.apply(pair.settings())
    assert pair.agent.view().paths == ()
    await until(lambda: not connection.is_open)
    await until(lambda: len(pair.agent.view().brokers) == 2)
