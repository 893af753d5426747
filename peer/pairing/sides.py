"""The two sides of a method, and the steps that all methods have in common.

A ceremony has one `DeviceSide` and one `ClientSide`. Each step takes the fields of a message and
returns the fields of the next one. Both end alike: the client's confirmation carries its tag, and
the device answers with its own tag once it has stored the client.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto, unique
from typing import ClassVar

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.binding import Channel, Confirmation, receipt, tags_equal
from peer.pairing.ceremony import Fields
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.methods import Method
from peer.pairing.one_shot import OneShot, step

RandomBytes = Callable[[int], bytes]
"""A random source: returns as many random bytes as it is asked for."""


@dataclass(frozen=True, slots=True)
class Session:
    """The DTLS session of a client: its exporter value (32 bytes) and the keys of both sides."""

    ekm: bytes = field(repr=False)
    client: Fingerprint
    device: Fingerprint


@dataclass(frozen=True, slots=True)
class Terms:
    """The values on which both sides of one ceremony must agree."""

    channel: Channel
    role: str
    user: str
    ceremony_id: str

    def binding(self, method: Method) -> bytes:
        """The transcript B of these terms (protocol §5)."""
        return self.channel.binding(method=method, role=self.role)


@unique
class Step(Enum):
    """The steps of both sides."""

    START = auto()
    STARTED = auto()  # of the client alone: the answer to the start
    EXCHANGE = auto()  # of methods with an exchange
    CONFIRM = auto()
    FINISH = auto()


def _exchange_of(method: Method) -> tuple[frozenset[Step], ...]:
    return (frozenset({Step.EXCHANGE}),) if method.spec.has_exchange else ()


class DeviceSide(OneShot, ABC):
    """The device's side of one ceremony.

    Each step takes the fields of the client's message. It raises `Malformed` if a field is missing
    or has the wrong type; the message may then be sent again. It raises `Mismatch` if a value is
    wrong; that ends the ceremony. A step out of order raises `Misuse`.
    """

    method: ClassVar[Method]
    retry_advice: ClassVar[str] = "Start again."

    def __init__(self, terms: Terms) -> None:
        super().__init__(
            frozenset({Step.START}),
            *_exchange_of(self.method),
            frozenset({Step.CONFIRM}),
            frozenset({Step.FINISH}),
        )
        self._terms = terms
        self._tags: Confirmation | None = None

    @step(Step.START)
    def begin_untrusted(self, _message: Fields) -> Fields:
        """Take the client's start; return the fields of the answer."""
        return {}

    @step(Step.EXCHANGE)
    def exchange_untrusted(self, _message: Fields) -> Fields:
        """Take the client's second message, if the method has an exchange; return the answer."""
        raise Misuse("this method has no exchange", advice="Send the confirmation instead.")

    @property
    def number(self) -> str:
        """The number that both users compare, once the exchange is over; empty in other methods."""
        return ""

    @step(Step.CONFIRM)
    def check_untrusted(self, message: Fields) -> None:
        """Raise `Mismatch` unless the client's confirmation is right; there is no second try."""
        tag = bytes_field(message, "confirm")
        self._tags = self._derive_tags_untrusted(message)
        if not tags_equal(self._tags.client_tag, tag):
            raise self._mismatch("the client's confirmation is wrong")

    @step(Step.FINISH)
    def device_tag(self) -> bytes:
        """Return the device's tag, for the answer after the commit."""
        assert self._tags is not None
        return self._tags.device_tag

    @abstractmethod
    def _derive_tags_untrusted(self, message: Fields) -> Confirmation:
        """Return the tags of this ceremony; `message` is the client's confirmation."""

    def _mismatch(self, what: str) -> Mismatch:
        return Mismatch(what, advice=self.retry_advice)


class ClientSide(OneShot, ABC):
    """The client's side of one ceremony.

    Each step takes the fields of the device's answer and raises `Mismatch` if it is wrong, which
    ends the ceremony. A step out of order raises `Misuse`.
    """

    method: ClassVar[Method]
    retry_advice: ClassVar[str] = "Start again."

    def __init__(self) -> None:
        super().__init__(
            frozenset({Step.START}),
            frozenset({Step.STARTED}),
            *_exchange_of(self.method),
            frozenset({Step.CONFIRM}),
            frozenset({Step.FINISH}),
        )
        self._tags: Confirmation | None = None

    @step(Step.START)
    def begin(self) -> Fields:
        """Return the fields of the start, beside method, name and role."""
        return {}

    @abstractmethod
    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """Take the answer to the start; return the fields of the exchange, if there is one."""

    @step(Step.EXCHANGE)
    def exchanged_untrusted(self, _answer: Fields) -> None:
        """Take the answer to the exchange."""
        raise Misuse("this method has no exchange", advice="Send the confirmation instead.")

    @property
    def number(self) -> str:
        """The number that both users compare; empty in other methods."""
        return ""

    @step(Step.CONFIRM)
    def confirm(self) -> Fields:
        """Return the fields of the confirmation: this side's user has agreed."""
        return {**self._proof(), "confirm": self._required_tags.client_tag}

    @step(Step.FINISH)
    def verify_untrusted(self, answer: Fields) -> None:
        """Raise `Mismatch` unless the device's tag is right: only then may it be stored."""
        self._compare(self._required_tags.device_tag, answer.get("confirm"))

    @step(Step.FINISH)
    def verify_receipt_untrusted(self, offered: object) -> None:
        """Raise `Mismatch` unless this is the receipt of the device's tag, which was lost.

        Methods that keep no receipt have nothing to verify here: they authenticated the device's
        key before the tag, or never do.
        """
        if self.method.spec.keeps_receipt:
            self._compare(receipt(self._required_tags.device_tag), offered)

    def _proof(self) -> Fields:
        """Return the fields of the confirmation beside the tag."""
        return {}

    @property
    def _required_tags(self) -> Confirmation:
        assert self._tags is not None
        return self._tags

    def _compare(self, expected: bytes, offered: object) -> None:
        if not isinstance(offered, bytes) or not tags_equal(expected, offered):
            raise self._mismatch("the device's confirmation is wrong; nothing was stored here")

    def _mismatch(self, what: str) -> Mismatch:
        return Mismatch(what, advice=self.retry_advice)


@dataclass(frozen=True, slots=True)
class OfferedMethod:
    """A method as a window offers it. `create_side` makes the device's side of one ceremony."""

    method: Method
    create_side: Callable[[Terms], DeviceSide] = field(repr=False)


def bytes_field(message: Fields, name: str) -> bytes:
    """Return a byte string of a message. Raises `Malformed` if it is not one."""
    value = message.get(name)
    if not isinstance(value, bytes):
        raise Malformed(
            f"{name} is missing or is not a byte string", advice=f"Send {name} as bytes."
        )
    return value
