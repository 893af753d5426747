"""J-PAKE over P-256 (RFC 8236): two sides that know the same short code agree on a strong point.

An attacker who does not know the code gets one guess per run, and no material for an offline
dictionary attack. The client draws x1 and x2, the server x3 and x4; s is the code as a number
(RFC 8236 §2.2 and §2.3):

    round one   client X1 = x1·G, X2 = x2·G             server X3 = x3·G, X4 = x4·G
    round two   client A = x2·s·(X1+X3+X4)              server B = x4·s·(X1+X2+X3)
    the end     K = x2·(B - x2·s·X4)                    K = x4·(A - x4·s·X2)

Each point comes with a Schnorr proof of its factor (schnorr.py). Both sides get the same K exactly
if both had the same s. Nothing here reveals whether they had: the confirmation after it does
(code.py).

On the wire, round one is two items. Round two is one item; the server's follows the bytes
`03 00 17`. There are two profiles:

    ecjpake   as in Mbed TLS and Thread (draft-cragie-tls-ecjpake-01): ids "client" and "server", no
              OtherInfo, r without leading zeros
    handfast  ids "C"‖fpC and "D"‖fpD, OtherInfo = `context`: the client's label in each proof is
              lp("C"‖fpC)‖lp(context), the server's lp("D"‖fpD)‖lp(context); r is 32 bytes, so that
              a round one has 330

fpC and fpD are the 32-byte fingerprints given as `client` and `device`; the context is the EKM of
the session (protocol §5). A round that is moved to another session or another key therefore fails
at its first proof. In both profiles s = int(secret) mod n. The secret of a code that does not
change is stretched first (`peer.pairing.typed`).

Secrets: x1 to x4, the nonces, s and K are numbers and points of p256.py from the random bytes to
the bytes of K. None of them is ever a Python integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique
from hashlib import sha256
from typing import TYPE_CHECKING

from peer.limits import RANDOM_SCALAR_DRAWS
from peer.pairing import p256
from peer.pairing.binding import lp
from peer.pairing.errors import Misuse
from peer.pairing.one_shot import OneShot, step
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
    from peer.pairing.p256 import Point, Scalar
    from peer.pairing.sides import RandomBytes

__all__ = ["EcJpake", "Fault", "JpakeError", "missing", "unavailable"]

CLIENT, SERVER = "client", "server"
ROUND_ONE_BYTES = 330  # of our own profile
_ECPARAMETERS = {SERVER: b"\x03\x00\x17", CLIENT: b""}  # named_curve secp256r1 (RFC 8422 §5.4)


def unavailable() -> str:
    """Return why pairing by a code is not possible here; an empty string if it is."""
    return _with_remedy(p256.unavailable())


def missing() -> str:
    """Return what `unavailable` does, as far as that is known without loading the library."""
    return _with_remedy(p256.missing())


def _with_remedy(lacking: str) -> str:
    return f"{lacking}; install pycryptodome 4 or newer" if lacking else ""


def identities(client: bytes, device: bytes) -> dict[str, bytes]:
    """Return the ids of both sides in the profile `handfast`, by role; they always differ."""
    return {CLIENT: b"C" + client, SERVER: b"D" + device}


@unique
class _Step(Enum):
    WRITE_ONE = auto()
    READ_ONE = auto()
    WRITE_TWO = auto()
    READ_TWO = auto()


@dataclass(frozen=True, slots=True)
class _Profile:
    """The labels of the proofs and the encoding of r, which differ between profiles."""

    labels: dict[str, bytes]
    shortest_r: bool


class EcJpake(OneShot):
    """One side of one exchange.

    Both rounds one come before both rounds two; within a round, either side may be first.

    Args:
        role: "client" or "server".
        secret: the code's bytes; must not be 0 modulo n.
        profile: "ecjpake" or "handfast".
        context: for the profile `handfast`, the bytes that both sides' proofs are bound to.
        client: for the profile `handfast`, the client's fingerprint; both or none are given.
        device: for the profile `handfast`, the device's fingerprint, other than the client's.
        random_bytes: a random source. It is asked for 32 bytes at a time: for the scalars x1, v1,
            x2, v2 (the server: x3, v3, x4, v4), then for v of round two, and again for each value
            that is 0 or not below n.

    Raises:
        JpakeError: the library of the curve is missing, or a step read invalid bytes.
        Misuse: an argument is not valid, or a step is out of order.
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
        random_bytes: RandomBytes,
    ) -> None:
        super().__init__(
            frozenset({_Step.WRITE_ONE, _Step.READ_ONE}),
            frozenset({_Step.WRITE_TWO, _Step.READ_TWO}),
        )
        if lacking := unavailable():
            raise JpakeError(lacking, fault=Fault.UNAVAILABLE, advice="Use another method.")
        if role not in (CLIENT, SERVER):
            raise _misuse("the role is neither client nor server")
        if not _are_bytes(secret, context, client, device):
            raise _misuse("secret, context and fingerprints must be byte strings")
        self._own, self._peer = (CLIENT, SERVER) if role == CLIENT else (SERVER, CLIENT)
        self._profile = _profile(profile, context, client, device)
        self._random_bytes = random_bytes
        s = p256.reduce(p256.secret_scalar(secret))
        if p256.is_zero(s):
            raise _misuse("the secret is zero")
        self._secrets = [s]  # then x1 and x2, or x3 and x4
        self._round_one: dict[str, list[Item]] = {}  # by role
        self._shared = b""

    @step(_Step.WRITE_ONE)
    def write_round_one(self) -> bytes:
        """Return this side's two points with their proofs."""
        drawn = [(self._draw(), self._draw()) for _ in range(2)]
        written = [self._item(base(), x, v) for x, v in drawn]
        self._secrets += [x for x, _ in drawn]
        self._round_one[self._own] = [made for _, made in written]
        return b"".join(data for data, _ in written)

    @step(_Step.READ_ONE)
    def read_round_one(self, data: object) -> None:
        """Read the other side's two points. Raises `JpakeError`."""
        reader = _reader_untrusted(data)
        read = [self._read_untrusted(reader, base()) for _ in range(2)]
        reader.end_untrusted()
        self._round_one[self._peer] = read

    @step(_Step.WRITE_TWO)
    def write_round_two(self) -> bytes:
        """Return this side's point that contains the secret, with its proof."""
        s, _, x = self._secrets
        written, _ = self._item(self._generator(self._own), p256.product(x, s), self._draw())
        return _ECPARAMETERS[self._own] + written

    @step(_Step.READ_TWO)
    def read_round_two(self, data: object) -> None:
        """Read the other side's point of round two; then `shared_point` is available.

        Raises `JpakeError`.
        """
        reader = _reader_untrusted(data)
        reader.fixed_untrusted(_ECPARAMETERS[self._peer])
        theirs = self._read_untrusted(reader, self._generator(self._peer))
        reader.end_untrusted()
        self._shared = self._derived(theirs.point)

    def shared_point(self) -> bytes:
        """Return K, 65 bytes, uncompressed. It is not a key: hash it. Raises `Misuse`."""
        if not self._shared:
            raise _misuse("there is no shared point before round two is read")
        return self._shared

    def premaster(self) -> bytes:
        """Return the premaster secret of the profile `ecjpake`: SHA-256 of K's x-coordinate."""
        return sha256(self.shared_point()[1:33]).digest()

    def public_points(self, role: str) -> tuple[bytes, ...]:
        """Return the two points of this role's round one, 65 bytes each, for the confirmation."""
        if role not in self._round_one:
            raise _misuse("round one is not complete")
        return tuple(one.data for one in self._round_one[role])

    def _finish(self, *, failed: bool) -> None:
        self._secrets.clear()
        if failed:
            self._shared = b""

    def _draw(self) -> Scalar:
        for _ in range(RANDOM_SCALAR_DRAWS):
            data = self._random_bytes(p256.SCALAR_BYTES)
            if not _are_bytes(data) or len(data) != p256.SCALAR_BYTES:
                break
            scalar = p256.secret_scalar(data)
            if p256.is_in_group(scalar) and not p256.is_zero(scalar):
                return scalar
        raise _misuse("the random source returns no usable 32 bytes")

    def _item(self, generator: Item, x: Scalar, v: Scalar) -> tuple[bytes, Item]:
        label = self._profile.labels[self._own]
        return write_item(generator, x, v, label, shortest=self._profile.shortest_r)

    def _read_untrusted(self, reader: Reader, generator: Item) -> Item:
        return read_item_untrusted(reader, generator, self._profile.labels[self._peer])

    def _generator(self, writer: str) -> Item:
        """Return X1+X3+X4 for what the client writes, X1+X2+X3 for the server; never infinity."""
        reader = SERVER if writer == CLIENT else CLIENT
        first, second = self._round_one[reader]
        return Item.from_point(self._round_one[writer][0].point + first.point + second.point)

    def _derived(self, theirs: Point) -> bytes:
        """Return K from the other side's point of round two; never infinity."""
        s, _, x = self._secrets
        _, their_second = self._round_one[self._peer]
        masked = p256.times(their_second.point, p256.negate(p256.product(x, s)))
        return Item.from_point(p256.times(theirs + masked, x)).data


def _reader_untrusted(data: object) -> Reader:
    if not isinstance(data, bytes):
        raise malformed("a round is not a byte string")
    return Reader(data)


def _profile(name: str, context: bytes, client: bytes, device: bytes) -> _Profile:
    match name:
        case "ecjpake":
            if context or client or device:
                raise _misuse("the profile ecjpake takes no context and no fingerprints")
            return _Profile({role: lp(role.encode()) for role in (CLIENT, SERVER)}, shortest_r=True)
        case "handfast":
            if bool(client) != bool(device) or (client and client == device):
                raise _misuse("give two different fingerprints, or none")
            names = identities(client, device)
            labels = {role: lp(name) + lp(context) for role, name in names.items()}
            return _Profile(labels, shortest_r=False)
        case _:
            raise _misuse("the profile is neither ecjpake nor handfast")


def _are_bytes(*values: object) -> bool:
    return all(isinstance(value, bytes) for value in values)


def _misuse(what: str) -> Misuse:
    return Misuse(what, advice="Start a new pairing.")
