"""CoAP over our DTLS: the transport under aiocoap (RFC 7252 §9), on both sides.

aiocoap does everything that is CoAP: messages, retransmission, separate responses, Observe, blocks.
This module gives it a message interface whose remotes are DTLS associations, so that a request
knows the key that sent it, and whose end ends what was under way with it.

A received message passes three steps, the cheapest first: is it a repeat of a recent request
(`deduplication`), is it well formed and within the limits (`outline`), and only then aiocoap.
"""

from __future__ import annotations  # onlink's kernel tables are imported by who uses them

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.numbers.types import ACK, RST

from peer.errors import Malformed
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net import outline
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.aiocoap_seam.managers import (
    BoundedMessageManager,
    BoundedTokenManager,
    Context,
)
from peer.net.aiocoap_seam.parsing import decode_untrusted
from peer.net.association import Association
from peer.net.datagram import Net
from peer.net.endpoint import Endpoint
from peer.net.outline import TooLarge, outline_untrusted
from peer.net.remote import CoapsRemote, PeerIdentity, peer_of
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from peer.net.onlink import Locality

__all__ = ["CoapsLayer", "CoapsServer", "PeerIdentity", "SessionEnded", "SessionInfo", "peer_of"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One established session, for a status display. `idle_seconds` since its last datagram."""

    session_id: int
    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    priority: SessionPriority
    idle_seconds: float


class SessionEnded(coap_error.NetworkError):
    """The DTLS session under an exchange has ended."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the session has ended"


class CoapsLayer(interfaces.MessageInterface):
    """Joins associations and one aiocoap context; it is the `UpperLayer` of an endpoint."""

    def __init__(
        self,
        *,
        site: interfaces.Resource | None,
        limits: Limits,
        counters: Counter[str],
        interface_name: Callable[[int], str] = lambda _ifindex: "",
        on_session_end: Callable[[int], None] = lambda _session_id: None,
    ) -> None:
        self.context = Context(serversite=site, loggername="handfast.coap")
        self._counters = counters
        self._limits = limits
        self._interface_name = interface_name
        self._on_session_end = on_session_end
        self._numbers = 0
        self._ending = 0  # sessions that have ended, and whose requests have not yet
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._is_closing = False
        self.closed = False
        self.remotes: dict[Association, CoapsRemote] = {}
        tokens = BoundedTokenManager(self.context)
        self._messages = BoundedMessageManager(tokens, limits)
        self._messages.message_interface = self
        tokens.token_interface = self._messages
        self.context.request_interfaces.append(tokens)

    # -- from the associations ------------------------------------------------------------------

    def session_established(self, association: Association) -> None:
        """Give the new session a number and a remote."""
        self._numbers += 1
        self.remotes[association] = CoapsRemote(
            association,
            number=self._numbers,
            interface=self._interface_name(association.ifindex),
            limits=self._limits,
            acknowledged=self._messages.acknowledged,
        )

    def message_received(self, association: Association, message: bytes) -> None:
        """Take one decrypted message of a peer. What is not CoAP is counted and dropped; what is
        too large is rejected as well."""
        remote = self.remotes.get(association)
        if remote is None or self.closed:
            return
        now = self.context.loop.time()
        asks = outline.is_request(message)
        if asks and (repeat := remote.recent.find(message, now)) is not None:
            if outline.type_of(message) == outline.CON and repeat.answer:
                association.send(repeat.answer)
            return
        decoded = self._decoded_untrusted(remote, message)
        if decoded is None or self._goes_on_too_long(association, decoded):
            return
        if asks:
            remote.recent.note(message, now)
        try:
            self._messages.dispatch_message(decoded)
        except asyncio.InvalidStateError:  # the answer to a request that was just given up
            self._counters["coap-late-answers"] += 1
        except Exception:
            # A message from outside must not stop the others, whatever it runs into.
            self._counters["coap-dispatch-failed"] += 1
            _log.exception("a message from %s could not be handled", association.remote)

    def _decoded_untrusted(self, remote: CoapsRemote, message: bytes) -> aiocoap.Message | None:
        try:
            found = outline_untrusted(message, self._limits)
            return decode_untrusted(message, found, remote)
        except TooLarge:
            self._counters["coap-too-large"] += 1
            if outline.type_of(message) == outline.CON:
                self._messages.reset(remote, outline.message_id_of(message))
        except (Malformed, UnicodeDecodeError):
            self._counters["coap-malformed"] += 1
        return None

    def _goes_on_too_long(self, association: Association, message: aiocoap.Message) -> bool:
        """End the session of a peer whose answer is without end: aiocoap would go on collecting."""
        block = message.opt.block2
        if not message.code.is_response() or not block:
            return False
        if block.start <= self._limits.answer_body_bytes:
            return False
        self._counters["coap-answer-too-large"] += 1
        association.session.failure = Malformed("the device's answer is too large")
        association.close()
        return True

    def session_ended(self, association: Association) -> None:
        """End everything that was under way with this session."""
        remote = self.remotes.pop(association, None)
        if remote is None:
            return
        failure = association.session.failure
        reason = SessionEnded(str(failure) if failure else "the session has ended")
        # Not at once: aiocoap expects that a request that was cancelled, or came in, in this turn
        # of the loop runs first.
        self._ending += 1
        self._all_ended.clear()
        self.context.loop.call_soon(self._end_exchanges, reason, remote)

    def _end_exchanges(self, reason: SessionEnded, remote: CoapsRemote) -> None:
        try:
            if not self.closed:
                self._messages.dispatch_error(reason, remote)
        finally:
            self._ending -= 1
            if not self._ending:
                self._all_ended.set()
            self._on_session_end(remote.number)

    async def close(self) -> None:
        """Free everything, once the requests of ended sessions have ended. Safe to repeat."""
        if self._is_closing:
            return
        self._is_closing = True
        await self._all_ended.wait()
        await self.context.shutdown()

    def deregister(self, observing: aiocoap.Message) -> None:
        """Tell the peer that an observation of ours has ended. `observing` is its request."""
        if not self.closed:
            self._messages.deregister(observing)

    # -- aiocoap's MessageInterface -------------------------------------------------------------

    def send(self, message: aiocoap.Message) -> None:
        """Encrypt and send one message."""
        remote: CoapsRemote = message.remote
        if remote.association.established:
            encoded = message.encode()
            if message.mtype in (ACK, RST):  # our other messages have Message IDs of our own
                remote.recent.answered(message.mid, encoded)
            remote.association.send(encoded)
        elif not self.closed:
            ended = SessionEnded("the session has ended")
            self.context.loop.call_soon(self._messages.dispatch_error, ended, remote)

    async def recognize_remote(self, remote: object) -> bool:
        """Whether the remote is one of our sessions (perhaps an ended one)."""
        return isinstance(remote, CoapsRemote)

    async def determine_remote(self, message: aiocoap.Message) -> None:
        """Never guess: a request goes to a session that somebody connected and checked."""
        return

    async def shutdown(self) -> None:
        """Called by aiocoap at the end of the context."""
        self.closed = True


class CoapsServer:
    """A CoAP server on DTLS: the device's regular port, or its pairing port."""

    def __init__(self, endpoint: Endpoint, layer: CoapsLayer) -> None:
        self._endpoint = endpoint
        self._layer = layer

    @classmethod
    async def start(
        cls,
        site: interfaces.Resource,
        *,
        identity: Identity,
        listen: Sequence[tuple[str, int]],
        locality: Locality,
        priority: Callable[[Fingerprint], SessionPriority],
        limits: Limits = DEFAULT_LIMITS,
        pairing: bool = False,
        ccm8: bool = False,
        net: Net = UdpSocket,
        on_session_end: Callable[[int], None] = lambda _session_id: None,
    ) -> Self:
        """Listen. With `pairing`, no session is resumed and extended master secret is a must.

        `on_session_end` gets the id of each session when it is over, however it ended. Raises
        `PeerError` if an address cannot be had.
        """
        counters: Counter[str] = Counter()
        layer = CoapsLayer(
            site=site,
            limits=limits,
            counters=counters,
            interface_name=locality.interface_name,
            on_session_end=on_session_end,
        )
        endpoint = Endpoint(
            identity,
            upper=layer,
            locality=locality,
            limits=limits,
            priority=priority,
            counters=counters,
            pairing=pairing,
            ccm8=ccm8,
            net=net,
        )
        endpoint.bind(listen)
        return cls(endpoint, layer)

    @property
    def port(self) -> int:
        """The bound UDP port."""
        return self._endpoint.addresses[0].port

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses."""
        return self._endpoint.addresses

    @property
    def counters(self) -> Counter[str]:
        """What was counted since the start, by kind."""
        return self._endpoint.counters

    def sessions(self) -> list[SessionInfo]:
        """The established sessions, least recently active first."""
        now = asyncio.get_running_loop().time()
        found = []
        for association in self._endpoint.associations():
            remote = self._layer.remotes[association]
            peer = remote.peer
            found.append(
                SessionInfo(
                    remote.number,
                    peer.fingerprint,
                    peer.address,
                    peer.interface,
                    peer.is_local,
                    self._endpoint.priority_of(association),
                    now - association.last_seen,
                )
            )
        return found

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End at once the sessions, requests and observations of some keys, and all resumption."""
        return self._endpoint.end(which)

    async def close(self) -> None:
        """End every session with close_notify and free the ports. Safe to repeat."""
        self._endpoint.close()
        await self._layer.close()
