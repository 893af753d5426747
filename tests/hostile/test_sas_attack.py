"""A man in the middle of `sas` tries to make the numbers of its two sessions equal.

The attacker (M) acts as a device towards the client and as a client towards the device. M knows B
and the exporter value of both sessions, but no nonce that has not been sent. The numbers have two
digits instead of six, so that random matches can be counted in 10^4 runs per strategy.

The strategies use the interfaces of `RealClient` and `RealDevice`. The 10^4 runs use `QuickClient`
and `QuickDevice`, which call the same functions of `peer.pairing.sas` but compute no tags; one test
compares both kinds run by run.

Where the attack has to succeed, a subclass in this file removes a defence; the product has no
setting for that.
"""

import os
import random
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest

from peer.pairing.binding import Channel, Confirmation
from peer.pairing.errors import Mismatch
from peer.pairing.sas import commitment, number, transcript
from peer.pairing.sides import Terms
from tests.kit.sas import (
    BLIND,
    CLIENT,
    DEVICE,
    DIGITS,
    WINDOW,
    Middle,
    QuickClient,
    QuickDevice,
    RealClient,
    RealDevice,
    Scene,
    Strategy,
    client_first,
    device_first_with_a_fitting_commitment,
    plausible,
    relay,
    search,
)

RUNS = 10_000


def test_plausible_accepts_only_counts_near_the_expected_number() -> None:
    # The expected number is 100, with a standard deviation of 10.
    assert [k for k in (40, 54, 60, 100, 140, 155, 170, 5000) if plausible(k, RUNS, 1e-2)] == [
        60, 100, 140,
    ]  # fmt: skip
    assert not plausible(0, 10_000, 1e-2)


# ---------------------------------------------------------------------------- rate of equal numbers


@pytest.mark.parametrize("strategy", BLIND.values(), ids=BLIND.keys())
def test_with_the_commitment_an_attacker_can_only_guess(strategy: Strategy) -> None:
    rng = random.Random("honest random bytes")
    hits = 0
    for _ in range(RUNS):
        b_client, b_device, own, theirs = (rng.randbytes(32) for _ in range(4))
        client, device = QuickClient(b_client, own), QuickDevice(b_device, theirs)
        strategy(Middle(b_client, b_device, rng), client, device)
        hits += client.number == device.number
    assert plausible(hits, RUNS, 10**-DIGITS), hits


def test_searching_for_a_guessed_nonce_is_no_better_than_guessing() -> None:
    """The guess of nC fails. There are fewer runs because each one searches a hundred nonces."""
    rng = random.Random("search for a guess")
    hits = 0
    for _ in range(2000):
        b_client, b_device, own, theirs = (rng.randbytes(32) for _ in range(4))
        client, device = QuickClient(b_client, own), QuickDevice(b_device, theirs)
        device_first_with_a_fitting_commitment(Middle(b_client, b_device, rng), client, device)
        hits += client.number == device.number
    assert plausible(hits, 2000, 10**-DIGITS), hits


def test_the_quick_sides_compute_the_same_numbers_as_the_real_ones() -> None:
    for seed in range(300):
        scene = Scene.seeded(seed)
        for strategy in BLIND.values():
            client, device = scene.client(), scene.device()
            m = scene.middle(seed)
            quick = QuickClient(m.b_client, scene.client_nonce)
            quick_device = QuickDevice(m.b_device, scene.device_nonce)
            strategy(m, client, device)
            strategy(scene.middle(seed), quick, quick_device)
            assert (client.number, device.number) == (quick.number, quick_device.number)


def test_all_numbers_are_equally_likely() -> None:
    rng = random.Random("even")
    seen = Counter(
        number(rng.randbytes(32), rng.randbytes(32), rng.randbytes(32), digits=DIGITS)
        for _ in range(RUNS)
    )
    expected = RUNS / 10**DIGITS
    square = sum((seen[f"{n:02}"] - expected) ** 2 / expected for n in range(10**DIGITS))
    assert len(seen) == 10**DIGITS
    assert 45 < square < 175  # 99 degrees of freedom, standard deviation 14


# ------------------------------------------------------------------------- removal of each defence


class NoCommitment(RealClient):
    """A client that does not check the device's commitment."""

    def _is_committed(self, device_nonce: bytes) -> bool:
        self._commitment = commitment(self._binding, device_nonce)
        return True


