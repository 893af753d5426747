"""Attackers of the method `code`. Each attack is made twice: on our code, where it has to fail, and
on the same code with the one defence taken out that it is about, where it has to succeed.

The attacker does not know the code; he is the man in the middle, so he knows the session's EKM and
both fingerprints, and may send what he likes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from os import urandom
from typing import Any

import pytest
from Crypto.PublicKey.ECC import EccPoint  # type: ignore[attr-defined]

from peer.pairing import code, jpake, p256
from peer.pairing.binding import Channel, lp
from peer.pairing.errors import CeremonyError, Mismatch, Misuse
from peer.pairing.jpake import EcJpake, Fault, JpakeError
from peer.pairing.one_shot import OneShot
from peer.pairing.schnorr import Item, Reader, challenge
from tests.kit.jpake import (
    CLIENT,
    CODE,
    DEVICE,
    EKM,
    INFINITY,
    MALLORY,
    ROLE,
    WINDOW,
    G,
    board,
    read,
    victim,
)

N = p256.ORDER
CODES = [b"%04d" % number for number in range(400, 430)]
C_LABEL = lp(b"C" + CLIENT.digest) + lp(EKM)
D_LABEL = lp(b"D" + DEVICE.digest) + lp(EKM)

Remove = Callable[[pytest.MonkeyPatch], None]


# -- what an attacker can compute -----------------------------------------------------------------


def times(point: Any, number: int) -> Any:
    return p256.times(point, p256.public_scalar((number % N).to_bytes(32)))


def points_of(round_one: bytes) -> list[Any]:
    return [p256.decode_untrusted(round_one[at : at + 65]) for at in (1, 166)]


def framed(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def coded(point: Any) -> bytes:
    """Infinity too, as zeros."""
    x, y = point.xy
    return b"\4" + int(x).to_bytes(32) + int(y).to_bytes(32)


def proved(generator: Any, x: int, label: bytes, *, v: int = 77, more: int = 0) -> bytes:
    """An honest item; `more` is added to r."""
    point, commitment = coded(times(generator, x)), coded(times(generator, v))
    h = int.from_bytes(p256.scalar_bytes(challenge(coded(generator), commitment, point, label)))
    r = (v - x * h) % N + more
    return framed(point, commitment, r.to_bytes(33 if more else 32))


def bogus(point: Any) -> bytes:
    """An item for a point of unknown x."""
    return framed(coded(point), coded(G), bytes(32))


def confirmed(shared: bytes, points: list[bytes]) -> bytes:
    """The device's tag over K and X1..X4."""
    key = hashlib.sha256(lp(shared) + lp(b"JPAKE_KC")).digest()
    names = b"D" + DEVICE.digest, b"C" + CLIENT.digest
    bound = Channel(EKM, CLIENT, DEVICE, WINDOW).binding(method="code", role=ROLE)
    items = (b"KC_1_U", *names, *points[2:], *points[:2], bound)
    return hmac.digest(key, b"".join(map(lp, items)), "sha256")


# -- the attacks: true if the attacker has what he wanted -----------------------------------------


def rogue_key() -> bool:
    """A device whose X4 cancels the client's X1: A = s·x·X2, and codes are tried offline."""
    client = victim()
    first, second = points_of(client.round_one())
    x3, x = 5, 7
    rogue = times(G, x) + (-first) + (-times(G, x3))
    generator = first + second + times(G, x3)
    both = bogus(times(G, x3)) + bogus(rogue) + b"\3\0\x17" + bogus(times(generator, 9))
    sent, _ = read(client, both)
    found = [
        guess for guess in CODES if coded(times(second, int.from_bytes(guess) * x)) == sent[1:66]
    ]
    return found == [CODE]


def shared_point_at_infinity() -> bool:
    """A device that sends X4 = B = infinity, with proofs that hold: then K is infinity too."""
    client = victim()
    first = client.round_one()
    mine = [proved(G, 5, D_LABEL), proved(G, 0, D_LABEL)]
    generator = points_of(first)[0] + points_of(first)[1] + times(G, 5)
    read(client, b"".join(mine) + b"\3\0\x17" + proved(generator, 0, D_LABEL))
    points = [first[1:66], first[166:231], mine[0][1:66], INFINITY]
    client.verify_untrusted({"confirm": confirmed(INFINITY, points)})
    return True


