"""The messages of the rendezvous, which travel sealed over the broker (protocol §10.3).

    client                            device
      │ ── ConnectRequest ──────────▶ │
      │ ◀───────────── Challenge ──── │   or Refusal
      │ ── Offer ───────────────────▶ │
      │ ◀──────────────── Answer ──── │   or Refusal
      │ ◀────── Candidates ─────────▶ │   each side at most once: its second carrier

A message is a CBOR map with small integer keys, in deterministic encoding. Every message has the
client's nonce, which identifies the attempt. The first ICE carrier is the direct one, the second
the relay; each has a user name fragment, a password and candidates of its own (RFC 8839).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from typing import Self

from peer.errors import Malformed
from peer.host_names import is_host_and_port
from peer.remote.limits import (
    MAX_ADDRESS_CHARS,
    MAX_CANDIDATE_CHARS,
    MAX_CANDIDATES,
    MAX_CHALLENGE_ADDRESSES,
    MAX_PASSWORD_CHARS,
    MAX_REFUSAL_SECONDS,
    MAX_REVISION,
    MAX_UFRAG_CHARS,
    MIN_CANDIDATE_CHARS,
    MIN_PASSWORD_CHARS,
    MIN_UFRAG_CHARS,
)

NONCE_BYTES = 16

_ICE_CHARACTERS = re.compile(r"[A-Za-z0-9+/]+")  # ice-char (RFC 8839 §5.1)
_CANDIDATE = re.compile(
    r"[A-Za-z0-9+/]{1,32} 1 (?i:udp) (\d{1,10}) (\S+) (\d{1,5}) typ (?:host|srflx|relay)"
    r"(?: raddr (\S+) rport (\d{1,5}))?(?: [\x21-\x7e]+ [\x21-\x7e]+)*"
)


@unique
class CarrierKind(IntEnum):
    """The two ICE connections that a path may have."""

    DIRECT = 1
    RELAY = 2


@unique
class RefusalReason(StrEnum):
    """Why a device refuses an attempt."""

    DENIED = "denied"  # the key may not connect remotely
    BUSY = "busy"  # too many requests, or too much in progress: try again later
    TOO_MANY = "too-many"  # too many paths
    NO_PATH = "no-path"  # the device could gather no candidates


@dataclass(frozen=True, slots=True)
class CarrierOffer:
    """One side's half of an ICE connection. Raises `Malformed` for values that are not valid.

    Attributes:
        ufrag: the user name fragment, and
        pwd: the password of ICE (RFC 8839 §5.4).
        candidates: candidate attributes without "candidate:" (RFC 8839 §5.1), 1 to 12; UDP, IP
            literals, types host, srflx and relay only.
    """

    ufrag: str
    pwd: str
    candidates: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _is_ice_text(self.ufrag, MIN_UFRAG_CHARS, MAX_UFRAG_CHARS):
            raise malformed("has an invalid user name fragment")
        if not _is_ice_text(self.pwd, MIN_PASSWORD_CHARS, MAX_PASSWORD_CHARS):
            raise malformed("has an invalid ICE password")
        if not 0 < len(self.candidates) <= MAX_CANDIDATES:
            raise malformed("has no candidates, or too many")
        if not all(map(is_candidate, self.candidates)):
            raise malformed("has an invalid candidate")

    @classmethod
    def select(cls, ufrag: str, pwd: str, candidates: Iterable[str]) -> Self:
        """Create an offer of what an ICE library has gathered, the most useful candidates first.

        Candidates that a message cannot have are left out, and those after the twelfth. Raises
        `Malformed` if none is left.
        """
        valid = [one for one in dict.fromkeys(candidates) if is_candidate(one)]
        return cls(ufrag, pwd, tuple(valid[:MAX_CANDIDATES]))

    def __repr__(self) -> str:
        return f"CarrierOffer({len(self.candidates)} candidates)"  # the password is a secret


Carriers = Mapping[CarrierKind, CarrierOffer]
"""The carriers of an offer or an answer: one or two."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """Client to device: the client wants a path.

    Attributes:
        client_nonce: 16 random bytes, which identify the attempt.
        reply_topic: 16 random bytes; the client listens on the topic made of them.
    """

    client_nonce: bytes
    reply_topic: bytes

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce, self.reply_topic)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Device to client: proof that an offer is fresh has to contain `device_nonce`.

    Attributes:
        revision: the revision of the device's remote settings.
        addresses: addresses to try as well, as "host:port"; eight at most.
    """

    client_nonce: bytes
    device_nonce: bytes
    revision: int
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce, self.device_nonce)
        if not 0 <= self.revision <= MAX_REVISION:
            raise malformed("has an invalid revision")
        if len(self.addresses) > MAX_CHALLENGE_ADDRESSES:
            raise malformed("has too many addresses")
        if not all(map(is_address, self.addresses)):
            raise malformed("has an invalid address")


