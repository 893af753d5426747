"""J-PAKE over P-256 (RFC 8236): two sides that know the same short code agree on a strong point.

Who does not know the code gets one guess per run, and learns nothing from which a second could be
tried on paper. The client draws x1, x2, the server x3, x4; s is the code as a number:

    round one   client X1 = x1·G, X2 = x2·G             server X3 = x3·G, X4 = x4·G
    round two   client A = x2·s·(X1+X3+X4)              server B = x4·s·(X1+X2+X3)
    the end     K = x2·(B - x2·s·X4)                    K = x4·(A - x4·s·X2)

Each point comes with a proof of its factor (schnorr.py). Both sides have the same K if both had the
same s. Nothing here tells whether they had: that is for the confirmation after it (code.py).

On the wire round one is two items; round two is one, the server's after `03 00 17`. Two profiles:

    ecjpake   what Mbed TLS and Thread speak (draft-cragie-tls-ecjpake-01): ids "client" and
              "server", no OtherInfo, r without leading zeros
    handfast  ids "C"‖fpC and "D"‖fpD, OtherInfo = `context`: the client's label in each proof is
              lp("C"‖fpC)‖lp(context), the server's lp("D"‖fpD)‖lp(context); r is 32 bytes, so that
              a round one has 330

fpC and fpD are the 32-byte fingerprints given as `client` and `device`; the context is the EKM of
the session (protocol §5). So a round that is carried into another session, or given to another key,
fails at its first proof. The secret of both profiles is s = int(secret) mod n; for a code that
stays the same the secret is `stretched` first.

Secrets: x1..x4, the nonces, s and K are numbers and points of p256.py from the random bytes to
the bytes of K; none of them is a Python integer at any time. An object is for one exchange: each
step once, and after a refusal nothing at all.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, unique
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from peer.pairing import p256
from peer.pairing.binding import lp
from peer.pairing.schnorr import (
    Fault,
    Item,
    JpakeError,
    Reader,
    base,
    malformed,
    read_item_untrusted,
    write_item,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peer.pairing.p256 import Point, Scalar

__all__ = ["EcJpake", "Fault", "JpakeError", "stretched", "unavailable"]

CLIENT, SERVER = "client", "server"
ROUND_ONE_BYTES = 330  # of our own profile
_ECPARAMETERS = {SERVER: b"\x03\x00\x17", CLIENT: b""}  # named_curve secp256r1 (RFC 8422 §5.4)
_DRAWS = 64  # a source that is out of range so often is broken: one draw is so in 2^32

STRETCHED_BYTES = 48  # 128 bits more than n: the remainder modulo n is even
SCRYPT_COST = 2**15  # with r = 8: 32 MiB for some 0.1 s, on a board about a second
SCRYPT_BLOCK, SCRYPT_LANES = 8, 1


def unavailable() -> str:
    """Why pairing by a code cannot be offered here, or the empty string if it can."""
    lacking = p256.unavailable()
    return f"{lacking}; install handfast with its extra `code`" if lacking else ""


def stretched(code: bytes, salt: bytes) -> bytes:
    """The secret for a code that stays the same: 48 bytes of scrypt (RFC 7914), N 2^15, r 8, p 1.

    This is also what a device stores of it: who reads the store has to try codes at this price.
    """
    kdf = Scrypt(salt=salt, length=STRETCHED_BYTES, n=SCRYPT_COST, r=SCRYPT_BLOCK, p=SCRYPT_LANES)
    return kdf.derive(code)


def identities(client: bytes, device: bytes) -> dict[str, bytes]:
    """Both sides' ids in our own profile, by role: never the same for both."""
    return {CLIENT: b"C" + client, SERVER: b"D" + device}


@unique
class _Step(Enum):
    WRITE_ONE = "round one is written"
    READ_ONE = "round one is read"
    WRITE_TWO = "round two is written"
    READ_TWO = "round two is read"


