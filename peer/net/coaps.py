"""CoAP over our DTLS: the transport under aiocoap (RFC 7252 §9), on both sides.

aiocoap does everything that is CoAP: messages, retransmission, separate responses, Observe, blocks.
This module gives it a message interface whose remotes are DTLS associations, so that a request
knows the key that sent it, and whose end ends what was under way with it.

One thing is done differently. aiocoap remembers a Message ID for 247 s and answers its reuse with
the old response; a fast client has used all 65,536 by then. Here a request is a repeat only if its
Message ID *and* its bytes are those of one of the last few requests of the same session
(`Limits.dedup_window`), so a reused ID never gets somebody else's answer and memory stays flat.
"""

from __future__ import annotations  # onlink's kernel tables are imported by who uses them

import asyncio
import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import CON
from aiocoap.pipe import Pipe
from aiocoap.tokenmanager import TokenManager
from aiocoap.util import hostportjoin

from peer.errors import Malformed, Unreachable
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.association import Association
from peer.net.endpoint import Endpoint, Standing
from peer.net.problem import problem
from peer.net.udp import Address, Net, UdpSocket
from peer.net.verdict import Verdict

if TYPE_CHECKING:
    from peer.net.onlink import Locality

_log = logging.getLogger(__name__)
_BLOCK_SIZE_EXP = 6  # blocks of 1024 bytes
_MOST_TOKEN_BYTES = 8  # RFC 7252 §3: longer ones are a format error
_COAP_OVERHEAD = 100  # header, token and options of a message, roughly


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who is on the other side of a session, and how it came to us, at the time of asking."""

    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    verdict: Verdict
    session_id: int
    exporter: bytes = field(repr=False)
    extended_master_secret: bool


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One established session, for a status display. `idle_seconds` since its last datagram."""

    session_id: int
    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    standing: Standing
    idle_seconds: float


class SessionEnded(coap_error.NetworkError):  # type: ignore[misc]
    """The DTLS session under an exchange has ended."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the session has ended"


class CoapsRemote(interfaces.EndpointAddress):  # type: ignore[misc]
    """One DTLS association, as aiocoap sees it. Equal to itself alone: a new session is new."""

    scheme = "coaps"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp = _BLOCK_SIZE_EXP

    def __init__(self, association: Association, *, number: int, interface: str) -> None:
        self.association = association
        self.number = number
        self.interface = interface
        #: Half-done block transfers, kept here by the site so that they end with the session.
        self.blocks: object = None
        #: Recent requests: Message ID → (digest, time of arrival, response or None).
        self.recent: OrderedDict[int, tuple[bytes, float, aiocoap.Message | None]] = OrderedDict()

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
        return self.association.session.cleartext_mtu - _COAP_OVERHEAD

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


class _Messages(MessageManager):  # type: ignore[misc]
    """aiocoap's message layer with the memory for repeats described above."""

    def __init__(self, token_manager: TokenManager, limits: Limits) -> None:
        super().__init__(token_manager)
        self._limits = limits
        self._tuning = TransportTuning()
        self._tuning.ACK_TIMEOUT = limits.ack_timeout_seconds
        self._tuning.MAX_RETRANSMIT = limits.max_retransmit

    def _deduplicate_message(self, message: aiocoap.Message) -> bool:
        recent = message.remote.recent
        digest = _digest(message)
        known = recent.get(message.mid)
        now = self.loop.time()
        if known and known[0] == digest and now - known[1] < self._limits.exchange_seconds:
            if message.mtype is CON and known[2] is not None:
                self._send_initially(known[2])
            return True
        recent.pop(message.mid, None)
        recent[message.mid] = (digest, now, None)
        if len(recent) > self._limits.dedup_window:
            recent.popitem(last=False)
        return False

    def _store_response_for_duplicates(self, message: aiocoap.Message) -> None:
        known = message.remote.recent.get(message.mid)
        # Our own Message IDs live in another space: only an answer to that request counts.
        if known is not None and known[2] is None and message.mtype is not CON:
            message.remote.recent[message.mid] = (known[0], known[1], message)

    def _add_exchange(self, message: aiocoap.Message, monitor: Callable[[], None]) -> None:
        message.transport_tuning = self._tuning
        super()._add_exchange(message, monitor)

    def _process_request(self, request: aiocoap.Message) -> None:
        under_way = self.token_manager.incoming_requests
        if len(under_way) >= self._limits.observations_per_session:
            mine = sum(1 for _, remote in under_way if remote is request.remote)
            key = (request.token, request.remote)
            if mine >= self._limits.observations_per_session and key not in under_way:
                self._refuse(request)
                return
        super()._process_request(request)

    def _refuse(self, request: aiocoap.Message) -> None:
        answer = problem(
            Code.TOO_MANY_REQUESTS,
            "too-many",
            "too many requests and observations on this session",
            "End some of them first.",
            max_age=5,
        )
        answer.remote, answer.token = request.remote, request.token
        answer.mtype = aiocoap.ACK if request.mtype is CON else aiocoap.NON
        answer.mid = request.mid if request.mtype is CON else self._next_message_id()
        self._send_initially(answer)