@dataclass(frozen=True, slots=True)
class Offer:
    """Client to device: the client's carriers that are gathered so far.

    Attributes:
        path_id: the path that shall continue with new carriers; None for a new path.
    """

    client_nonce: bytes
    reply_topic: bytes
    device_nonce: bytes
    carriers: Carriers
    path_id: bytes | None = None

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce, self.reply_topic, self.device_nonce, self.path_id)
        _check_carriers(self.carriers)


@dataclass(frozen=True, slots=True)
class Answer:
    """Device to client: the device's carriers that are gathered so far.

    Attributes:
        path_id: that of the offer, if that path continues; None if there is a new path, whose ID is
            `client_nonce`, with new keys and a new session.
    """

    client_nonce: bytes
    carriers: Carriers
    path_id: bytes | None = None

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce, self.path_id)
        _check_carriers(self.carriers)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Either way: a carrier that was gathered after the offer or the answer.

    Attributes:
        reply_topic: that of the attempt in a message of the client; None in one of the device.
    """

    client_nonce: bytes
    carriers: Carriers
    reply_topic: bytes | None = None

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce, self.reply_topic)
        _check_carriers(self.carriers)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Device to client: there will be no path.

    Attributes:
        seconds: when to try again; None if the device does not know.
    """

    client_nonce: bytes
    reason: RefusalReason
    seconds: int | None = None

    def __post_init__(self) -> None:
        _check_tags(self.client_nonce)
        if self.seconds is not None and not 0 <= self.seconds <= MAX_REFUSAL_SECONDS:
            raise malformed("has an invalid time")


ClientMessage = ConnectRequest | Offer | Candidates
DeviceMessage = Challenge | Answer | Candidates | Refusal
Message = ConnectRequest | Challenge | Offer | Answer | Candidates | Refusal


def is_candidate(text: object) -> bool:
    """Whether a text is a candidate attribute that a message can have."""
    if not isinstance(text, str) or not MIN_CANDIDATE_CHARS <= len(text) <= MAX_CANDIDATE_CHARS:
        return False
    found = _CANDIDATE.fullmatch(text) if text.isascii() else None
    if found is None:
        return False
    priority, host, port, related_host, related_port = found.groups()
    return (
        0 < int(priority) < 2**31
        and _is_unicast(host)
        and 0 < int(port) <= 65535
        and (related_host is None or (_is_ip(related_host) and int(related_port) <= 65535))
    )


def is_address(text: object) -> bool:
    """Whether a text is an address in the form host:port, as a challenge has them."""
    return isinstance(text, str) and len(text) <= MAX_ADDRESS_CHARS and is_host_and_port(text)


def _check_tags(*tags: bytes | None) -> None:
    if any(tag is not None and len(tag) != NONCE_BYTES for tag in tags):
        raise malformed("has an identifier of another length than 16 bytes")


def _check_carriers(carriers: Carriers) -> None:
    if not carriers:
        raise malformed("has no carriers")


def _is_ice_text(text: str, shortest: int, longest: int) -> bool:
    return shortest <= len(text) <= longest and _ICE_CHARACTERS.fullmatch(text) is not None


def _is_unicast(text: str) -> bool:
    """Whether a text is an IP address to which a packet can be sent: no name, no zone, no group."""
    if not _is_ip(text):
        return False
    address = ipaddress.ip_address(text)
    return not (address.is_multicast or address.is_unspecified)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def malformed(what: str) -> Malformed:
    """Return the error for a message that is not valid."""
    return Malformed(f"the rendezvous message {what}", advice="Update both sides to one version.")
