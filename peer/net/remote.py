"""A DTLS session as a remote of aiocoap, and as the identity of a request's sender."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import aiocoap
from aiocoap import interfaces
from aiocoap.numbers.constants import TransportTuning
from aiocoap.util import hostportjoin

from peer.errors import Unreachable
from peer.identity import Fingerprint
from peer.limits import COAP_OVERHEAD_BYTES, Limits
from peer.net.address import Address
from peer.net.association import Association
from peer.net.locality_verdict import LocalityVerdict
from peer.net.repeats import RecentRequests
from peer.net.session_route import SessionRoute
from peer.net.stored_block import LaterBlock

_NO_PATHS: frozenset[tuple[str, ...]] = frozenset()
_LARGEST_SZX = 6  # blocks of 1024 bytes
_SMALLEST_BLOCK_BITS = 4  # a block has 2^(SZX + 4) bytes (RFC 7959 §2.2)
_OBSERVE_NUMBERS = 1 << 24  # RFC 7641 §3.4
_OBSERVE_TICKS = 1000  # per second, less than 2^15 (RFC 7641 §4.4)


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """The other side of a session: its key, its path and the session's keying material.

    `exporter` is the RFC 5705 exporter value. `verdict` is that of all datagrams so far. `key` is
    the fingerprint in hex. `path` is how the session reaches the peer, and `address` where its
    datagrams go: over a remote path, both can change.
    """

    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    verdict: LocalityVerdict
    session_id: int
    exporter: bytes = field(repr=False)
    extended_master_secret: bool
    path: SessionRoute
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.fingerprint.hex)


class ObserveNumbers:
    """Values of the Observe option, for all observations of a server.

    They follow a clock (RFC 7641 §4.4), so they also increase from one session of a client to the
    next, and over a restart of the server. `now` returns monotonic seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = 0

    @property
    def last(self) -> int:
        """The last number, before it is reduced to the 24 bits of the option."""
        return self._last

    def next(self) -> int:
        """Return a number that is newer than all before."""
        self._last = max(self._last + 1, int(self._now() * _OBSERVE_TICKS))
        return self._last % _OBSERVE_NUMBERS


class Delivered(Protocol):
    """Waits for the acknowledgement of a message; see `BoundedMessageManager.delivered`."""

    def __call__(
        self, message: aiocoap.Message, *, is_stale: Callable[[], bool]
    ) -> Awaitable[TransportTuning | None]:
        """Return None once it is acknowledged, or the attempts of the message to send instead."""


class StoredResponses(Protocol):
    """The responses of a session that are sent in blocks; see `ResponseBlocks`."""

    def path_of(self, options: bytes) -> tuple[str, ...] | None:
        """Return the path of a GET with these options if the response to it is stored."""

    def later_block(self, asked: LaterBlock) -> bytes | None:
        """Return the message with a block of a stored response, if it can be made."""


class CoapsRemote(interfaces.EndpointAddress):
    """A DTLS association as a remote of aiocoap. Two sessions of one peer are two remotes.

    Args:
        association: the session.
        number: its ID.
        interface: the name of the interface that received its first datagram.
        limits: the limits of this side.
        numbers: the values of the Observe option.
        delivered: waits until a confirmable message to this remote is acknowledged or replaced.
    """

    scheme = "coaps"
    is_multicast = False
    is_multicast_locally = False
    #: The number of the peer's running requests that may change something.
    changes_under_way = 0

    def __init__(
        self,
        association: Association,
        *,
        number: int,
        interface: str,
        limits: Limits,
        numbers: ObserveNumbers,
        delivered: Delivered,
    ) -> None:
        self.association = association
        self.number = number
        self.interface = interface
        self.numbers = numbers
        self.delivered = delivered
        #: Unfinished block transfers. `GuardedSite` stores them here; they end with the session.
        self.blocks: object = None
        #: The stored responses among them, of which `peer.net.direct` sends later blocks.
        self.stored_responses: StoredResponses | None = None
        self.recent = RecentRequests(limits)
        #: Paths whose last representation needed blocks: `peer.net.direct` leaves them to aiocoap.
        self.in_blocks = _NO_PATHS
        self._identity: PeerIdentity | None = None

    # Most sessions are idle, and need none of these yet.

    @cached_property
    def under_way(self) -> set[bytes]:
        """Tokens of the peer's running requests."""
        return set()

    @cached_property
    def observing(self) -> dict[bytes, deque[int]]:
        """Tokens of its observations, with the Message IDs of their last notifications."""
        return {}

    @cached_property
    def notifying(self) -> asyncio.Lock:
        """Held while a notification is not acknowledged: one at a time (NSTART, RFC 7252 §4.7)."""
        return asyncio.Lock()

    @cached_property
    def fetching(self) -> asyncio.Lock:
        """Held while this side fetches the body of a notification."""
        return asyncio.Lock()

    @property
    def peer(self) -> PeerIdentity:
        """The other side. Raises `Unreachable` if the session was never established.

        It is made again when the verdict about the session changes, or the way or address of a
        remote path; the rest is constant.
        """
        association, known = self.association, self._identity
        session, verdict = association.session, association.verdict
        if known is not None and known.verdict is verdict and _has_way(association, known):
            return known
        if session.peer_fingerprint is None:
            raise Unreachable("this session was never established")
        self._identity = PeerIdentity(
            fingerprint=session.peer_fingerprint,
            address=association.address,
            interface=verdict.interface or self.interface,
            is_local=verdict.is_local,
            verdict=verdict,
            session_id=self.number,
            exporter=session.exporter,
            extended_master_secret=session.extended_master_secret,
            path=association.route,
        )
        return self._identity

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last message of the peer."""
        return asyncio.get_running_loop().time() - self.association.last_seen

    @property
    def maximum_payload_size(self) -> int:
        """Bytes of payload that fit in one datagram and record with header and options."""
        return self.association.session.message_bytes - COAP_OVERHEAD_BYTES

    @property
    def maximum_block_size_exp(self) -> int:
        """The SZX of the largest blocks that fit."""
        bits = max(self.maximum_payload_size, 0).bit_length() - 1
        return min(max(bits - _SMALLEST_BLOCK_BITS, 0), _LARGEST_SZX)

    @property
    def hostinfo(self) -> str:
        """The peer's authority part of a URI."""
        return str(hostportjoin(self.association.remote.host, self.association.remote.port))

    @property
    def hostinfo_local(self) -> str:
        """This side's authority part of a URI."""
        return str(hostportjoin(self.association.local_host or "localhost", None))

    @property
    def uri_base(self) -> str:
        """The peer's base URI."""
        return f"{self.scheme}://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        """This side's base URI."""
        return f"{self.scheme}://{self.hostinfo_local}"

    @property
    def blockwise_key(self) -> int:
        """The session: blocks of different sessions never form one body."""
        return self.number

    @property
    def authenticated_claims(self) -> list[str]:
        """The peer's fingerprint, in hex."""
        return [self.peer.key]

    def __repr__(self) -> str:
        return f"<session {self.number} with {self.association.remote}>"


def _has_way(association: Association, known: PeerIdentity) -> bool:
    """Return whether an association still takes a known way. Only that of a path changes."""
    if association.path is None:
        return True
    return (association.route, association.address) == (known.path, known.address)


def peer_of(request: aiocoap.Message) -> PeerIdentity:
    """Return the sender of a request, in the handler of a resource."""
    remote: CoapsRemote = request.remote
    return remote.peer