def reflection() -> bool:
    """A device that sends the client's own words back to it, from round one to the tag."""
    client = victim()
    first = client.round_one()
    x1, x2 = points_of(first)
    label = lp(b"me") + lp(EKM) if jpake.identities is nobody else D_LABEL
    both = first + b"\3\0\x17" + proved(x1 + x2 + x1, 9, label)
    _, tag = read(client, both)
    client.verify_untrusted({"confirm": tag})
    return True


def relay() -> bool:
    """Two sessions, one on each side; every message is carried over as it is."""
    client = victim(ekm=b"\x11" * 32, device=MALLORY)
    device = board(ekm=b"\x22" * 32, client=MALLORY)
    device.check(*read(client, device.answer(client.round_one())))
    client.verify_untrusted({"confirm": device.device_tag()})
    return True


def guessing_again() -> bool:
    """A client that tries one code after the other in one ceremony."""
    device = board()
    answer = b""
    for guess in CODES:
        mallory = victim(secret=guess)
        first = mallory.round_one()  # the same each time: the same random bytes
        answer = answer or device.answer(first)
        try:
            device.check(*read(mallory, answer))
        except Mismatch:
            continue
        mallory.verify_untrusted({"confirm": device.device_tag()})
        return True
    return False


def two_spellings() -> bool:
    """The same proof once more, with r + n for r."""
    other = board()
    other.answer(proved(G, 5, C_LABEL, more=N) + proved(G, 6, C_LABEL))
    return True


def something_behind() -> bool:
    """Bytes after the message, without a proof."""
    board().answer(victim().round_one() + b"and then some")
    return True


def empty_generator() -> bool:
    """Random bytes that make X1 + X3 + X4 infinity: then A is the same for every code."""
    sent = set()
    for guess in CODES[:2]:
        server = iter(number.to_bytes(32) for number in (20, 3, N - 30, 4, 5))
        own = iter(number.to_bytes(32) for number in (10, 1, 11, 2, 6))
        client = EcJpake("client", guess, random_bytes=lambda _, own=own: next(own))  # type: ignore[misc]
        other = EcJpake("server", guess, random_bytes=lambda _, server=server: next(server))  # type: ignore[misc]
        client.write_round_one()
        client.read_round_one(other.write_round_one())
        sent.add(client.write_round_two()[1:66])
    return sent == {INFINITY}


# -- the defences, each of which can be taken out -------------------------------------------------


def without_proofs(patch: pytest.MonkeyPatch) -> None:
    def believing(reader: Reader, _generator: Item, _label: bytes) -> Item:
        item, _, _ = reader.point_untrusted(), reader.point_untrusted(), reader.response_untrusted()
        return item

    patch.setattr(jpake, "read_item_untrusted", believing)


def without_infinity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(p256, "is_infinity", lambda _point: False)


def nobody(_client: bytes, _device: bytes) -> dict[str, bytes]:
    return {"client": b"me", "server": b"me"}


def without_identities(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jpake, "identities", nobody)
    patch.setattr(code, "identities", nobody)


def proofs_unbound(patch: pytest.MonkeyPatch) -> None:
    def anywhere(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> EcJpake:
        return EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(code, "EcJpake", anywhere)


def tags_unbound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})


def without_any_binding(patch: pytest.MonkeyPatch) -> None:
    proofs_unbound(patch)
    tags_unbound(patch)


def without_turns(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OneShot, "_enter", lambda *_: None)
    patch.setattr(OneShot, "_finish", lambda *_, **__: None)
    patch.setattr(EcJpake, "_finish", lambda *_, **__: None)


def without_range(patch: pytest.MonkeyPatch) -> None:
    def any_size(self: Reader) -> Any:
        return p256.public_scalar(self._vector_untrusted())

    patch.setattr(Reader, "response_untrusted", any_size)


