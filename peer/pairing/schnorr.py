"""Schnorr proofs of knowledge of x for X = x·G (RFC 8235), and their encoding.

    item   u8(65) ‖ X ‖ u8(65) ‖ V ‖ u8(len r) ‖ r         points uncompressed, r big-endian
    h      int(SHA-256(lp(G) ‖ lp(V) ‖ lp(X) ‖ label)) mod n
    r      v - x·h mod n, for V = v·G and a fresh v
    check  V = r·G + h·X

`label` is lp(id), and in the profile `handfast` also lp(OtherInfo): it says who proves this, and in
which session (RFC 8235 §3.3). A proof is valid under one label only, so it cannot be returned to
its maker or moved to another session. Because of the proofs, an attacker cannot choose points
whose sum with X is a value of the attacker's choice: an X that was computed from points of unknown
x cannot be proved.

Items are read and checked one by one, in the order of the message; the first fault ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from peer.errors import PeerError
from peer.pairing import p256
from peer.pairing.binding import lp

if TYPE_CHECKING:
    from peer.pairing.p256 import Point, Scalar

_INFINITY = b"\x00"  # SEC 1 §2.3.3


@unique
class Fault(StrEnum):
    """The reason of a failure, for tests and logs. Each fault ends the exchange."""

    MALFORMED = "malformed"  # the bytes are not a message of this round
    INVALID_POINT = "invalid_point"  # off the curve, or at infinity
    ZKP_FAILED = "zkp_failed"  # the proof does not hold
    UNAVAILABLE = "unavailable"  # the library of the curve is missing


class JpakeError(PeerError):
    """The exchange cannot start or has ended; `fault` says why."""

    def __init__(self, message: str, *, fault: Fault, advice: str = "") -> None:
        super().__init__(message, advice=advice or "Start a new pairing.")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Item:
    """A point and its encoding, 65 bytes."""

    data: bytes
    point: Point

    @classmethod
    def from_point(cls, point: Point) -> Self:
        """Encode a point. Raises `JpakeError` for infinity, which is never a valid value here."""
        try:
            return cls(p256.encode(point), point)
        except p256.InvalidPoint as error:
            raise bad_point(str(error)) from None


@cache
def base() -> Item:
    """Return the generator G, which round one uses."""
    return Item.from_point(p256.base())


class Reader:
    """Reads the parts of one message in their order. Every method raises `JpakeError`."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def fixed_untrusted(self, expected: bytes) -> None:
        """Read exactly these bytes."""
        if self._rest[: len(expected)] != expected:
            raise malformed("the message does not begin with the expected bytes")
        self._rest = self._rest[len(expected) :]

    def point_untrusted(self) -> Item:
        """Read a point after its length."""
        data = self._vector_untrusted()
        if data == _INFINITY:
            raise bad_point("a point is at infinity")
        if len(data) != p256.POINT_BYTES or data[0] != 4:
            raise malformed("a point is not in the uncompressed form")
        try:
            return Item(data, p256.decode_untrusted(data))
        except p256.InvalidPoint as error:
            raise bad_point(str(error)) from None

    def response_untrusted(self) -> Scalar:
        """Read r after its length: 1 to 32 bytes, below the order."""
        data = self._vector_untrusted()
        if len(data) > p256.SCALAR_BYTES:
            raise malformed("a proof is too long")
        r = p256.public_scalar(data)
        if not p256.is_in_group(r):
            raise JpakeError("a proof is out of range", fault=Fault.ZKP_FAILED)
        return r

    def end_untrusted(self) -> None:
        """Require the end of the message."""
        if self._rest:
            raise malformed("there are bytes after the message")

    def _vector_untrusted(self) -> bytes:
        size = self._rest[0] if self._rest else 0
        data, self._rest = self._rest[1 : 1 + size], self._rest[1 + size :]
        if not size or len(data) != size:
            raise malformed("the message is truncated")
        return data


def malformed(why: str) -> JpakeError:
    """Create the error for bytes that do not parse."""
    return JpakeError(why, fault=Fault.MALFORMED)


def bad_point(why: str) -> JpakeError:
    """Create the error for an invalid point."""
    return JpakeError(why, fault=Fault.INVALID_POINT)


def write_item(
    generator: Item, x: Scalar, v: Scalar, label: bytes, *, shortest: bool
) -> tuple[bytes, Item]:
    """Return the item for X = x·generator, and X itself. The nonce of the proof is v; 1 ≤ x, v < n.

    `shortest` writes r without leading zero bytes, as Mbed TLS does; otherwise r has 32 bytes.
    """
    made = Item.from_point(p256.times(generator.point, x))
    commitment = p256.encode(p256.times(generator.point, v))
    h = challenge(generator.data, commitment, made.data, label)
    r = p256.scalar_bytes(p256.reduce(v + x * p256.negate(h)))  # public from here on
    if shortest:
        r = r.lstrip(b"\0") or b"\0"
    parts = (made.data, commitment, r)
    return b"".join(len(part).to_bytes(1, "big") + part for part in parts), made


def read_item_untrusted(reader: Reader, generator: Item, label: bytes) -> Item:
    """Read the next item, check its proof, and return its point. Raises `JpakeError`."""
    read = reader.point_untrusted()
    commitment = reader.point_untrusted()
    r = reader.response_untrusted()
    h = challenge(generator.data, commitment.data, read.data, label)
    if p256.times(generator.point, r) + p256.times(read.point, h) != commitment.point:
        raise JpakeError("a proof does not hold", fault=Fault.ZKP_FAILED)
    return read


def challenge(generator: bytes, v: bytes, x: bytes, label: bytes) -> Scalar:
    """Return h of a proof; all its inputs are public."""
    return p256.reduce(p256.public_scalar(sha256(lp(generator) + lp(v) + lp(x) + label).digest()))
