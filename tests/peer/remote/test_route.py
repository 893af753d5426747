"""A client opens a path to a device and keeps it: broker and carriers in memory, real DTLS."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peer.errors import Denied, HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.identity import Identity
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import SessionRoute
from peer.net.tasks import cancel_all
from peer.remote.messages import CarrierKind, RefusalReason
from peer.remote.route_steps import StepKind
from tests.kit.memory_remote import MemoryBroker
from tests.kit.remote_pair import LIMITS, RemotePair
from tests.kit.waiting import skip_time, until

DIRECT, RELAY = CarrierKind.DIRECT, CarrierKind.RELAY
BUSY_SECONDS = 3600.0
"""The pause of a busy device. No time in which a test makes requests adds one to its rate."""


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


async def answer(connection: CoapsConnection, path: str = "echo") -> str:
    response = await connection.request(get(path))
    assert response.code is Code.CONTENT
    return str(response.payload.decode())


async def test_a_client_reaches_its_device_over_a_broker_and_carriers(pair: RemotePair) -> None:
    connection = await pair.open()
    assert await answer(connection) == pair.client.fingerprint.hex
    assert (pair.revisions, pair.addresses) == ([77], ["192.0.2.1:5684"])
    assert [step.kind for step in pair.steps][-1] is StepKind.SESSION
    assert all(step.is_ok for step in pair.steps)
    (path,) = pair.agent.view().paths
    assert (path.key, path.is_live) == (pair.client.fingerprint, True)


async def test_a_session_is_not_local_with_both_ends_on_one_link(pair: RemotePair) -> None:
    """The server calls every datagram of loopback local; and ICE has chosen addresses of it."""
    pair.ice.addresses = {"198.51.100.3": "127.0.0.1", "203.0.113.7": "127.0.0.1"}
    seen = json.loads(await answer(await pair.open(), "who"))
    assert (seen["local"], seen["rule"]) == (False, "path")
    (session,) = pair.served.server.sessions()
    assert session.address.host == "127.0.0.1"
    assert not session.is_local


async def test_nothing_on_the_way_shows_a_key_or_a_certificate(pair: RemotePair) -> None:
    """A relay sees all datagrams, and a broker all messages: neither has a public key."""
    connection = await pair.open()
    await answer(connection)
    wire = [*pair.ice.sent, *(data for _, data in pair.broker.published)]
    for identity in (pair.client, pair.served.identity):
        public = identity.private_key.public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for secret in (point[1:33], identity.fingerprint.digest[:8]):
            assert not any(secret in data for data in wire)
    assert {data[0] for data in pair.ice.sent} == {128, 23}, "sealed flights, application data"


@pytest.mark.parametrize("via", [SessionRoute.DIRECT, SessionRoute.RELAY])
async def test_a_client_can_use_one_carrier_only(pair: RemotePair, via: SessionRoute) -> None:
    connection = await pair.open(via=[via])
    assert connection.peer.path is via
    assert await answer(connection)


@pytest.mark.parametrize("gone", list(CarrierKind))
async def test_one_carrier_that_works_is_enough(pair: RemotePair, gone: CarrierKind) -> None:
    pair.ice.walls.add(gone)
    connection = await pair.open()
    assert await answer(connection)
    assert connection.peer.path == ("relay" if gone is DIRECT else "direct")


@pytest.mark.parametrize("gone", list(CarrierKind))
async def test_one_carrier_that_can_be_gathered_is_enough(
    pair: RemotePair, gone: CarrierKind
) -> None:
    pair.ice.blocked.add(gone)
    assert await answer(await pair.open())


async def test_brokers_are_left_once_both_carriers_work(pair: RemotePair) -> None:
    """A device stays attached; a client needs the broker for the beginning only."""
    connection = await pair.open()
    await until(lambda: pair.broker_connections() == 1)
    assert await answer(connection)


async def test_many_paths_at_once(pair: RemotePair) -> None:
    connections = await asyncio.gather(*(pair.open() for _ in range(4)))
    answers = await asyncio.gather(*(answer(one) for one in connections))
    assert set(answers) == {pair.client.fingerprint.hex}
    assert len(pair.agent.view().paths) == 4
    with pytest.raises(Unreachable, match="too many"):
        await pair.open()


# -- refusals and failures ------------------------------------------------------------------------


async def test_a_refused_client_gets_the_reason(pair: RemotePair) -> None:
    pair.refusals[pair.client.fingerprint] = RefusalReason.DENIED
    with pytest.raises(Denied):
        await pair.open()
    assert pair.ice.sent == []
    assert pair.agent.view().paths == ()


async def test_a_busy_device_is_asked_again_when_it_permits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Above the rate of requests, the device says when to try again."""
    monkeypatch.setattr("peer.remote.route.BUSY_SECONDS", BUSY_SECONDS)
    limits = replace(LIMITS, connect_requests_per_second=1 / BUSY_SECONDS)
    pair = await RemotePair.start(limits)
    for _ in range(limits.connect_request_burst):
        await (await pair.open()).close()
        await until(lambda: not pair.agent.view().paths)
    sent = len(pair.broker.published)
    opening = asyncio.create_task(pair.open())
    await until(lambda: len(pair.broker.published) == sent + 2)  # the request, and a refusal
    await until(lambda: len(pair.broker.connections) == 1)  # the client has left
    skip_time(BUSY_SECONDS)
    assert await answer(await opening) == pair.client.fingerprint.hex
    await pair.close()


