"""A man in the middle of the method `sas`, its strategies, and both sides."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from peer.identity import Fingerprint
from peer.pairing.binding import Channel
from peer.pairing.errors import Mismatch
from peer.pairing.sas import SasClient, SasDevice, commitment, number
from peer.pairing.sides import Terms, bytes_field

DIGITS = 2
WINDOW = b"\x04" * 16
CLIENT, DEVICE, MIDDLE = (Fingerprint(bytes([n]) * 32) for n in (2, 3, 9))


class Client(Protocol):
    @property
    def number(self) -> str: ...
    def answer(self, commit: object) -> bytes: ...
    def open(self, device_nonce: object) -> None: ...


class Device(Protocol):
    @property
    def number(self) -> str: ...
    def commit(self) -> bytes: ...
    def reveal(self, client_nonce: object) -> bytes: ...


@dataclass
class Middle:
    """The knowledge of the man in the middle: the bindings of both sessions, and random bytes."""

    b_client: bytes
    b_device: bytes
    rng: random.Random

    def nonce(self) -> bytes:
        return self.rng.randbytes(32)

    def as_device(self, shown: str, client_nonce: bytes) -> bytes:
        """Search for a device nonce that makes the client show this number: about 100 tries."""
        while number(self.b_client, client_nonce, nonce := self.nonce(), digits=DIGITS) != shown:
            pass
        return nonce

    def as_client(self, shown: str, device_nonce: bytes) -> bytes:
        """Search for a client nonce that makes the device show this number."""
        while number(self.b_device, nonce := self.nonce(), device_nonce, digits=DIGITS) != shown:
            pass
        return nonce


Strategy = Callable[[Middle, Client, Device], None]


# -------------------------------------------------------------------------------------- strategies


def client_first(m: Middle, client: Client, device: Device) -> None:
    """Learn the client's number first; the device's number can only match by chance."""
    own = m.nonce()
    client.answer(commitment(m.b_client, own))
    client.open(own)
    device.commit()
    device.reveal(m.nonce())


def device_first(m: Middle, client: Client, device: Device) -> None:
    """Learn the device's number first, then commit; the client's can only match by chance."""
    device.commit()
    device.reveal(m.nonce())
    own = m.nonce()
    client.answer(commitment(m.b_client, own))
    client.open(own)


def device_first_with_a_fitting_commitment(m: Middle, client: Client, device: Device) -> None:
    """The same, with a commitment that fits a guess of the client's nonce."""
    device.commit()
    device.reveal(m.nonce())
    own = m.as_device(device.number, m.nonce())
    client.answer(commitment(m.b_client, own))
    client.open(own)


def interleaved(m: Middle, client: Client, device: Device) -> None:
    """Get both commitments and the client's nonce before choosing the device's input.

    The client's number is known then, but the device's depends on its nonce, so the choice does not
    matter: the client's nonce is passed on.
    """
    own = m.nonce()
    device.commit()
    theirs = client.answer(commitment(m.b_client, own))
    device.reveal(theirs)
    client.open(own)


def relay(_m: Middle, client: Client, device: Device) -> None:
    """Pass every message on unchanged."""
    nonce = device.reveal(client.answer(device.commit()))
    client.open(nonce)


def search(m: Middle, client: Client, device: Device) -> None:
    """Commit to any nonce, learn everything, and open with a nonce that fits."""
    theirs = client.answer(commitment(m.b_client, m.nonce()))
    device.commit()
    device.reveal(m.nonce())
    client.open(m.as_device(device.number, theirs))


BLIND: dict[str, Strategy] = {
    "client first": client_first,
    "device first": device_first,
    "interleaved": interleaved,
}


# ------------------------------------------------------------------------------------------ sides


class RealDevice(SasDevice):
    """The device's side, with one call per message."""

    def commit(self) -> bytes:
        return bytes_field(self.begin_untrusted({}), "commit")

    def reveal(self, client_nonce: object) -> bytes:
        return bytes_field(self.exchange_untrusted({"nonce": client_nonce}), "nonce")


class RealClient(SasClient):
    """The client's side, with one call per message."""

    terms: Terms

    def answer(self, commit: object) -> bytes:
        self.begin()
        message = self.started_untrusted(self.terms, {"commit": commit})
        assert message is not None
        return bytes_field(message, "nonce")

    def open(self, device_nonce: object) -> None:
        self.exchanged_untrusted({"nonce": device_nonce})

    def accept(self) -> bytes:
        return bytes_field(self.confirm(), "confirm")


class QuickClient:
    """`SasClient` without tags and without checks of the order."""

    def __init__(self, b: bytes, nonce: bytes) -> None:
        self._b, self._nonce, self._commit = b, nonce, b""
        self.number = ""

    def answer(self, commit: object) -> bytes:
        assert isinstance(commit, bytes)
        self._commit = commit
        return self._nonce

    def open(self, device_nonce: object) -> None:
        assert isinstance(device_nonce, bytes)
        if commitment(self._b, device_nonce) != self._commit:
            raise Mismatch("commitment")
        self.number = number(self._b, self._nonce, device_nonce, digits=DIGITS)


class QuickDevice:
    """`SasDevice` without tags and without checks of the order."""

    def __init__(self, b: bytes, nonce: bytes) -> None:
        self._b, self._nonce = b, nonce
        self.number = ""

    def commit(self) -> bytes:
        return commitment(self._b, self._nonce)

    def reveal(self, client_nonce: object) -> bytes:
        assert isinstance(client_nonce, bytes)
        self.number = number(self._b, client_nonce, self._nonce, digits=DIGITS)
        return self._nonce


@dataclass(frozen=True)
class Scene:
    """The two sessions of a man in the middle and the nonces of both sides, from a seed."""

    to_client: Channel
    to_device: Channel
    client_nonce: bytes
    device_nonce: bytes
    role: str = "guest"

    @classmethod
    def seeded(cls, seed: int) -> "Scene":
        rng = random.Random(seed)
        return cls(
            Channel(rng.randbytes(32), CLIENT, MIDDLE, WINDOW),
            Channel(rng.randbytes(32), MIDDLE, DEVICE, WINDOW),
            rng.randbytes(32),
            rng.randbytes(32),
        )

    def middle(self, seed: int = 0) -> Middle:
        return Middle(
            self.to_client.binding(method="sas", role=self.role),
            self.to_device.binding(method="sas", role=self.role),
            random.Random(f"middle {seed}"),
        )

    def client(self, kind: "type[RealClient] | None" = None) -> "RealClient":
        client = (kind or RealClient)(lambda _: self.client_nonce, digits=DIGITS)
        client.terms = Terms(self.to_client, self.role, "anna", "7f")
        return client

    def device(self, kind: "type[RealDevice] | None" = None) -> "RealDevice":
        terms = Terms(self.to_device, self.role, "anna", "7f")
        return (kind or RealDevice)(terms, random_bytes=lambda _: self.device_nonce, digits=DIGITS)


def plausible(hits: int, runs: int, chance: float) -> bool:
    """True if both tails of the binomial distribution at `hits` are above one in a million."""
    logs = [
        math.lgamma(runs + 1) - math.lgamma(k + 1) - math.lgamma(runs - k + 1)
        + k * math.log(chance) + (runs - k) * math.log1p(-chance)
        for k in range(int(runs * chance * 3) + 1)
    ]  # fmt: skip
    odds = [math.exp(log) for log in logs]
    if hits >= len(odds):
        return False
    return sum(odds[: hits + 1]) > 1e-6 and 1 - sum(odds[:hits]) > 1e-6