def without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reader, "end_untrusted", lambda _self: None)


PAIRS: list[tuple[Callable[[], bool], Remove]] = [
    (rogue_key, without_proofs),
    (shared_point_at_infinity, without_infinity),
    (empty_generator, without_infinity),
    (reflection, without_identities),
    (relay, without_any_binding),
    (guessing_again, without_turns),
    (two_spellings, without_range),
    (something_behind, without_end),
]


def succeeds(attack: Callable[[], bool]) -> bool:
    try:
        return attack()
    except (CeremonyError, JpakeError):
        return False


@pytest.mark.parametrize(("attack", "remove"), PAIRS, ids=[attack.__name__ for attack, _ in PAIRS])
def test_an_attack_fails_and_would_succeed_without_its_defence(
    attack: Callable[[], bool], remove: Remove, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not succeeds(attack)
    remove(monkeypatch)
    assert attack()


@pytest.mark.parametrize("remaining", [proofs_unbound, tags_unbound])
def test_either_binding_alone_stops_a_relay(
    remaining: Remove, monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining(monkeypatch)
    assert not succeeds(relay)


def test_infinity_is_stopped_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it comes in, and where K is made of it."""

    def lax(data: bytes) -> Any:
        return EccPoint(int.from_bytes(data[1:33]), int.from_bytes(data[33:]), "P-256")

    monkeypatch.setattr(p256, "decode_untrusted", lax)
    assert not succeeds(shared_point_at_infinity)


# -- one guess a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", [b"0416", CODE])
def test_a_guess_leaves_nothing_to_try_others_on(guess: bytes) -> None:
    """A device without the code guesses once. The client's tag then fits that guess or none."""
    client = victim()
    first, second = points_of(client.round_one())
    x3, x4 = 5, 7
    mine = proved(G, x3, D_LABEL) + proved(G, x4, D_LABEL)
    generator = first + second + times(G, x3)
    both = mine + b"\3\0\x17" + proved(generator, x4 * int.from_bytes(guess), D_LABEL)
    sent, tag = read(client, both)
    a = p256.decode_untrusted(sent[1:66])
    bound = Channel(EKM, CLIENT, DEVICE, WINDOW).binding(method="code", role=ROLE)
    points = [coded(first), coded(second), coded(times(G, x3)), coded(times(G, x4))]
    items = (b"KC_1_U", b"C" + CLIENT.digest, b"D" + DEVICE.digest, *points, bound)
    found = []
    for one in CODES:
        shared = times(a + (-times(second, x4 * int.from_bytes(one))), x4)
        key = hashlib.sha256(lp(coded(shared)) + lp(b"JPAKE_KC")).digest()
        if hmac.digest(key, b"".join(map(lp, items)), "sha256") == tag:
            found.append(one)
    assert found == ([CODE] if guess == CODE else [])


def test_a_run_that_was_heard_cannot_be_said_again() -> None:
    """The same client messages at a device with other random bytes, in this and another session."""
    client, device = victim(), board()
    first = client.round_one()
    sent = read(client, device.answer(first))
    device.check(*sent)
    again = board(seed=3)
    again.answer(first)
    with pytest.raises(Mismatch):
        again.check(*sent)
    with pytest.raises(Mismatch):
        board(ekm=b"\x33" * 32).answer(first)


def test_nothing_of_the_device_can_be_had_before_the_client_has_confirmed() -> None:
    device = board()
    device.answer(victim().round_one())
    with pytest.raises(Misuse):
        device.device_tag()


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_side_does_not_talk_with_its_own_kind(role: str) -> None:
    for profile in ("ecjpake", "handfast"):
        with pytest.raises(JpakeError) as caught:
            EcJpake(role, CODE, profile=profile, random_bytes=urandom).read_round_one(
                EcJpake(role, CODE, profile=profile, random_bytes=urandom).write_round_one()
            )
        assert caught.value.fault is Fault.ZKP_FAILED
