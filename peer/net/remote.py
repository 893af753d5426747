"""A DTLS session as aiocoap sees it, and as the handler of a request sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiocoap
from aiocoap import interfaces
from aiocoap.util import hostportjoin

from peer.errors import Unreachable
from peer.identity import Fingerprint
from peer.limits import COAP_OVERHEAD_BYTES, Limits
from peer.net.address import Address
from peer.net.association import Association
from peer.net.deduplication import RecentRequests
from peer.net.locality_verdict import LocalityVerdict

_BLOCK_SIZE_EXP = 6  # blocks of 1024 bytes
_OBSERVE_NUMBERS = 1 << 24  # RFC 7641 §3.4


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who is on the other side of a session, and how it came to us, at the time of asking."""

    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    verdict: LocalityVerdict
    session_id: int
    exporter: bytes = field(repr=False)
    extended_master_secret: bool


class CoapsRemote(interfaces.EndpointAddress):
    """One DTLS association, as aiocoap sees it. Equal to itself alone: a new session is new.

    `acknowledged` waits until a confirmable message to this remote was acknowledged.
    """

    scheme = "coaps"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp = _BLOCK_SIZE_EXP

    def __init__(
        self,
        association: Association,
        *,
        number: int,
        interface: str,
        limits: Limits,
        acknowledged: Callable[[aiocoap.Message], Awaitable[None]],
    ) -> None:
        self.association = association
        self.number = number
        self.interface = interface
        self.acknowledged = acknowledged
        #: Half-done block transfers, kept here by the site so that they end with the session.
        self.blocks: object = None
        self.recent = RecentRequests(limits)
        #: Tokens of the requests and observations of the peer that are under way.
        self.under_way: set[bytes] = set()
        #: Held while a notification is on its way: one at a time (NSTART, RFC 7252 §4.7).
        self.notifying = asyncio.Lock()
        self._observe_number = 0

    def next_observe_number(self) -> int:
        """The value of the next Observe option. It rises over all observations of the session, so
        that one which is registered again under its token goes on (RFC 7641 §4.4)."""
        number = self._observe_number
        self._observe_number = (number + 1) % _OBSERVE_NUMBERS
        return number

    @property
    def peer(self) -> PeerIdentity:
        """Who sends on this session. Local only as long as every datagram was."""
        session = self.association.session
        if session.peer_fingerprint is None:
            raise Unreachable("this session was never established")
        verdict = self.association.verdict
        return PeerIdentity(
            fingerprint=session.peer_fingerprint,
            address=self.association.remote,
            interface=verdict.interface or self.interface,
            is_local=verdict.is_local,
            verdict=verdict,
            session_id=self.number,
            exporter=session.exporter,
            extended_master_secret=session.extended_master_secret,
        )

    @property
    def maximum_payload_size(self) -> int:
        """Bytes of payload that fit one datagram beside header and options."""
        return self.association.session.cleartext_mtu - COAP_OVERHEAD_BYTES

    @property
    def hostinfo(self) -> str:
        """The peer's authority part of a URI."""
        return str(hostportjoin(self.association.remote.host, self.association.remote.port))

    @property
    def hostinfo_local(self) -> str:
        """Our own authority part of a URI."""
        return str(hostportjoin(self.association.local_host or "localhost", None))

    @property
    def uri_base(self) -> str:
        """The peer's base URI."""
        return f"{self.scheme}://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        """Our own base URI."""
        return f"{self.scheme}://{self.hostinfo_local}"

    @property
    def blockwise_key(self) -> int:
        """Blocks belong together only within one session."""
        return self.number

    @property
    def authenticated_claims(self) -> list[str]:
        """The peer's fingerprint."""
        return [self.peer.fingerprint.hex]

    def __repr__(self) -> str:
        return f"<session {self.number} with {self.association.remote}>"


def peer_of(request: aiocoap.Message) -> PeerIdentity:
    """Who sent a request; for use inside a resource handler."""
    remote: CoapsRemote = request.remote
    return remote.peer
