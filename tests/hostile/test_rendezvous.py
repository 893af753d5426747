"""Attackers of the rendezvous: an evil broker, an insider of the account, a thief of a pair secret.

The broker, and everyone with the same account, sees each sealed message and may drop, delay,
reorder, repeat, alter and move it. A thief has the pair secret of one client, and can seal.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from random import Random

import pytest

from peer.remote.device_rendezvous import DropReason
from peer.remote.effects import Publish
from peer.remote.limits import DEFAULT_REMOTE_LIMITS as LIMITS
from peer.remote.limits import OFFER_REPEATS
from peer.remote.messages import CarrierKind
from tests.kit.rendezvous import (
    PREFIX,
    SimulatedClient,
    SimulatedDevice,
    challenge_of,
    client_of,
    connect,
    forged,
    key_of,
    new_attempt,
    offer_of,
    topic_of,
)

ANNA, BOB = key_of(1), key_of(2)


def recorded(device: SimulatedDevice, *, seed: int = 0) -> tuple[list[Publish], list[Publish]]:
    """Connect once; returns the messages of the client and of the device."""
    client = client_of(device, seed=seed)
    before = len(device.published)
    connect(device, client)
    sent = [effect for effect in client.effects if isinstance(effect, Publish)]
    return sent, device.published[before:]


# ------------------------------------------------------------------------------------- the broker


def test_replayed_messages_draw_one_challenge_per_request_and_never_a_gathering() -> None:
    device = SimulatedDevice()
    sent, _ = recorded(device)
    device.act(device.rendezvous.path_ended(device.opened[0].path_id, 1.0))
    device.act(device.rendezvous.handle_timeout(100.0))
    random = Random(1)
    requests = replies = 0
    for round_number in range(30):
        random.shuffle(sent)
        for message in sent:
            answer = device.receive(message, 100.0 + 20 * round_number)
            requests += len(message.data) == 156
            replies += len(answer)
            assert all(len(one.data) == 156 for one in answer)
    assert requests == replies == 30
    assert len(device.opened) == 1


def test_a_flood_of_replays_draws_a_bounded_number_of_messages() -> None:
    device = SimulatedDevice()
    [request, *_], _ = recorded(device)
    device.act(device.rendezvous.path_ended(device.opened[0].path_id, 1.0))
    replies = 0
    for number in range(20_000):  # in 10 s
        replies += len(device.receive(request, 100.0 + number / 2000))
    assert replies <= 1 + OFFER_REPEATS
    assert len(device.opened) == 1


def test_a_flood_of_different_recorded_requests_draws_a_bounded_number_of_messages() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    requests = []
    for seed in range(500):
        client = client_of(device, seed=seed)
        requests.append(client.start())
    replies = [reply for request in requests for reply in device.receive(request)]
    assert len(replies) == LIMITS.connect_request_burst + 1  # the last one is a refusal
    assert device.opened == []
    connect(device, client_of(device, BOB, seed=501))


def test_replays_after_a_restart_of_the_device_open_no_path() -> None:
    sent, _ = recorded(SimulatedDevice())
    restarted = SimulatedDevice(boot=1)
    replies = [reply for message in sent for reply in restarted.receive(message)]
    assert len(replies) == 1
    assert restarted.opened == []


def test_an_offer_for_an_older_challenge_of_the_same_request_is_dropped() -> None:
    before, device = SimulatedDevice(), SimulatedDevice(boot=1)
    client = client_of(before)
    request = client.start()
    client.gather(*CarrierKind)
    [old_challenge], [_new_challenge] = before.receive(request), device.receive(request)
    for offer in client.receive(old_challenge):
        assert device.receive(offer) == []
    assert device.opened == []
    assert device.rendezvous.dropped[DropReason.STALE] == 1


def test_a_delayed_offer_opens_no_path() -> None:
    device, client = new_attempt()
    device.receive(offer_of(device, client, *CarrierKind), LIMITS.challenge_seconds)
    assert device.opened == []


def test_reordered_messages_of_two_attempts_open_only_what_the_client_asked_for() -> None:
    random = Random(2)
    for _ in range(100):
        device = SimulatedDevice()
        clients = [client_of(device, seed=seed) for seed in range(2)]
        pool = [client.start() for client in clients]
        pool += [one for client in clients for one in client.gather(*CarrierKind)]
        seen = list(pool)
        for _step in range(40):
            message = random.choice(seen)  # may be delivered again
            new = device.receive(message)
            for client in clients:
                new += client.receive(message)
            seen += new
            for opened in device.opened:
                seen += device.gather(opened.path_id, random.choice(list(CarrierKind)))
        for client in clients:
            for agreed in client.agreed:
                assert agreed.path_keys in [one.path_keys for one in device.opened]
        assert len({one.path_id for one in device.opened}) == len(device.opened) <= 2


def test_altered_messages_draw_nothing() -> None:
    device, client = new_attempt()
    request = client.start()
    for at in range(len(request.data)):
        assert device.receive(forged(request, at)) == []
    for data in (request.data[:-1], request.data + b"\0", request.data * 2, b""):
        assert device.receive(replace(request, data=data)) == []
    assert device.rendezvous.dropped == {DropReason.MALFORMED: len(request.data) + 4}


def test_altered_messages_of_the_device_change_nothing_at_the_client() -> None:
    device, client = new_attempt()
    challenge = challenge_of(device, client)
    client.gather(*CarrierKind)
    for at in range(len(challenge.data)):
        assert client.receive(forged(challenge, at)) == []
    assert len(client.receive(challenge)) == 1


def test_a_message_moved_to_the_topic_of_another_client_draws_nothing() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    sent, _ = recorded(device)
    for message in sent:
        assert device.receive(replace(message, topic=topic_of(device, BOB))) == []
        assert device.receive(replace(message, topic=f"{PREFIX}/d/")) == []
        assert device.receive(replace(message, topic=f"hf1/bob/d/{message.topic[-26:]}")) == []
    assert device.rendezvous.dropped == {
        DropReason.MALFORMED: len(sent),
        DropReason.TOPIC: 2 * len(sent),
    }


def test_a_message_of_the_device_reflected_to_it_draws_nothing() -> None:
    device = SimulatedDevice()
    _, replies = recorded(device)
    for reply in replies:
        assert device.receive(replace(reply, topic=topic_of(device, ANNA))) == []
    assert device.rendezvous.dropped == {DropReason.MALFORMED: len(replies)}


def test_sealed_messages_show_neither_keys_nor_addresses_and_have_five_sizes() -> None:
    device = SimulatedDevice()
    sent, replies = recorded(device)
    for message in sent + replies:
        assert len(message.data) in {156, 540, 1052, 2076, 4124}
        for secret in (ANNA.digest, b"192.0.2.", b"udp", b"pppp", b"client", b"device"):
            assert secret not in message.data
    topics = {message.topic for message in sent + replies}
    assert all(ANNA.hex not in topic and ANNA.device_id not in topic for topic in topics)


def test_equal_messages_never_look_equal() -> None:
    client = client_of(SimulatedDevice())
    request = client.start()
    [repeat] = client.act(client.rendezvous.handle_timeout(1.5))
    assert request.data != repeat.data


# ----------------------------------------------------------------------------- garbage and floods


def garbage(device: SimulatedDevice, random: Random) -> Publish:
    """A message from someone without the secret, often of a valid size and on a valid topic."""
    topic = random.choice([topic_of(device, ANNA), f"{PREFIX}/d/{'a' * 26}", "", "hf1/x/d/y"])
    size = random.choice([0, 1, 27, 28, 155, 156, 156, 540, 4124, 5000])
    return Publish(topic, random.randbytes(size))


def test_a_hundred_thousand_garbage_messages_take_no_memory() -> None:
    device = SimulatedDevice()
    random = Random(3)
    samples = [garbage(device, random) for _ in range(500)]
    connect(device, client_of(device, seed=1))
    remembered = len(device.rendezvous)
    tracemalloc.start()
    try:
        for round_number in range(200):
            for message in samples:
                assert device.receive(message, 1.0) == []
            if round_number == 0:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert len(device.rendezvous) == remembered
    assert device.rendezvous.dropped.total() == 100_000


def test_a_thief_of_a_secret_is_within_the_bounds_of_that_client() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    most = 0
    for seed in range(1000):  # in 50 s, each with a valid seal and its own nonce
        now = seed / 20
        thief = client_of(device, seed=seed)
        thief.gather(*CarrierKind)
        pool = [thief.start(now)]
        while pool:
            message = pool.pop()
            pool += thief.receive(message, now)
            pool += device.receive(message, now)
        most = max(most, len(device.rendezvous))
    assert most <= LIMITS.remote_challenges + 2 * LIMITS.remote_paths_per_key + 2
    assert len(device.opened) <= LIMITS.connect_request_burst + 50 * 0.5 + 1
    assert {one.key for one in device.opened} == {ANNA}
    other = client_of(device, BOB, seed=1001)
    connect(device, other, now=100.0)
    assert other.agreed[0].is_new


def test_a_thief_gets_paths_for_the_key_of_that_client_only() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    connect(device, client_of(device, ANNA))  # the thief needs this client's private key as well
    assert [one.key for one in device.opened] == [ANNA]


def test_a_thief_without_candidates_keeps_no_gathering_busy() -> None:
    device = SimulatedDevice(clients=tuple(map(key_of, range(6))))
    thieves = [client_of(device, key_of(number), seed=number) for number in range(4)]
    for thief in thieves:
        thief.gather(*CarrierKind)
        challenge = challenge_of(device, thief)
        for offer in thief.receive(challenge):
            device.receive(offer)
    assert len(device.opened) == LIMITS.gatherings
    device.act(device.rendezvous.handle_timeout(LIMITS.gathering_seconds))
    connect(device, client_of(device, key_of(5), seed=9), now=LIMITS.gathering_seconds)


# ----------------------------------------------------------------------------------- former clients


def test_a_revoked_client_draws_nothing() -> None:
    device = SimulatedDevice()
    path_id = connect(device, client_of(device, seed=1))
    keys = topic_of(device, ANNA)[-26:]
    del device.pairs[keys]
    device.act(device.rendezvous.end_client(ANNA, 1.0))
    assert device.ended == [path_id]
    client = client_of(device, seed=2)
    assert device.receive(client.start(2.0), 2.0) == []
    assert device.rendezvous.dropped == {DropReason.TOPIC: 1}


@pytest.mark.parametrize("is_of_other", [False, True])
def test_only_the_owner_of_a_path_gives_it_new_carriers(*, is_of_other: bool) -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    path_id = connect(device, client_of(device, ANNA, seed=1))
    other: SimulatedClient = client_of(
        device, BOB if is_of_other else ANNA, seed=2, path_id=path_id
    )
    connect(device, other)
    assert (other.agreed[0].path_id == path_id) is not is_of_other
    assert len(device.renewed) == (not is_of_other)
