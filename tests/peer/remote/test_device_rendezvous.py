"""The device's side of the rendezvous: stages, bounds and deadlines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.remote.device_rendezvous import DropReason
from peer.remote.effects import ClientStage, GaveUp, Refused
from peer.remote.limits import DEFAULT_REMOTE_LIMITS as LIMITS
from peer.remote.limits import OFFER_REPEATS
from peer.remote.messages import CarrierKind, RefusalReason
from tests.kit.rendezvous import (
    SimulatedClient,
    SimulatedDevice,
    carrier,
    challenge_of,
    client_of,
    connect,
    key_of,
    new_attempt,
    offer_of,
)

DIRECT, RELAY = CarrierKind
ANNA, BOB = key_of(1), key_of(2)


def deliver_offer(device: SimulatedDevice, client: SimulatedClient, now: float = 0.0) -> None:
    """Bring an attempt to its offer; the device is gathering then."""
    for reply in device.receive(offer_of(device, client, DIRECT, now=now), now):
        client.receive(reply, now)


def live(device: SimulatedDevice, *, seed: int, now: float = 0.0) -> bytes:
    """Open a path that works; returns its ID."""
    path_id = connect(device, client_of(device, seed=seed), now=now)
    device.act(device.rendezvous.path_state(path_id, is_live=True, now=now))
    return path_id


def wait(device: SimulatedDevice, until: float) -> list[float]:
    """Let time pass; returns the times at which the device had something to do."""
    times = []
    while (moment := device.rendezvous.next_timeout()) is not None and moment <= until:
        device.act(device.rendezvous.handle_timeout(moment))
        times.append(moment)
    return times


# ---------------------------------------------------------------------------- requests and offers


def test_a_connect_request_makes_the_device_send_one_challenge_only() -> None:
    device, client = new_attempt()
    request = client.start()
    [challenge] = device.receive(request)
    assert len(challenge.data) == len(request.data) == 156
    assert device.opened == []


def test_a_repeated_connect_request_gets_the_same_challenge_a_few_times() -> None:
    device, client = new_attempt()
    request = client.start()
    replies = [reply for _ in range(20) for reply in device.receive(request)]
    assert len(replies) == 1 + OFFER_REPEATS
    opened = {
        device.keys(ANNA).open_from_device_untrusted(reply.data, reply.topic) for reply in replies
    }
    assert len(opened) == 1
    assert device.rendezvous.dropped == {DropReason.REPEATED: 19 - OFFER_REPEATS}


def test_an_offer_counts_until_its_challenge_is_too_old() -> None:
    for late, paths in ((LIMITS.challenge_seconds - 0.01, 1), (LIMITS.challenge_seconds, 0)):
        device, client = new_attempt()
        offer = offer_of(device, client, DIRECT)
        assert device.receive(offer, late) == []
        assert len(device.opened) == paths
        assert device.rendezvous.dropped[DropReason.STALE] == 1 - paths


def test_a_repeated_offer_gets_the_same_answer_a_few_times_and_opens_one_path() -> None:
    device, client = new_attempt()
    offer = offer_of(device, client, DIRECT)
    assert device.receive(offer) == []
    assert device.receive(offer) == []  # still gathering
    sent = device.gather(device.opened[0].path_id, RELAY, DIRECT)
    assert len(sent) == 2
    replies = [device.receive(offer) for _ in range(20)]
    assert replies[: OFFER_REPEATS - 1] == [sent] * (OFFER_REPEATS - 1)
    assert replies[OFFER_REPEATS - 1 :] == [[]] * (21 - OFFER_REPEATS)
    assert len(device.opened) == 1


def test_the_answer_has_the_first_carrier_and_a_second_message_the_other() -> None:
    device, client = new_attempt()
    deliver_offer(device, client)
    for kind in (RELAY, DIRECT):
        for reply in device.gather(device.opened[0].path_id, kind):
            client.receive(reply)
        assert client.remote[kind] == carrier("device", kind)
    assert list(client.remote) == [RELAY, DIRECT]


def test_a_carrier_is_reported_once_and_for_a_known_path_only() -> None:
    device = SimulatedDevice()
    deliver_offer(device, client_of(device))
    path_id = device.opened[0].path_id
    assert len(device.gather(path_id, DIRECT, DIRECT)) == 1
    assert device.gather(bytes(16), DIRECT) == []


def test_a_device_without_candidates_says_so_and_forgets_the_path() -> None:
    device, client = new_attempt()
    deliver_offer(device, client)
    path_id = device.opened[0].path_id
    device.act(device.rendezvous.gathered(path_id, DIRECT, None, 1.0))
    for reply in device.act(device.rendezvous.gathered(path_id, RELAY, None, 1.0)):
        client.receive(reply)
    assert client.effects[-1] == Refused(RefusalReason.NO_PATH, None)
    assert device.ended == [path_id]
    assert device.rendezvous.next_timeout() is None


def test_one_carrier_that_cannot_be_gathered_is_no_failure() -> None:
    for order in ((DIRECT, RELAY), (RELAY, DIRECT)):
        device = SimulatedDevice()
        deliver_offer(device, client_of(device))
        path_id = device.opened[0].path_id
        sent = []
        for kind in order:
            offer = carrier("device", kind) if kind is RELAY else None
            sent += device.act(device.rendezvous.gathered(path_id, kind, offer, 0.0))
        assert len(sent) == 1
        assert device.ended == []


def test_a_denied_key_is_refused_at_the_request_and_at_the_offer() -> None:
    device, client = new_attempt(refused={ANNA: RefusalReason.DENIED})
    for reply in device.receive(client.start()):
        client.receive(reply)
    assert client.effects[-1] == Refused(RefusalReason.DENIED, None)

    device, client = new_attempt()
    challenge = challenge_of(device, client)
    client.gather(DIRECT)
    device.refused[ANNA] = RefusalReason.DENIED
    for offer in client.receive(challenge):
        for reply in device.receive(offer):
            client.receive(reply)
    assert client.effects[-1] == Refused(RefusalReason.DENIED, None)
    assert device.opened == []


def test_a_challenge_has_valid_addresses_only_and_eight_at_most() -> None:
    addresses = ("", "no port", *(f"192.0.2.{number}:5684" for number in range(1, 12)))
    device, client = new_attempt(addresses=addresses)
    challenge = challenge_of(device, client)
    opened = device.keys(ANNA).open_from_device_untrusted(challenge.data, challenge.topic)
    assert opened.addresses == addresses[2:10]  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------- renewals


def test_a_path_continues_with_new_carriers_and_its_own_keys() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    device.act(device.rendezvous.path_state(path_id, is_live=False, now=10.0))
    again = client_of(device, seed=2, path_id=path_id)
    assert connect(device, again, now=20.0) == path_id
    assert not again.agreed[0].is_new
    assert again.agreed[0].path_keys is None
    assert [one.path_id for one in device.renewed] == [path_id]
    assert len(device.opened) == 1
    device.act(device.rendezvous.path_state(path_id, is_live=True, now=21.0))
    assert wait(device, 10_000.0) == [20.0 + LIMITS.check_seconds]  # the attempt is forgotten
    assert device.ended == []


def test_the_path_of_another_key_never_continues() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    path_id = live(device, seed=1)
    thief = client_of(device, BOB, seed=2, path_id=path_id)
    opened = connect(device, thief)
    assert opened != path_id
    assert thief.agreed[0].is_new
    assert device.renewed == []
    assert [one.key for one in device.opened] == [ANNA, BOB]


def test_a_path_that_is_unknown_is_opened_anew() -> None:
    device = SimulatedDevice()
    client = client_of(device, path_id=b"x" * 16)
    connect(device, client)
    assert client.agreed[0].is_new


def test_a_renewal_replaces_one_that_is_not_finished() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    deliver_offer(device, client_of(device, seed=2, path_id=path_id))
    second = client_of(device, seed=3, path_id=path_id)
    connect(device, second)
    assert len(device.renewed) == 2
    assert second.remote == {kind: carrier("device", kind) for kind in CarrierKind}


def test_a_renewal_without_candidates_leaves_a_working_path_alone() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    deliver_offer(device, client_of(device, seed=2, path_id=path_id))
    for kind in CarrierKind:
        device.act(device.rendezvous.gathered(path_id, kind, None, 1.0))
    wait(device, 10_000.0)
    assert device.ended == []


def test_a_nonce_of_a_path_cannot_be_used_again() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    connect(device, client_of(device, ANNA, seed=1))
    same_nonce = client_of(device, BOB, seed=1)  # the same random bytes
    assert device.receive(same_nonce.start()) == []
    assert device.rendezvous.dropped == {DropReason.STALE: 1}


def test_two_keys_that_use_one_nonce_at_the_same_time_get_one_path() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    clients = [client_of(device, key, seed=1) for key in (ANNA, BOB)]
    challenges = []
    for client in clients:
        challenges += device.receive(client.start())
        client.gather(DIRECT)
    for client, challenge in zip(clients, challenges, strict=True):
        [offer] = client.act(client.rendezvous.receive_untrusted(challenge.data, 0.0))
        device.receive(offer)
    assert [one.key for one in device.opened] == [ANNA]


# --------------------------------------------------------------------------------------- deadlines


def test_gathering_that_takes_too_long_is_refused() -> None:
    device, client = new_attempt()
    deliver_offer(device, client)
    assert wait(device, 1000.0) == [LIMITS.gathering_seconds]
    client.receive(device.published[-1], LIMITS.gathering_seconds)
    assert client.effects[-1] == Refused(RefusalReason.NO_PATH, None)
    assert device.ended == [device.opened[0].path_id]


def test_a_path_on_which_no_carrier_works_ends() -> None:
    device = SimulatedDevice()
    path_id = connect(device, client_of(device), now=1.0)
    device.act(device.rendezvous.path_state(path_id, is_live=False, now=2.0))
    assert wait(device, 1000.0) == [1.0 + LIMITS.check_seconds]
    assert device.ended == [path_id]


def test_a_path_that_loses_its_carriers_ends_after_its_grace() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    wait(device, 100.0)
    for now in (100.0, 130.0):  # the second report does not extend it
        device.act(device.rendezvous.path_state(path_id, is_live=False, now=now))
    assert wait(device, 1000.0) == [100.0 + LIMITS.path_grace_seconds]
    assert device.ended == [path_id]


def test_a_path_does_not_end_while_it_gets_new_carriers() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    device.act(device.rendezvous.path_state(path_id, is_live=False, now=100.0))
    renewed = 100.0 + LIMITS.path_grace_seconds - 1
    connect(device, client_of(device, seed=2, path_id=path_id), now=renewed)
    device.act(device.rendezvous.handle_timeout(renewed + LIMITS.check_seconds - 0.01))
    assert device.ended == []
    assert wait(device, 1000.0) == [renewed + LIMITS.check_seconds]
    assert device.ended == [path_id]


def test_a_late_timer_does_not_let_an_overdue_offer_pass() -> None:
    device, client = new_attempt()
    device.receive(offer_of(device, client, DIRECT), 100.0)  # `handle_timeout` was never called
    assert device.opened == []


def test_a_path_that_has_ended_is_forgotten() -> None:
    device = SimulatedDevice()
    path_id = live(device, seed=1)
    device.act(device.rendezvous.path_ended(path_id, 1.0))
    device.act(device.rendezvous.path_ended(path_id, 1.0))
    assert device.ended == []  # the driver knows already
    again = client_of(device, seed=2, path_id=path_id)
    connect(device, again)
    assert again.agreed[0].is_new


def test_a_key_that_loses_its_right_loses_its_paths_and_attempts_at_once() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    lost = live(device, seed=1)
    kept = connect(device, client_of(device, BOB, seed=2))
    client = client_of(device, seed=3)
    challenge = challenge_of(device, client)
    device.act(device.rendezvous.end_client(ANNA, 0.0))
    assert device.ended == [lost]
    client.gather(DIRECT)
    for offer in client.receive(challenge):
        assert device.receive(offer) == []
    assert [one.path_id for one in device.opened] == [lost, kept]


# ------------------------------------------------------------------------------------------ bounds


def test_a_key_has_four_paths_at_most() -> None:
    device = SimulatedDevice()
    paths = [live(device, seed=seed, now=20.0 * seed) for seed in range(4)]
    client = client_of(device, seed=9)
    deliver_offer(device, client, 100.0)
    assert client.effects[-1] == Refused(RefusalReason.TOO_MANY, None)
    assert len(device.opened) == 4
    # One without a carrier yields.
    device.act(device.rendezvous.path_state(paths[2], is_live=False, now=101.0))
    live(device, seed=10, now=102.0)
    assert device.ended == [paths[2]]


def test_a_device_has_sixteen_paths_at_most() -> None:
    clients = tuple(map(key_of, range(6)))
    device = SimulatedDevice(clients=clients)
    paths = []
    for number in range(16):
        path_id = connect(device, client_of(device, clients[number // 4], seed=number))
        device.act(device.rendezvous.path_state(path_id, is_live=True, now=0.0))
        paths.append(path_id)
    client = client_of(device, clients[4], seed=20)
    deliver_offer(device, client)
    assert client.effects[-1] == Refused(RefusalReason.TOO_MANY, None)
    device.act(device.rendezvous.path_state(paths[5], is_live=False, now=1.0))
    connect(device, client_of(device, clients[4], seed=21), now=2.0)
    assert device.ended == [paths[5]]


def test_a_device_gathers_for_four_offers_at_the_same_time() -> None:
    clients = tuple(map(key_of, range(5)))
    device = SimulatedDevice(clients=clients)
    attempts = [client_of(device, key, seed=number) for number, key in enumerate(clients)]
    for attempt in attempts:
        deliver_offer(device, attempt)
    assert len(device.opened) == LIMITS.gatherings
    assert attempts[-1].effects[-1] == Refused(RefusalReason.BUSY, 2)


def test_connect_requests_above_the_rate_of_a_key_are_refused_once_and_then_ignored() -> None:
    device = SimulatedDevice(clients=(ANNA, BOB))
    results = []
    for seed in range(LIMITS.connect_request_burst + 5):
        client = client_of(device, seed=seed)
        for reply in device.receive(client.start()):
            client.receive(reply)
        results.append(type(client.effects[-1]).__name__)
    assert results[:10] == ["Challenged"] * 10
    assert results[10:] == ["Refused"] + ["Publish"] * 4
    assert device.rendezvous.dropped == {DropReason.RATE: 4}
    connect(device, client_of(device, BOB, seed=99))  # another key has a rate of its own
    connect(device, client_of(device, seed=98), now=2.0)


def test_all_keys_together_have_a_rate_as_well() -> None:
    clients = tuple(map(key_of, range(60)))
    device = SimulatedDevice(clients=clients)
    replies = []
    for number, key in enumerate(clients):
        client = client_of(device, key, seed=number)
        for reply in device.receive(client.start()):
            client.receive(reply)
        replies.append(client.effects[-1])
    busy = Refused(RefusalReason.BUSY, 1)
    assert [one == busy for one in replies] == [False] * 40 + [True] * 20


def test_unused_challenges_are_bounded_and_a_key_displaces_its_own_first() -> None:
    clients = tuple(map(key_of, range(30)))
    limits = replace(LIMITS, remote_challenges=8, all_connect_request_burst=100)
    device = SimulatedDevice(clients=clients, limits=limits)
    waiting = client_of(device, clients[0], seed=0)
    challenge = challenge_of(device, waiting)
    for seed in range(1, 11):  # the whole burst of another key
        client = client_of(device, clients[1], seed=seed)
        device.receive(client.start())
    waiting.gather(DIRECT)
    [offer] = waiting.receive(challenge)
    device.receive(offer)
    assert len(device.opened) == 1
    for number in range(2, 30):
        client = client_of(device, clients[number], seed=number + 20)
        device.receive(client.start())
    assert len(device.rendezvous) <= 8 + 1 + 1 + 30  # challenges, attempt, path, rates


def test_a_client_that_is_not_answered_names_the_step() -> None:
    device, client = new_attempt()
    deliver_offer(device, client)
    while (moment := client.rendezvous.next_timeout()) is not None:
        client.act(client.rendezvous.handle_timeout(moment))
    assert client.effects[-1] == GaveUp(ClientStage.OFFERED)


@pytest.mark.parametrize("broker", [0, 3])
def test_a_reply_goes_to_the_broker_of_the_request(broker: int) -> None:
    device, client = new_attempt()
    request = client.start()
    receive = device.rendezvous.receive_untrusted
    [challenge] = device.act(receive(request.topic, request.data, 0.0, broker=broker))
    client.gather(DIRECT)
    [offer] = client.receive(challenge)
    device.act(receive(offer.topic, offer.data, 0.0, broker=broker))
    [answer] = device.gather(device.opened[0].path_id, RELAY)
    assert (challenge.broker, answer.broker) == (broker, broker)
