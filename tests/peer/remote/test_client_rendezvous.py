"""The client's side of the rendezvous: repeats, deadlines, refusals, and what it must ignore."""

from __future__ import annotations

from itertools import product

import pytest

from peer.remote.client_rendezvous import TRANSITIONS, ClientAct
from peer.remote.effects import Challenged, ClientStage, GaveUp, Publish, Refused
from peer.remote.limits import DEFAULT_REMOTE_LIMITS as LIMITS
from peer.remote.messages import (
    Answer,
    Candidates,
    CarrierKind,
    Challenge,
    DeviceMessage,
    Refusal,
    RefusalReason,
)
from tests.kit.rendezvous import (
    SimulatedClient,
    SimulatedDevice,
    carrier,
    challenge_of,
    client_of,
    connect,
    forged,
    new_attempt,
    offer_of,
)

DIRECT, RELAY = CarrierKind


def run_to_end(client: SimulatedClient) -> tuple[list[float], GaveUp]:
    """Let time pass without an answer; returns when the client sent something."""
    times = []
    while (moment := client.rendezvous.next_timeout()) is not None:
        if client.act(client.rendezvous.handle_timeout(moment)):
            times.append(moment)
    last = client.effects[-1]
    assert isinstance(last, GaveUp)
    return times, last


def offered(device: SimulatedDevice) -> SimulatedClient:
    """A client that has sent its offer."""
    client = client_of(device)
    offer_of(device, client, DIRECT)
    return client


def sealed(device: SimulatedDevice, client: SimulatedClient, message: DeviceMessage) -> Publish:
    """A message of the device for this client."""
    topic = client.rendezvous.reply_topic
    keys = device.keys(device.clients[0])
    return Publish(topic, keys.seal_to_client(message, topic, bytes))


def nonce_of(device: SimulatedDevice, client: SimulatedClient) -> bytes:
    """The client nonce of an attempt."""
    [request] = [one for one in client.effects[:1] if isinstance(one, Publish)]
    opened = device.keys(device.clients[0]).open_from_client_untrusted(request.data, request.topic)
    return opened.client_nonce


def test_an_attempt_ends_with_both_sides_knowing_the_same_path() -> None:
    device, client = new_attempt()
    path_id = connect(device, client)
    [opened], [agreed] = device.opened, client.agreed
    assert opened.path_id == agreed.path_id == path_id
    assert opened.path_keys == agreed.path_keys
    assert agreed.is_new
    assert client.remote == {kind: carrier("device", kind) for kind in CarrierKind}
    assert device.remote == {(path_id, kind): carrier("client", kind) for kind in CarrierKind}
    [challenged] = [one for one in client.effects if isinstance(one, Challenged)]
    assert challenged == Challenged(7, ("192.0.2.7:5684",))


def test_a_connect_request_is_repeated_and_then_given_up() -> None:
    client = client_of(SimulatedDevice())
    client.start(100.0)
    client.gather(DIRECT)
    assert run_to_end(client) == ([101.5, 103.0], GaveUp(ClientStage.REQUESTING))
    assert client.rendezvous.is_over
    assert client.act(client.rendezvous.handle_timeout(200.0)) == []
    assert client.gather(RELAY) == []


def test_an_offer_is_repeated_and_then_given_up() -> None:
    client = offered(SimulatedDevice())
    assert run_to_end(client) == ([2.0, 4.0], GaveUp(ClientStage.OFFERED))


def test_a_late_timer_sends_one_repeat_only() -> None:
    client = offered(SimulatedDevice())
    assert len(client.act(client.rendezvous.handle_timeout(5.0))) == 1
    assert client.rendezvous.next_timeout() == LIMITS.offer_seconds


def test_a_repeated_offer_has_the_carriers_gathered_since() -> None:
    device = SimulatedDevice()
    client = offered(device)
    client.gather(RELAY)  # this message is lost
    [repeat] = client.act(client.rendezvous.handle_timeout(2.0))
    device.receive(repeat, 2.0)
    assert set(device.remote) == {(device.opened[0].path_id, kind) for kind in CarrierKind}


def test_a_client_without_candidates_gives_up() -> None:
    client = client_of(SimulatedDevice())
    client.start()
    assert client.act(client.rendezvous.gathered(DIRECT, None, 0.0)) == []
    client.act(client.rendezvous.gathered(RELAY, None, 0.0))
    assert client.effects[-1] == GaveUp(ClientStage.GATHERING)