class NoBinding(RealClient):
    """A client whose number does not depend on the session (it takes the device's B)."""

    device_b: ClassVar[bytes] = b""

    def answer(self, commit: object) -> bytes:
        nonce = super().answer(commit)
        self._binding = self.device_b
        return nonce


class EarlyNonce(RealDevice):
    """A device that sends its nonce before it has received the client's."""

    def early(self) -> bytes:
        return self._nonce


def take_over(scene: Scene, client: RealClient, device: RealDevice, own: dict[str, bytes]) -> None:
    """Confirm as M in both sessions, after both users have accepted the same number.

    `own` has the c, nC and nD that were sent to the client and to the device.
    """

    def tags(channel: Channel, side: str) -> Confirmation:
        t = transcript(
            name="anna",
            ceremony_id="7f",
            window_id=WINDOW,
            role=scene.role,
            commit=own[f"{side} c"],
            client_nonce=own[f"{side} nC"],
            device_nonce=own[f"{side} nD"],
        )
        return Confirmation.derive(channel.ekm, t, "sas", transcript=t)

    client.accept()
    device.check_untrusted({"confirm": tags(scene.to_device, "device").client_tag})
    device.device_tag()
    client.verify_untrusted({"confirm": tags(scene.to_client, "client").device_tag})


def test_without_the_commitment_check_an_attacker_always_finds_a_match() -> None:
    for seed in range(200):
        scene = Scene.seeded(seed)
        client, device = scene.client(NoCommitment), scene.device()
        search(scene.middle(seed), client, device)
        assert client.number == device.number


def test_without_the_commitment_check_an_attacker_pairs_with_both_sides() -> None:
    scene = Scene.seeded(1)
    m = scene.middle()
    client, device = scene.client(NoCommitment), scene.device()
    n_client = client.answer(b"\0" * 32)
    sent = {"device c": device.commit(), "device nC": m.nonce(), "client nC": n_client}
    sent["device nD"] = device.reveal(sent["device nC"])
    sent["client nD"] = m.as_device(device.number, n_client)
    client.open(sent["client nD"])
    sent["client c"] = commitment(m.b_client, sent["client nD"])
    take_over(scene, client, device, sent)


@pytest.mark.parametrize("seed", range(20))
def test_the_commitment_check_detects_the_search_for_a_nonce(seed: int) -> None:
    scene = Scene.seeded(seed)
    client, device = scene.client(), scene.device()
    with pytest.raises(Mismatch, match="does not match its commitment") as caught:
        search(scene.middle(seed), client, device)
    assert "man-in-the-middle attack" in caught.value.advice


def test_without_the_session_in_the_number_a_relay_always_succeeds() -> None:
    for seed in range(40):
        scene = Scene.seeded(seed)
        NoBinding.device_b = scene.middle().b_device
        client, device = scene.client(NoBinding), scene.device()
        relay(scene.middle(), client, device)
        assert client.number == device.number
        c = commitment(scene.middle().b_device, scene.device_nonce)
        sent = {"c": c, "nC": scene.client_nonce, "nD": scene.device_nonce}
        both = {
            f"{side} {key}": value for side in ("client", "device") for key, value in sent.items()
        }
        take_over(scene, client, device, both)


@pytest.mark.parametrize("seed", range(20))
def test_the_session_in_the_commitment_detects_a_relay(seed: int) -> None:
    scene = Scene.seeded(seed)
    client, device = scene.client(), scene.device()
    with pytest.raises(Mismatch, match="does not match its commitment"):
        relay(scene.middle(), client, device)


def test_a_device_that_sends_its_nonce_early_is_always_attacked() -> None:
    for seed in range(40):
        scene = Scene.seeded(seed)
        m = scene.middle(seed)
        client, device = scene.client(), scene.device(EarlyNonce)
        assert isinstance(device, EarlyNonce)
        own = m.nonce()
        client.answer(commitment(m.b_client, own))
        client.open(own)
        device.commit()
        shown, nonce = client.number, device.early()
        device.reveal(m.as_client(shown, nonce))
        assert client.number == device.number


def test_a_client_whose_nonce_is_known_is_always_attacked() -> None:
    """If M knows nC before the commitment, M can commit to a nonce that makes the numbers equal."""
    for seed in range(40):
        scene = Scene.seeded(seed)
        m = scene.middle(seed)
        known = scene.client_nonce  # reused from a session that M took part in
        client, device = scene.client(), scene.device()
        device.commit()
        device.reveal(m.nonce())
        own = m.as_device(device.number, known)
        client.answer(commitment(m.b_client, own))
        client.open(own)
        assert client.number == device.number


