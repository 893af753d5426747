"""Attacks on the method `code`. Each attack runs twice: on the real code, where it has to fail, and
on the same code without the defence against it, where it has to succeed.

The attacker is a man in the middle who does not know the code, but knows the session's EKM and both
fingerprints, and may send any message.
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
from peer.pairing.schnorr import Item, Reader, challenge
from tests.kit.internals import without_step_guard
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


# -- the attacker's computations ------------------------------------------------------------------


def times(point: Any, number: int) -> Any:
    return p256.times(point, p256.public_scalar((number % N).to_bytes(32)))


def points_of(round_one: bytes) -> list[Any]:
    return [p256.decode_untrusted(round_one[at : at + 65]) for at in (1, 166)]


def framed(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def encoded(point: Any) -> bytes:
    """Encode a point; infinity is encoded as zeros."""
    x, y = point.xy
    return b"\4" + int(x).to_bytes(32) + int(y).to_bytes(32)


def proved(generator: Any, x: int, label: bytes, *, v: int = 77, more: int = 0) -> bytes:
    """A point with a valid proof; `more` is added to r."""
    point, commitment = encoded(times(generator, x)), encoded(times(generator, v))
    h = int.from_bytes(p256.scalar_bytes(challenge(encoded(generator), commitment, point, label)))
    r = (v - x * h) % N + more
    return framed(point, commitment, r.to_bytes(33 if more else 32))


def unproved(point: Any) -> bytes:
    """A point of unknown x, with an invalid proof."""
    return framed(encoded(point), encoded(G), bytes(32))


def confirmed(shared: bytes, points: list[bytes]) -> bytes:
    """The device's tag over K and X1..X4."""
    key = hashlib.sha256(lp(shared) + lp(b"JPAKE_KC")).digest()
    names = b"D" + DEVICE.digest, b"C" + CLIENT.digest
    bound = Channel(EKM, CLIENT, DEVICE, WINDOW).binding(method="code", role=ROLE)
    items = (b"KC_1_U", *names, *points[2:], *points[:2], bound)
    return hmac.digest(key, b"".join(map(lp, items)), "sha256")


# -- attacks, which return true if they succeed ---------------------------------------------------


def rogue_key() -> bool:
    """X4 of the device cancels the client's X1: A = s·x·X2 allows an offline dictionary attack."""
    client = victim()
    first, second = points_of(client.round_one())
    x3, x = 5, 7
    rogue = times(G, x) + (-first) + (-times(G, x3))
    generator = first + second + times(G, x3)
    both = unproved(times(G, x3)) + unproved(rogue) + b"\3\0\x17" + unproved(times(generator, 9))
    sent, _ = read(client, both)
    found = [
        guess for guess in CODES if encoded(times(second, int.from_bytes(guess) * x)) == sent[1:66]
    ]
    return found == [CODE]


def shared_point_at_infinity() -> bool:
    """The device sends X4 = B = infinity with valid proofs, so that K is infinity too."""
    client = victim()
    first = client.round_one()
    own = [proved(G, 5, D_LABEL), proved(G, 0, D_LABEL)]
    generator = points_of(first)[0] + points_of(first)[1] + times(G, 5)
    read(client, b"".join(own) + b"\3\0\x17" + proved(generator, 0, D_LABEL))
    points = [first[1:66], first[166:231], own[0][1:66], INFINITY]
    client.verify_untrusted({"confirm": confirmed(INFINITY, points)})
    return True


def reflection() -> bool:
    """The device reflects all messages of the client, from round one to the tag."""
    client = victim()
    first = client.round_one()
    x1, x2 = points_of(first)
    label = lp(b"me") + lp(EKM) if jpake.identities is same_identity else D_LABEL
    both = first + b"\3\0\x17" + proved(x1 + x2 + x1, 9, label)
    _, tag = read(client, both)
    client.verify_untrusted({"confirm": tag})
    return True


def relay() -> bool:
    """A man in the middle has a session with each side and forwards every message unchanged."""
    client = victim(ekm=b"\x11" * 32, device=MALLORY)
    device = board(ekm=b"\x22" * 32, client=MALLORY)
    device.check(*read(client, device.answer(client.round_one())))
    client.verify_untrusted({"confirm": device.device_tag()})
    return True


def repeated_guesses() -> bool:
    """A client tries several codes in one ceremony."""
    device = board()
    answer = b""
    for guess in CODES:
        mallory = victim(secret=guess)
        first = mallory.round_one()  # the same in each turn, since the random bytes are
        answer = answer or device.answer(first)
        try:
            device.check(*read(mallory, answer))
        except Mismatch:
            continue
        mallory.verify_untrusted({"confirm": device.device_tag()})
        return True
    return False


def second_encoding() -> bool:
    """A client sends r + n instead of r, a second encoding of the same proof."""
    other = board()
    other.answer(proved(G, 5, C_LABEL, more=N) + proved(G, 6, C_LABEL))
    return True


def trailing_bytes() -> bool:
    """A client appends bytes to the message that no proof covers."""
    board().answer(victim().round_one() + b"and then some")
    return True