async def test_a_path_of_one_key_is_refused_for_another_one(pair: RemotePair) -> None:
    """A thief of a pair secret gets a path, and no session: its own key is not that of the pair."""
    async with CoapsClient(Identity.create()) as thief:
        with pytest.raises(HandshakeFailed):
            await pair.open(coaps=thief)
    assert pair.served.server.sessions() == []
    await until(lambda: not pair.agent.view().paths)


async def test_a_client_refuses_another_device_on_the_path(pair: RemotePair) -> None:
    with pytest.raises(PinMismatch):
        await pair.open(pinned=Identity.create().fingerprint)
    await until(lambda: not pair.agent.view().paths)


async def test_a_broker_that_is_down_is_reported(pair: RemotePair) -> None:
    pair.broker.is_down = True
    with pytest.raises(Unreachable, match="broker is down"):
        await pair.open()
    assert [(step.kind, step.is_ok) for step in pair.steps][:1] == [(StepKind.BROKER, False)]


async def test_a_device_that_does_not_listen_is_reported(pair: RemotePair) -> None:
    pair.allow()
    pair.limits = replace(LIMITS, connect_request_seconds=0.05)
    with pytest.raises(Unreachable, match="does not answer at the broker"):
        await pair.open()


async def test_a_device_that_is_silent_after_its_challenge_is_reported(pair: RemotePair) -> None:
    """Everything after the request is lost on its way to the device."""
    messages = 0

    def lose(topic: str, data: bytes) -> bytes | None:
        nonlocal messages
        is_for_device = "/d/" in topic
        messages += is_for_device
        return None if is_for_device and messages > 1 else data

    pair.broker.change = lose
    pair.limits = replace(LIMITS, offer_seconds=0.05)
    with pytest.raises(TimedOut, match="no more"):
        await pair.open()


async def test_no_way_between_the_two_is_reported(pair: RemotePair) -> None:
    pair.ice.walls |= {DIRECT, RELAY}
    pair.limits = replace(LIMITS, check_seconds=0.05)
    with pytest.raises(Unreachable, match="no packets get through"):
        await pair.open()
    failed = [step.subject for step in pair.steps if step.kind is StepKind.CARRIER]
    assert sorted(failed) == ["direct", "relay"]


@pytest.mark.parametrize("when", ["broker", "challenge", "carrier"])
async def test_an_attempt_that_is_cancelled_frees_everything(pair: RemotePair, when: str) -> None:
    """The fixture checks that no connection and no carrier of the client is left."""
    if when == "broker":
        pair.broker.deaf = lambda _topic: True
    elif when == "carrier":
        pair.ice.walls |= {DIRECT, RELAY}
    opening = asyncio.create_task(pair.open())
    await until(lambda: any(step.kind == when for step in pair.steps) or when == "carrier")
    await cancel_all([opening])
    pair.agent.end_client(pair.client.fingerprint)
    await until(lambda: pair.broker_connections() == 1)
    await until(lambda: not pair.ice.open_carriers())