def test_every_side_uses_a_fresh_nonce() -> None:
    def sides() -> tuple[RealClient, RealDevice]:
        scene = Scene.seeded(0)
        terms = Terms(scene.to_client, "guest", "anna", "7f")
        client = RealClient(os.urandom)
        client.terms = terms
        return client, RealDevice(terms, random_bytes=os.urandom)

    drawn = set()
    for client, device in (sides() for _ in range(50)):
        drawn |= {client.answer(b"\0" * 32), device.commit()}
    assert len(drawn) == 100


# ------------------------------------------------------------------------- reflection and replay


def test_the_device_refuses_its_own_nonce() -> None:
    scene = Scene.seeded(1)
    device = scene.device()
    device.commit()
    with pytest.raises(Mismatch, match="this side's own nonce"):
        device.reveal(scene.device_nonce)


def test_the_client_refuses_its_own_nonce() -> None:
    # M guessed nC and committed to it, so the commitment is valid and no other check refuses it.
    scene = Scene.seeded(1)
    client = scene.client()
    client.answer(commitment(scene.middle().b_client, scene.client_nonce))
    with pytest.raises(Mismatch, match="this side's own nonce"):
        client.open(scene.client_nonce)


def test_a_commitment_recorded_in_an_earlier_session_is_refused() -> None:
    """Only the session differs from the recorded one; keys, window, role and nonces are equal."""
    scene = Scene.seeded(1)
    earlier = replace(scene, to_client=replace(scene.to_client, ekm=b"\x07" * 32))
    recorded = commitment(earlier.middle().b_client, scene.device_nonce)
    client = scene.client()
    client.answer(recorded)
    with pytest.raises(Mismatch, match="commitment"):
        client.open(scene.device_nonce)


@pytest.mark.parametrize("at", range(0, 256, 5))
def test_a_changed_commitment_is_refused(at: int) -> None:
    scene = Scene.seeded(1)
    b = scene.middle().b_client
    right = int.from_bytes(commitment(b, scene.device_nonce), "big")
    client = scene.client()
    client.answer((right ^ 1 << at).to_bytes(32, "big"))
    with pytest.raises(Mismatch, match="commitment"):
        client.open(scene.device_nonce)


def test_a_different_role_is_refused_when_the_commitment_is_opened() -> None:
    # Device and session are right, but both users also confirm the role.
    channel = Channel(b"\x01" * 32, CLIENT, DEVICE, WINDOW)
    scene = replace(Scene.seeded(1), to_client=channel, to_device=channel)
    client, device = scene.client(), replace(scene, role="owner").device()
    with pytest.raises(Mismatch, match="commitment"):
        relay(scene.middle(), client, device)


def test_reflected_tags_are_refused() -> None:
    channel = Channel(b"\x01" * 32, CLIENT, DEVICE, WINDOW)
    scene = replace(Scene.seeded(1), to_client=channel, to_device=channel)
    client, device = scene.client(), scene.device()
    relay(scene.middle(), client, device)
    own = client.accept()
    with pytest.raises(Mismatch, match="nothing was stored"):
        client.verify_untrusted({"confirm": own})

    answering = scene.device()
    asking = scene.client()
    relay(scene.middle(), asking, answering)
    answering.check_untrusted({"confirm": asking.accept()})
    relay(scene.middle(), scene.client(), again := scene.device())
    with pytest.raises(Mismatch):
        again.check_untrusted({"confirm": answering.device_tag()})


def test_a_tag_of_one_session_is_refused_in_the_other() -> None:
    """Even if the numbers are equal by chance and both users accept, the client's tag is valid only
    in the client's session with M, and the device refuses it."""
    seed = next(seed for seed in range(20_000) if numbers_match(seed))
    scene = Scene.seeded(seed)
    client, device = scene.client(), scene.device()
    client_first(scene.middle(seed), client, device)
    assert client.number == device.number
    with pytest.raises(Mismatch):
        device.check_untrusted({"confirm": client.accept()})


def numbers_match(seed: int) -> bool:
    scene = Scene.seeded(seed)
    m = scene.middle(seed)
    client = QuickClient(m.b_client, scene.client_nonce)
    device = QuickDevice(m.b_device, scene.device_nonce)
    client_first(m, client, device)
    return client.number == device.number
