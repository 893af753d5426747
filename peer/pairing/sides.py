"""The device's side of a method, and a method as a window offers it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from peer.pairing.binding import Channel
from peer.pairing.ceremony import Fields, Stage


class DeviceSide(Protocol):
    """The device's half of a method: one object per ceremony, each step once and in this order.

    Each step takes the body of the client's message. `Malformed`, for a field that is missing or of
    another type, leaves the object as it was; `Mismatch` ends it.
    """

    def begin_untrusted(self, message: Fields) -> Fields:
        """The client's start; the fields of the answer."""

    def exchange_untrusted(self, message: Fields) -> Fields:
        """The client's second message, if the method has an exchange; the fields of the answer."""

    def number(self) -> str:
        """What both users compare, once the exchange is over; empty for other methods."""

    def check_untrusted(self, message: Fields) -> None:
        """Raise `Mismatch` unless the client's confirmation is right."""

    def device_tag(self) -> bytes:
        """The device's tag; only after a right `check_untrusted`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one ceremony is about, and what both sides have to mean alike."""

    channel: Channel
    role: str
    user: str
    ceremony_id: str


@dataclass(frozen=True, slots=True)
class OfferedMethod:
    """A way of pairing, as a window offers it. `make` gives the device's half of one ceremony,
    `first` is where it begins, `verified` is False if nobody's key is proved. `keeps_receipt`: only
    the device's tag authenticates the device to the client, so the device keeps a receipt of it for
    a client that lost the last answer."""

    name: str
    make: Callable[[Terms], DeviceSide] = field(repr=False)
    first: Stage = Stage.ASKING
    verified: bool = True
    keeps_receipt: bool = False
