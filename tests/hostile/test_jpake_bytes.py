"""Malformed J-PAKE messages: invalid points, truncated messages and changed bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from os import urandom

import pytest

from peer.pairing import p256, schnorr
from peer.pairing.errors import Mismatch
from peer.pairing.jpake import EcJpake, Fault, JpakeError
from tests.kit.jpake import CODE, EKM, INFINITY, G, board, read, seeded_bytes, victim

# -- bytes ----------------------------------------------------------------------------------------


def uncompressed(x: int, y: int) -> bytes:
    return b"\4" + x.to_bytes(32) + y.to_bytes(32)


GX, GY = (int(one) for one in G.xy)
BAD_POINTS = {
    "infinity": INFINITY,
    "off the curve": uncompressed(GX, GY ^ 1),
    "on the twist": uncompressed(GX ^ 1, GY),
    "x = p": uncompressed(p256.FIELD, GY),
    "y = p": uncompressed(GX, p256.FIELD),
    "all ones": b"\4" + b"\xff" * 64,
}


@pytest.mark.parametrize("bad", BAD_POINTS.values(), ids=BAD_POINTS)
@pytest.mark.parametrize("at", [1, 67, 166, 232], ids=["X1", "V1", "X2", "V2"])
def test_an_invalid_point_is_refused_in_round_one(bad: bytes, at: int) -> None:
    good = EcJpake("client", CODE, profile="handfast", random_bytes=urandom).write_round_one()
    with pytest.raises(JpakeError) as caught:
        EcJpake("server", CODE, profile="handfast", random_bytes=urandom).read_round_one(
            good[:at] + bad + good[at + 65 :]
        )
    assert caught.value.fault is Fault.INVALID_POINT


def stage(role: str, number: int) -> tuple[Callable[[], Callable[[bytes], None]], bytes]:
    """A function that creates a fresh reader of round `number`, and the valid message for it."""
    other = {"client": "server", "server": "client"}[role]
    other_side = EcJpake(other, CODE, profile="handfast", context=EKM, random_bytes=seeded_bytes(5))
    first = EcJpake(
        role, CODE, profile="handfast", context=EKM, random_bytes=seeded_bytes(6)
    ).write_round_one()
    theirs = other_side.write_round_one()
    other_side.read_round_one(first)
    second = other_side.write_round_two()

    def reader() -> Callable[[bytes], None]:
        side = EcJpake(role, CODE, profile="handfast", context=EKM, random_bytes=seeded_bytes(6))
        if number == 1:
            return side.read_round_one
        side.write_round_one()
        side.read_round_one(theirs)
        return side.read_round_two

    return reader, theirs if number == 1 else second


each_message = pytest.mark.parametrize(
    ("role", "number"), [("client", 1), ("server", 1), ("client", 2), ("server", 2)]
)


@each_message
def test_a_truncated_message_is_refused(role: str, number: int) -> None:
    reader, message = stage(role, number)
    reader()(message)
    for size in range(len(message)):
        with pytest.raises(JpakeError) as caught:
            reader()(message[:size])
        assert caught.value.fault is Fault.MALFORMED


@each_message
def test_a_message_with_any_byte_changed_is_refused(role: str, number: int) -> None:
    reader, message = stage(role, number)
    for at in range(len(message)):
        for change in (0x01, 0x80, 0xFF):
            changed = bytearray(message)
            changed[at] ^= change
            with pytest.raises(JpakeError):
                reader()(bytes(changed))


def test_a_tag_with_any_byte_changed_is_refused() -> None:
    for at in range(32):
        client, device = victim(), board()
        sent, tag = read(client, device.answer(client.round_one()))
        with pytest.raises(Mismatch):
            device.check(sent, tag[:at] + bytes([tag[at] ^ 1]) + tag[at + 1 :])


def test_random_bytes_are_refused() -> None:
    generator = random.Random(8)
    for _ in range(300):
        size = generator.choice([0, 1, 2, 64, 65, 66, 67, 132, 133, 165, 168, 330, 498, 5000])
        data = bytearray(generator.randbytes(size))
        if generator.random() < 0.7 and size > 1:
            data[:2] = b"\x41\x04"
        for role in ("client", "server"):
            with pytest.raises(JpakeError):
                stage_two[role]()(bytes(data))
            with pytest.raises(JpakeError):
                EcJpake(role, CODE, random_bytes=urandom).read_round_one(bytes(data))


stage_two = {role: stage(role, 2)[0] for role in ("client", "server")}


def test_the_error_of_a_refusal_contains_no_secret() -> None:
    client, device = victim(), board()
    first = client.round_one()
    with pytest.raises(Mismatch) as caught:
        device.answer(first[:-1] + bytes([first[-1] ^ 1]))
    cause = caught.value.__cause__
    assert isinstance(cause, schnorr.JpakeError)
    for text in (str(caught.value), caught.value.advice, str(cause), repr(cause.args)):
        assert CODE.decode() not in text
        assert first[1:66].hex() not in text