_BOTH_ONES = frozenset({_Step.WRITE_ONE, _Step.READ_ONE})
_AFTER = {
    _Step.WRITE_ONE: frozenset[_Step](),
    _Step.READ_ONE: frozenset[_Step](),
    _Step.WRITE_TWO: _BOTH_ONES,
    _Step.READ_TWO: _BOTH_ONES,
}


@dataclass(frozen=True, slots=True)
class _Profile:
    """What differs: the labels of both sides' proofs, and how r is written."""

    labels: dict[str, bytes]
    shortest_r: bool


class EcJpake:
    """One side of one exchange. `JpakeError` is its only exception.

    `role` is "client" or "server"; `secret` the code's bytes, not 0 modulo n. `context`, `client`
    and `device` are for the profile "handfast": the bytes that both sides' proofs are bound to, and
    the two fingerprints (both or none, and not the same one twice). `entropy(count)` gives random
    bytes; it is asked for 32 at a time, for the scalars x1, v1, x2, v2 (the server: x3, v3, x4, v4)
    and then v of round two, and again for each that is 0 or not below n.

    Both rounds one come before both rounds two; within a round either side may be first.
    """

    def __init__(
        self,
        role: str,
        secret: bytes,
        *,
        profile: str = "ecjpake",
        context: bytes = b"",
        client: bytes = b"",
        device: bytes = b"",
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if lacking := unavailable():
            raise JpakeError(lacking, fault=Fault.UNAVAILABLE, advice="Use another method.")
        if role not in (CLIENT, SERVER):
            raise _misuse("a role is client or server")
        if not _are_bytes(secret, context, client, device):
            raise _misuse("secret, context and fingerprints are byte strings")
        self._own, self._peer = (CLIENT, SERVER) if role == CLIENT else (SERVER, CLIENT)
        self._profile = _profile(profile, context, client, device)
        self._entropy = entropy
        s = p256.reduced(p256.secret_scalar(secret))
        if p256.is_zero(s):
            raise _misuse("the secret is zero")
        self._secrets = [s]  # then x1 and x2, or x3 and x4
        self._done: set[_Step] = set()
        self._is_over = False
        self._round_one: dict[str, list[Item]] = {}  # by role
        self._shared = b""

    def write_round_one(self) -> bytes:
        """Our two points with their proofs, for the other side."""
        self._begin(_Step.WRITE_ONE)
        with self._or_over():
            drawn = [(self._draw(), self._draw()) for _ in range(2)]
            written = [self._item(base(), x, v) for x, v in drawn]
        self._secrets += [x for x, _ in drawn]
        self._round_one[self._own] = [made for _, made in written]
        return b"".join(data for data, _ in written)

    def read_round_one(self, data: object) -> None:
        """The other side's two points."""
        self._begin(_Step.READ_ONE)
        with self._or_over():
            reader = _reader_untrusted(data)
            read = [self._read_untrusted(reader, base()) for _ in range(2)]
            reader.end_untrusted()
        self._round_one[self._peer] = read

    def write_round_two(self) -> bytes:
        """Our point that has the secret in it, with its proof."""
        self._begin(_Step.WRITE_TWO)
        with self._or_over():
            s, _, x = self._secrets
            written, _ = self._item(self._generator(self._own), p256.product(x, s), self._draw())
        self._forget()
        return _ECPARAMETERS[self._own] + written

    def read_round_two(self, data: object) -> None:
        """The other side's such point. After this the shared point is there."""
        self._begin(_Step.READ_TWO)
        with self._or_over():
            reader = _reader_untrusted(data)
            reader.fixed_untrusted(_ECPARAMETERS[self._peer])
            theirs = self._read_untrusted(reader, self._generator(self._peer))
            reader.end_untrusted()
            self._shared = self._derived(theirs.point)
        self._forget()

    def shared_point(self) -> bytes:
        """K, 65 bytes, uncompressed. It is no key yet: hash it."""
        if not self._shared:
            raise _misuse("there is no shared point before round two was read")
        return self._shared

    def premaster(self) -> bytes:
        """SHA-256 of K's x-coordinate: the premaster secret of the ecjpake profile, 32 bytes."""
        return sha256(self.shared_point()[1:33]).digest()

    def public_points(self, role: str) -> tuple[bytes, ...]:
        """The two points of this role's round one, 65 bytes each: the confirmation names them."""
        if role not in self._round_one:
            raise _misuse("round one is not complete")
        return tuple(one.data for one in self._round_one[role])

    # -- steps ------------------------------------------------------------------------------------

    def _begin(self, step: _Step) -> None:
        if self._is_over:
            raise _misuse("this exchange was refused before")
        if step in self._done:
            raise _misuse(f"{step.value} already")
        if missing := _AFTER[step] - self._done:
            raise _misuse(f"not before {min(one.value for one in missing)}")
        self._done.add(step)

    @contextmanager
    def _or_over(self) -> Iterator[None]:
        """Whatever is raised inside is the end of the exchange."""
        try:
            yield
        except BaseException:
            self._is_over, self._shared = True, b""
            self._secrets.clear()
            raise

    def _forget(self) -> None:
        if len(self._done) == len(_Step):
            self._secrets.clear()

    # -- arithmetic -------------------------------------------------------------------------------

    def _draw(self) -> Scalar:
        for _ in range(_DRAWS):
            data = self._entropy(p256.SCALAR_BYTES)
            if not _are_bytes(data) or len(data) != p256.SCALAR_BYTES:
                break
            scalar = p256.secret_scalar(data)
            if p256.is_in_group(scalar) and not p256.is_zero(scalar):
                return scalar
        raise _misuse("the random source does not give 32 bytes")

    def _item(self, generator: Item, x: Scalar, v: Scalar) -> tuple[bytes, Item]:
        label = self._profile.labels[self._own]
        return write_item(generator, x, v, label, shortest=self._profile.shortest_r)

    def _read_untrusted(self, reader: Reader, generator: Item) -> Item:
        return read_item_untrusted(reader, generator, self._profile.labels[self._peer])

    def _generator(self, writer: str) -> Item:
        """X1+X3+X4 for what the client writes, X1+X2+X3 for the server; never infinity."""
        reader = SERVER if writer == CLIENT else CLIENT
        first, second = self._round_one[reader]
        return Item.of(self._round_one[writer][0].point + first.point + second.point)

    def _derived(self, theirs: Point) -> bytes:
        """K from the other side's point of round two; never infinity."""
        s, _, x = self._secrets
        _, their_second = self._round_one[self._peer]
        masked = p256.times(their_second.point, p256.negated(p256.product(x, s)))
        return Item.of(p256.times(theirs + masked, x)).data


def _reader_untrusted(data: object) -> Reader:
    if not isinstance(data, bytes):
        raise malformed("a round is a byte string")
    return Reader(data)


def _profile(name: str, context: bytes, client: bytes, device: bytes) -> _Profile:
    match name:
        case "ecjpake":
            if context or client or device:
                raise _misuse("the profile ecjpake cannot be bound to anything")
            return _Profile({role: lp(role.encode()) for role in (CLIENT, SERVER)}, shortest_r=True)
        case "handfast":
            if bool(client) != bool(device) or (client and client == device):
                raise _misuse("two different fingerprints, or none")
            names = identities(client, device)
            labels = {role: lp(name) + lp(context) for role, name in names.items()}
            return _Profile(labels, shortest_r=False)
        case _:
            raise _misuse("a profile is ecjpake or handfast")


def _are_bytes(*values: object) -> bool:
    return all(isinstance(value, bytes) for value in values)


def _misuse(why: str) -> JpakeError:
    return JpakeError(why, fault=Fault.MISUSE)
