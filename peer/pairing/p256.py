"""The curve P-256 for secrets: points, and scalars that never become Python integers.

This is the one file that imports pycryptodome. From 4.0 on, its points and its `Integer` are worked
on by compiled code of constant time: it takes as long for a small scalar as for a large one (the
table is in tests/bench/test_jpake.py). Four of its habits would undo that or let bad points in,
so nobody calls it directly:

  * a scalar given as a Python int is passed on in as few bytes as it needs: ours are `Integer`;
  * `EccPoint` reduces coordinates modulo p: `decoded_untrusted` wants them below p;
  * `EccPoint(0, 0)` is the point at infinity, without an error: refused, it proves nothing;
  * `EccPoint.x` and `.xy` are Python ints: `encoded` takes the road of SEC1, which has none.

What a Python int does here is public: the order, a proof's hash, a peer's answer. What does show in
time are comparisons by their outcome, and the lengths of byte strings; neither is a secret. The
library draws random numbers of its own to blind its steps; they change no result. Python cannot
wipe memory: the bytes that a scalar came from live until they are collected.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeAlias, cast

try:
    import Crypto
    from Crypto.Math.Numbers import Integer
    from Crypto.PublicKey.ECC import EccKey, EccPoint  # type: ignore[attr-defined]  # it is public
except (ImportError, OSError):
    _LACKING = "pycryptodome is not installed"
else:
    if Crypto.version_info[0] < 4:
        _LACKING = "this pycryptodome is older than 4.0: its arithmetic is not of constant time"
    elif not Integer.__module__.endswith("._IntegerNat"):
        _LACKING = "this pycryptodome has no compiled arithmetic"
    else:
        _LACKING = ""

if TYPE_CHECKING:
    from Crypto.Math._IntegerBase import IntegerBase

    Point: TypeAlias = EccPoint
    Scalar: TypeAlias = IntegerBase

CURVE = "P-256"
FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SCALAR_BYTES = 32
POINT_BYTES = 65
_UNCOMPRESSED = b"\x04"  # SEC1 §2.3.3
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


class NoPoint(ValueError):
    """These bytes are no point that a proof can be about: off the curve, or at infinity."""


def unavailable() -> str:
    """Why there is no curve here, or the empty string."""
    return _LACKING


# -- scalars --------------------------------------------------------------------------------------


def secret_scalar(data: bytes) -> Scalar:
    """The number in these bytes, big-endian; its value does not show in any time."""
    return Integer.from_bytes(data)


def public_scalar(data: bytes) -> Scalar:
    """The same for a number that everybody may know: what is done with it may be faster."""
    return Integer.from_bytes(data, public=True)


def reduced(scalar: Scalar) -> Scalar:
    """Modulo the order; as public or as secret as it was."""
    return scalar % _order()


def product(left: Scalar, right: Scalar) -> Scalar:
    """left · right, modulo the order."""
    return reduced(left * right)


def negated(scalar: Scalar) -> Scalar:
    """-scalar modulo the order, for 0 ≤ scalar ≤ order; 0 becomes the order itself."""
    return _order() - scalar


def is_in_group(scalar: Scalar) -> bool:
    """Whether it is below the order."""
    return scalar < _order()


def is_zero(scalar: Scalar) -> bool:
    """Whether it is 0: this much shows."""
    return scalar == 0


def scalar_bytes(scalar: Scalar) -> bytes:
    """Always 32 bytes."""
    return scalar.to_bytes(SCALAR_BYTES)


@cache
def _order() -> Scalar:
    return Integer(ORDER, public=True)


# -- points ---------------------------------------------------------------------------------------


@cache
def base() -> Point:
    """The generator G of the curve."""
    return EccPoint(*_BASE, curve=CURVE)


@cache
def _infinity() -> Point:
    return EccPoint(0, 0, curve=CURVE)


def times(point: Point, scalar: Scalar) -> Point:
    """scalar · point; of constant time unless the scalar was made as a public one."""
    return point * cast("int", scalar)  # its hint says int; an Integer is what it is made for


def is_infinity(point: Point) -> bool:
    """Whether it is the neutral element: this much shows."""
    return point == _infinity()


def encoded(point: Point) -> bytes:
    """65 bytes, uncompressed (SEC1 §2.3.3). Raises `NoPoint` for infinity: it has no such form."""
    if is_infinity(point):
        raise NoPoint("the point is at infinity")
    return EccKey(curve=CURVE, point=point).export_key(format="SEC1")


def decoded_untrusted(data: bytes) -> Point:
    """The point in 65 uncompressed bytes. Raises `NoPoint`."""
    x, y = (int.from_bytes(half) for half in (data[1:33], data[33:]))
    if len(data) != POINT_BYTES or data[:1] != _UNCOMPRESSED or max(x, y) >= FIELD:
        raise NoPoint("not an uncompressed point of P-256")
    try:
        point = EccPoint(x, y, curve=CURVE)
    except ValueError:
        raise NoPoint("the point is not on the curve") from None
    if is_infinity(point):
        raise NoPoint("the point is at infinity")
    return point
