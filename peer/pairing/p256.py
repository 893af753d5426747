"""The curve P-256 for secret values: points, and scalars that never become Python integers.

This is the only file that imports pycryptodome. From 4.0 on, compiled code of constant time
computes on its points and on its `Integer`: a small scalar takes as long as a large one
(tests/bench/test_jpake.py has the measurements). Four properties of the library would undo that or
accept invalid points, so other code does not call it directly:

  * it passes a scalar that is a Python int on in as few bytes as possible: ours are `Integer`;
  * `EccPoint` reduces coordinates modulo p: `decode_untrusted` requires them to be below p;
  * `EccPoint(0, 0)` is the point at infinity and raises no error: it is refused, since it proves
    nothing;
  * `EccPoint.x` and `.xy` are Python ints: `encode` uses the SEC 1 encoding, which avoids them.

The Python ints of this file are public: the order, a proof's hash, a peer's answer. The results of
comparisons and the lengths of byte strings show in time; neither is secret. The library draws
random numbers of its own to blind its steps; they change no result. Python cannot erase memory: the
bytes that a scalar was made from stay in memory until they are collected.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

if TYPE_CHECKING:
    from Crypto.Math._IntegerBase import IntegerBase
    from Crypto.Math.Numbers import Integer
    from Crypto.PublicKey.ECC import EccKey, EccPoint  # type: ignore[attr-defined]  # it is public

    Point: TypeAlias = EccPoint
    Scalar: TypeAlias = IntegerBase

CURVE = "P-256"
FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SCALAR_BYTES = 32
POINT_BYTES = 65
_UNCOMPRESSED = b"\x04"  # SEC 1 §2.3.3
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


class InvalidPoint(ValueError):
    """The bytes do not encode a usable point: it is off the curve, or at infinity."""


_MISSING = "pycryptodome is not installed"
_OLD = "this pycryptodome is older than 4.0: its arithmetic is not of constant time"


class _Library(NamedTuple):
    """The classes of pycryptodome that this file uses."""

    integer: type[Integer]
    point: type[EccPoint]
    key: type[EccKey]


@cache
def _loaded() -> _Library | str:
    """Load the library, or return why it cannot be used.

    It takes 3 MB and 50 ms, so it is loaded for the first pairing that needs it.
    """
    if lacking := missing():
        return lacking
    try:
        from Crypto.Math.Numbers import Integer  # noqa: PLC0415 - as said above
        from Crypto.PublicKey.ECC import (  # type: ignore[attr-defined]  # noqa: PLC0415
            EccKey,
            EccPoint,
        )
    except (ImportError, OSError):
        return _MISSING
    if not Integer.__module__.endswith("._IntegerNat"):
        return "this pycryptodome has no compiled arithmetic"
    return _Library(Integer, EccPoint, EccKey)


def _library() -> _Library:
    library = _loaded()
    if isinstance(library, str):
        raise RuntimeError(library)  # the callers have asked `unavailable`
    return library


def missing() -> str:
    """Return why the library cannot be used, as far as that is known without loading it."""
    try:
        import Crypto  # noqa: PLC0415 - the package alone is small
    except (ImportError, OSError):
        return _MISSING
    return _OLD if Crypto.version_info[0] < 4 else ""


def unavailable() -> str:
    """Return why the curve is not available; an empty string if it is. It loads the library."""
    library = _loaded()
    return library if isinstance(library, str) else ""


# -- scalars --------------------------------------------------------------------------------------


def secret_scalar(data: bytes) -> Scalar:
    """Return the number in these bytes, big-endian; no time depends on its value."""
    return _library().integer.from_bytes(data)


def public_scalar(data: bytes) -> Scalar:
    """Return the number in these bytes as a public one: time may depend on its value."""
    return _library().integer.from_bytes(data, public=True)


def reduce(scalar: Scalar) -> Scalar:
    """Return the scalar modulo the order; it stays as public or as secret as it was."""
    return scalar % _order()


def product(left: Scalar, right: Scalar) -> Scalar:
    """Return left · right, modulo the order."""
    return reduce(left * right)


def negate(scalar: Scalar) -> Scalar:
    """Return -scalar modulo the order, for 0 ≤ scalar ≤ order; for 0, the order itself."""
    return _order() - scalar


def is_in_group(scalar: Scalar) -> bool:
    """Return whether the scalar is below the order."""
    return scalar < _order()


def is_zero(scalar: Scalar) -> bool:
    """Return whether the scalar is 0; the result shows in time."""
    return scalar == 0


def scalar_bytes(scalar: Scalar) -> bytes:
    """Return the scalar as 32 bytes, big-endian."""
    return scalar.to_bytes(SCALAR_BYTES)


@cache
def _order() -> Scalar:
    return _library().integer(ORDER, public=True)


# -- points ---------------------------------------------------------------------------------------


@cache
def base() -> Point:
    """Return the generator G of the curve."""
    return _library().point(*_BASE, curve=CURVE)


@cache
def _infinity() -> Point:
    return _library().point(0, 0, curve=CURVE)


def times(point: Point, scalar: Scalar) -> Point:
    """Return scalar · point, in constant time unless the scalar is a public one."""
    return point * cast("int", scalar)  # annotated as int, made for an Integer


def is_infinity(point: Point) -> bool:
    """Return whether the point is the neutral element; the result shows in time."""
    return point == _infinity()


def encode(point: Point) -> bytes:
    """Return the point in 65 bytes, uncompressed (SEC 1 §2.3.3).

    Raises `InvalidPoint` for infinity, which has no such encoding.
    """
    if is_infinity(point):
        raise InvalidPoint("the point is at infinity")
    return _library().key(curve=CURVE, point=point).export_key(format="SEC1")


def decode_untrusted(data: bytes) -> Point:
    """Return the point in 65 uncompressed bytes. Raises `InvalidPoint`."""
    x, y = (int.from_bytes(half) for half in (data[1:33], data[33:]))
    if len(data) != POINT_BYTES or data[:1] != _UNCOMPRESSED or max(x, y) >= FIELD:
        raise InvalidPoint("these bytes are not an uncompressed point of P-256")
    try:
        point = _library().point(x, y, curve=CURVE)
    except ValueError:
        raise InvalidPoint("the point is not on the curve") from None
    if is_infinity(point):
        raise InvalidPoint("the point is at infinity")
    return point