def test_a_client_that_gathers_too_slowly_gives_up() -> None:
    device, client = new_attempt()
    client.receive(challenge_of(device, client), 1.0)
    assert client.rendezvous.next_timeout() == 1.0 + LIMITS.challenge_seconds
    assert run_to_end(client) == ([], GaveUp(ClientStage.GATHERING))


def test_one_carrier_is_enough() -> None:
    device, client = new_attempt()
    client.act(client.rendezvous.gathered(DIRECT, None, 0.0))
    connect(device, client, kinds=[RELAY])
    assert client.remote == {RELAY: carrier("device", RELAY)}


def test_checks_that_take_too_long_end_the_attempt() -> None:
    device, client = new_attempt()
    connect(device, client)
    assert client.rendezvous.next_timeout() == LIMITS.check_seconds
    assert run_to_end(client) == ([], GaveUp(ClientStage.CHECKING))


def test_an_offer_is_repeated_once_if_a_carrier_of_the_device_is_missing() -> None:
    device, client = new_attempt()
    connect(device, client, kinds=[RELAY])
    assert run_to_end(client) == ([LIMITS.offer_again_seconds], GaveUp(ClientStage.CHECKING))


def test_a_finished_attempt_has_no_further_effects() -> None:
    device, client = new_attempt()
    connect(device, client)
    client.rendezvous.finish()
    assert client.rendezvous.next_timeout() is None
    assert client.rendezvous.stage is ClientStage.ENDED
    assert client.receive(device.published[-1]) == []


@pytest.mark.parametrize("stage", [ClientStage.REQUESTING, ClientStage.OFFERED])
def test_a_refusal_ends_the_attempt_with_its_reason(stage: ClientStage) -> None:
    device = SimulatedDevice()
    client = client_of(device) if stage is ClientStage.REQUESTING else offered(device)
    if stage is ClientStage.REQUESTING:
        client.start()
    assert client.rendezvous.stage is stage
    refusal = Refusal(nonce_of(device, client), RefusalReason.BUSY, 2)
    client.receive(sealed(device, client, refusal))
    assert client.effects[-1] == Refused(RefusalReason.BUSY, 2)
    assert client.rendezvous.is_over


def test_a_refusal_after_the_answer_is_too_late() -> None:
    device, client = new_attempt()
    connect(device, client)
    refusal = Refusal(nonce_of(device, client), RefusalReason.DENIED)
    client.receive(sealed(device, client, refusal))
    assert client.rendezvous.stage is ClientStage.CHECKING


def test_messages_of_other_attempts_and_forged_ones_are_dropped() -> None:
    device = SimulatedDevice()
    client = offered(device)
    before = list(client.effects)
    other = bytes(16)
    offer = {DIRECT: carrier("device", DIRECT)}
    messages: list[DeviceMessage] = [
        Challenge(other, other, 1),
        Answer(other, offer),
        Answer(nonce_of(device, client), offer, other),  # continues a path that is not its own
        Candidates(other, offer),
        Refusal(other, RefusalReason.DENIED),
    ]
    for message in messages:
        client.receive(sealed(device, client, message))
        client.receive(forged(sealed(device, client, message)))
    assert client.effects == before
    assert client.rendezvous.dropped == 10
    assert client.rendezvous.stage is ClientStage.OFFERED


def test_a_message_that_was_moved_to_the_topic_of_another_attempt_is_dropped() -> None:
    device = SimulatedDevice()
    first, second = client_of(device, seed=1), client_of(device, seed=2)
    connect(device, first)
    second.start()
    for message in device.published:
        moved = Publish(second.rendezvous.reply_topic, message.data)
        assert second.receive(moved) == []
    assert second.rendezvous.stage is ClientStage.REQUESTING


def test_a_second_challenge_changes_nothing() -> None:
    device = SimulatedDevice()
    client = offered(device)
    again = Challenge(nonce_of(device, client), b"x" * 16, 8)
    assert client.receive(sealed(device, client, again)) == []
    assert client.effects.count(Challenged(8, ())) == 0


def test_each_attempt_has_a_topic_of_its_own() -> None:
    device = SimulatedDevice()
    topics = {client_of(device, seed=seed).rendezvous.reply_topic for seed in range(20)}
    assert len(topics) == 20


def test_the_table_has_no_other_transitions() -> None:
    order = list(ClientStage)
    for stage, act in product(ClientStage, ClientAct):
        following = TRANSITIONS.get((stage, act))
        assert following is None or order.index(following) >= order.index(stage)
    assert {stage for (stage, act) in TRANSITIONS if act is ClientAct.END} == set(ClientStage)