# -- several brokers ------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [0, 1])
async def test_one_of_two_brokers_is_enough(pair: RemotePair, down: int) -> None:
    pair.brokers["mqtts://two.example"] = MemoryBroker()
    await pair.agent.apply(pair.settings())
    await until(lambda: len(pair.attached) == 3)
    [*pair.brokers.values()][down].is_down = True
    assert await answer(await pair.open())


async def test_the_first_broker_with_a_challenge_wins(pair: RemotePair) -> None:
    pair.brokers["mqtts://two.example"] = second = MemoryBroker()
    await pair.agent.apply(pair.settings())
    await until(lambda: len(pair.attached) == 3)
    assert await answer(await pair.open())
    assert [step.kind for step in pair.steps].count(StepKind.CHALLENGE) == 1
    offers = [len([1 for topic, _ in one.published if "/d/" in topic]) for one in (second,)]
    assert len(pair.agent.view().paths) == 1
    assert offers <= [2]


async def test_a_broker_that_is_slow_is_given_up_when_another_one_has_answered(
    pair: RemotePair,
) -> None:
    pair.brokers["mqtts://two.example"] = slow = MemoryBroker()
    slow.is_slow = True
    connection = await pair.open()
    slow.is_slow = False
    assert await answer(connection)
    await until(lambda: pair.broker_connections() == 1)
    assert slow.opened == 0


async def test_a_client_without_a_network_gives_up_at_once(pair: RemotePair) -> None:
    """Even while it still connects with its broker."""
    pair.broker.is_slow = True
    pair.ice.blocked |= {DIRECT, RELAY}
    with pytest.raises(Unreachable):
        await pair.open()
    pair.broker.is_slow = False
    assert not any("/d/" in topic for topic, _ in pair.broker.published)


# -- keeping the path -----------------------------------------------------------------------------


async def observe(connection: CoapsConnection) -> Any:
    stream = connection.observe(get("value"))
    await anext(stream)
    return stream


@pytest.mark.parametrize("kinds", [[DIRECT, RELAY], [DIRECT]], ids=["both", "direct"])
async def test_lost_carriers_are_replaced_below_the_session(
    pair: RemotePair, kinds: list[CarrierKind]
) -> None:
    connection = await pair.open()
    stream = await observe(connection)
    await until(lambda: pair.broker_connections() == 1)
    (before,) = pair.served.server.sessions()
    for kind in kinds:
        pair.ice.lose(kind)
    await until(lambda: any(step.kind is StepKind.RENEWAL for step in pair.steps))
    pair.served.value.set(5)
    assert (await anext(stream)).payload == b"5"
    assert await answer(connection)
    (session,) = pair.served.server.sessions()
    assert session.session_id == before.session_id
    assert len(pair.agent.view().paths) == 1
    await stream.aclose()


async def test_the_last_carrier_is_replaced_as_soon_as_it_is_lost(pair: RemotePair) -> None:
    """Without a ping: there is nothing to send it by."""
    pair.limits = replace(LIMITS, probe_idle_seconds=3600, probe_wait_seconds=3600)
    connection = await pair.open()
    await until(lambda: {one.kind for one in pair.ice.open_carriers()} == {DIRECT})
    pair.ice.lose(DIRECT)
    await until(lambda: any(step.kind is StepKind.RENEWAL for step in pair.steps))
    assert await answer(connection)


async def test_a_silent_path_in_use_gets_new_carriers(pair: RemotePair) -> None:
    """Its carriers lose everything and do not know it: only the ping notices."""
    pair.limits = replace(LIMITS, probe_idle_seconds=0.1, probe_wait_seconds=0.1)
    connection = await pair.open()
    stream = await observe(connection)
    pair.ice.cut |= set(pair.ice.made)
    await until(lambda: any(step.kind is StepKind.RENEWAL and step.is_ok for step in pair.steps))
    pair.served.value.set(6)
    assert (await anext(stream)).payload == b"6"
    await stream.aclose()