def generator_at_infinity() -> bool:
    """With chosen random bytes X1 + X3 + X4 is infinity, so that A is the same for every code."""
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


# -- removal of the defences ----------------------------------------------------------------------


def without_proofs(patch: pytest.MonkeyPatch) -> None:
    def without_verification(reader: Reader, _generator: Item, _label: bytes) -> Item:
        item, _, _ = reader.point_untrusted(), reader.point_untrusted(), reader.response_untrusted()
        return item

    patch.setattr(jpake, "read_item_untrusted", without_verification)


def without_infinity_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(p256, "is_infinity", lambda _point: False)


def same_identity(_client: bytes, _device: bytes) -> dict[str, bytes]:
    return {"client": b"me", "server": b"me"}


def without_identities(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jpake, "identities", same_identity)
    patch.setattr(code, "identities", same_identity)


def proofs_unbound(patch: pytest.MonkeyPatch) -> None:
    def unbound(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> EcJpake:
        return EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(code, "EcJpake", unbound)


def tags_unbound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})


def without_any_binding(patch: pytest.MonkeyPatch) -> None:
    proofs_unbound(patch)
    tags_unbound(patch)


def without_range_check(patch: pytest.MonkeyPatch) -> None:
    def any_size(self: Reader) -> Any:
        return p256.public_scalar(self._vector_untrusted())

    patch.setattr(Reader, "response_untrusted", any_size)


def without_end_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reader, "end_untrusted", lambda _self: None)


PAIRS: list[tuple[Callable[[], bool], Remove]] = [
    (rogue_key, without_proofs),
    (shared_point_at_infinity, without_infinity_check),
    (generator_at_infinity, without_infinity_check),
    (reflection, without_identities),
    (relay, without_any_binding),
    (repeated_guesses, without_step_guard),
    (second_encoding, without_range_check),
    (trailing_bytes, without_end_check),
]


def succeeds(attack: Callable[[], bool]) -> bool:
    try:
        return attack()
    except (CeremonyError, JpakeError):
        return False


@pytest.mark.parametrize(("attack", "remove"), PAIRS, ids=[attack.__name__ for attack, _ in PAIRS])
def test_each_attack_fails_and_succeeds_without_its_defence(
    attack: Callable[[], bool], remove: Remove, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not succeeds(attack)
    remove(monkeypatch)
    assert attack()


@pytest.mark.parametrize("remaining", [proofs_unbound, tags_unbound])
def test_either_binding_alone_prevents_a_relay(
    remaining: Remove, monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining(monkeypatch)
    assert not succeeds(relay)


def test_infinity_is_refused_even_if_the_decoding_accepts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The decoding of points refuses infinity, and so does the computation of K."""

    def lax(data: bytes) -> Any:
        return EccPoint(int.from_bytes(data[1:33]), int.from_bytes(data[33:]), "P-256")

    monkeypatch.setattr(p256, "decode_untrusted", lax)
    assert not succeeds(shared_point_at_infinity)


# -- one guess per run ----------------------------------------------------------------------------


@pytest.mark.parametrize("guess", [b"0416", CODE])
def test_a_wrong_guess_gives_no_material_for_an_offline_dictionary_attack(guess: bytes) -> None:
    """A device without the code guesses once. The client's tag confirms that guess or no code."""
    client = victim()
    first, second = points_of(client.round_one())
    x3, x4 = 5, 7
    own = proved(G, x3, D_LABEL) + proved(G, x4, D_LABEL)
    generator = first + second + times(G, x3)
    both = own + b"\3\0\x17" + proved(generator, x4 * int.from_bytes(guess), D_LABEL)
    sent, tag = read(client, both)
    a = p256.decode_untrusted(sent[1:66])
    bound = Channel(EKM, CLIENT, DEVICE, WINDOW).binding(method="code", role=ROLE)
    points = [encoded(first), encoded(second), encoded(times(G, x3)), encoded(times(G, x4))]
    items = (b"KC_1_U", b"C" + CLIENT.digest, b"D" + DEVICE.digest, *points, bound)
    found = []
    for one in CODES:
        shared = times(a + (-times(second, x4 * int.from_bytes(one))), x4)
        key = hashlib.sha256(lp(encoded(shared)) + lp(b"JPAKE_KC")).digest()
        if hmac.digest(key, b"".join(map(lp, items)), "sha256") == tag:
            found.append(one)
    assert found == ([CODE] if guess == CODE else [])


def test_replayed_client_messages_are_refused() -> None:
    """Replay the client's messages to a device with other random bytes, in both sessions."""
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


def test_the_device_tag_is_not_available_before_the_client_has_confirmed() -> None:
    device = board()
    device.answer(victim().round_one())
    with pytest.raises(Misuse):
        device.device_tag()


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_side_refuses_messages_of_its_own_role(role: str) -> None:
    for profile in ("ecjpake", "handfast"):
        with pytest.raises(JpakeError) as caught:
            EcJpake(role, CODE, profile=profile, random_bytes=urandom).read_round_one(
                EcJpake(role, CODE, profile=profile, random_bytes=urandom).write_round_one()
            )
        assert caught.value.fault is Fault.ZKP_FAILED