def _digest(message: aiocoap.Message) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(bytes([int(message.code), len(message.token)]) + message.token)
    digest.update(message.opt.encode() + b"\xff" + message.payload)
    return digest.digest()


class _Rendering:
    """The answering of one request. Unlike a coroutine it may be dropped before it has begun,
    which aiocoap does with a request whose session ends in the same turn of the loop."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin().__await__()


class _Context(aiocoap.Context):  # type: ignore[misc]
    """aiocoap's context; see `_Rendering`."""

    def _render_to_pipe(self, pipe: Pipe) -> _Rendering:
        return _Rendering(lambda: super(_Context, self)._render_to_pipe(pipe))


class CoapsLayer(interfaces.MessageInterface):  # type: ignore[misc]
    """Joins associations and one aiocoap context; it is the `Upper` of an endpoint."""

    def __init__(
        self,
        *,
        site: interfaces.Resource | None,
        limits: Limits,
        counters: Counter[str],
        interface_name: Callable[[int], str] = lambda _ifindex: "",
        on_session_end: Callable[[int], None] = lambda _session_id: None,
    ) -> None:
        self.context = _Context(serversite=site, loggername="handfast.coap")
        self._counters = counters
        self._limits = limits
        self._interface_name = interface_name
        self._on_session_end = on_session_end
        self._numbers = 0
        self.closed = False
        self.remotes: dict[Association, CoapsRemote] = {}
        tokens = TokenManager(self.context)
        self._messages = _Messages(tokens, limits)
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
        )

    def message_received(self, association: Association, message: bytes) -> None:
        """Hand one decrypted message to aiocoap. What it cannot read is counted and dropped."""
        remote = self.remotes.get(association)
        if remote is None or self.closed:
            return
        if not message or message[0] & 0x0F > _MOST_TOKEN_BYTES:  # aiocoap would take it
            self._counters["coap-malformed"] += 1
            return
        try:
            decoded = aiocoap.Message.decode(message, remote=remote)
        except (coap_error.Error, ValueError, IndexError):
            self._counters["coap-malformed"] += 1
            return
        block = decoded.opt.block2
        if decoded.code.is_response() and block and block.start > self._limits.answer_body_bytes:
            self._counters["coap-answer-too-large"] += 1
            association.session.failure = Malformed("the device's answer is too large")
            association.close()  # aiocoap would go on collecting
            return
        try:
            self._messages.dispatch_message(decoded)
        except asyncio.InvalidStateError:  # the answer to a request that was just given up
            self._counters["coap-late-answers"] += 1
        except Exception:
            # A message from outside must not stop the others, whatever it runs into.
            self._counters["coap-dispatch-failed"] += 1
            _log.exception("a message from %s could not be handled", association.remote)

    def session_ended(self, association: Association) -> None:
        """End everything that was under way with this session."""
        remote = self.remotes.pop(association, None)
        if remote is None or self.closed:
            return
        failure = association.session.failure
        reason = SessionEnded(str(failure) if failure else "the session has ended")
        # Not at once: a request that was cancelled or came in just now has its turn first, which
        # aiocoap counts on.
        self.context.loop.call_soon(self._end_exchanges, reason, remote)

    def _end_exchanges(self, reason: SessionEnded, remote: CoapsRemote) -> None:
        if not self.closed:
            self._messages.dispatch_error(reason, remote)
            self._on_session_end(remote.number)

    # -- aiocoap's MessageInterface -------------------------------------------------------------

    def send(self, message: aiocoap.Message) -> None:
        """Encrypt and send one message."""
        remote: CoapsRemote = message.remote
        if remote.association.established:
            remote.association.send(message.encode())
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
        standing: Callable[[Fingerprint], Standing],
        limits: Limits = DEFAULT_LIMITS,
        pairing: bool = False,
        interop: bool = False,
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
            standing=standing,
            counters=counters,
            pairing=pairing,
            interop=interop,
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
                    self._endpoint.standing_of(association),
                    now - association.last_seen,
                )
            )
        return found

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End at once the sessions, requests and observations of some keys, and all resumption."""
        return self._endpoint.end(which)

    async def close(self) -> None:
        """Say goodbye to everybody and free the ports. Safe to repeat."""
        if self._layer.closed:
            return
        self._endpoint.close()
        await asyncio.sleep(0)  # what was under way ends first
        await self._layer.context.shutdown()