async def test_a_silent_path_that_is_not_in_use_sends_nothing(pair: RemotePair) -> None:
    pair.limits = replace(LIMITS, probe_idle_seconds=0.01)
    connection = await pair.open()
    assert await answer(connection)
    await until(lambda: pair.broker_connections() == 1 and connection.silent_seconds > 0.05)
    before = len(pair.ice.sent)
    await until(lambda: connection.silent_seconds > 0.1)
    assert len(pair.ice.sent) == before


async def test_a_path_is_checked_when_the_networks_change(
    pair: RemotePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.remote.route_keeper.ADDRESS_SETTLE_SECONDS", 0.0)
    pair.limits = replace(LIMITS, probe_wait_seconds=0.05)
    connection = await pair.open()
    await until(lambda: len(pair.watches) == 2)  # that of the agent, and that of the route
    pair.ice.cut |= set(pair.ice.made)
    pair.watches[-1].fire()
    await until(lambda: any(step.kind is StepKind.RENEWAL and step.is_ok for step in pair.steps))
    assert await answer(connection)


async def test_a_path_that_the_device_has_ended_is_not_renewed(pair: RemotePair) -> None:
    """The client has missed the end: the device answers its path ID with a new path."""
    connection = await pair.open()
    pair.ice.cut |= set(pair.ice.made)
    pair.agent.end_client(pair.client.fingerprint)
    assert connection.is_open
    pair.ice.lose(DIRECT)
    pair.ice.lose(RELAY)
    await until(lambda: not connection.is_open)


async def test_a_path_that_cannot_be_renewed_ends_after_the_grace_time(pair: RemotePair) -> None:
    pair.limits = replace(LIMITS, path_grace_seconds=0.05)
    connection = await pair.open()
    pair.broker.is_down = True
    pair.ice.lose(DIRECT)
    pair.ice.lose(RELAY)
    await until(lambda: not connection.is_open)
    with pytest.raises(PeerError):
        await answer(connection)


async def test_a_network_that_comes_back_ends_the_pause_between_two_renewals(
    pair: RemotePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.remote.route_keeper.ADDRESS_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("peer.remote.route_keeper.RENEWAL_PAUSE_SECONDS", 3600.0)
    pair.limits = replace(LIMITS, path_grace_seconds=1e6)
    connection = await pair.open()
    await until(lambda: len(pair.watches) == 2)
    pair.broker.is_down = True
    for kind in (DIRECT, RELAY):
        pair.ice.lose(kind)
    await until(lambda: any(step.kind is StepKind.RENEWAL for step in pair.steps))
    pair.broker.is_down = False
    pair.watches[-1].fire()
    await until(lambda: any(step.kind is StepKind.RENEWAL and step.is_ok for step in pair.steps))
    assert await answer(connection)


async def test_closing_a_client_waits_until_its_relay_is_given_back(pair: RemotePair) -> None:
    await pair.open(via=[SessionRoute.RELAY])
    await pair.coaps.close()
    mine = [one for one in pair.ice.made if one.address.host == "198.51.100.3"]
    assert all(one.is_freed for one in mine)


async def test_closing_a_client_waits_for_an_attempt_that_was_cancelled(pair: RemotePair) -> None:
    pair.ice.walls |= {DIRECT, RELAY}
    opening = asyncio.create_task(pair.open())
    await until(lambda: any(step.kind is StepKind.ANSWER for step in pair.steps))
    await cancel_all([opening])
    await pair.coaps.close()
    mine = [one for one in pair.ice.made if one.address.host == "198.51.100.3"]
    assert mine
    assert all(one.is_freed for one in mine)


async def test_the_relay_is_given_back_on_both_sides(pair: RemotePair) -> None:
    connection = await pair.open()
    await until(lambda: {one.kind for one in pair.ice.open_carriers()} == {DIRECT})
    assert await answer(connection)
    (path,) = pair.agent.view().paths
    assert path.route == "direct"


async def test_a_closed_connection_ends_everything(pair: RemotePair) -> None:
    connection = await pair.open()
    await answer(connection)
    await connection.close()
    await until(lambda: not pair.agent.view().paths)
    await until(lambda: not pair.ice.open_carriers())
    assert pair.served.server.sessions() == []
