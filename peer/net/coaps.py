"""CoAP over DTLS: the transport of aiocoap (RFC 7252 §9), for both sides.

aiocoap implements CoAP: messages, retransmission, separate responses, Observe, blocks. This module
is its message interface. Each remote is a DTLS association, so a request carries the key of its
sender, and the end of a session ends its requests and observations.

A received message passes these steps, the cheapest first: is it a repeat of a recent request
(`repeats`), is it a plain request that is answered at once (`direct`), is it well formed and within
the limits (`outline`), and only then aiocoap.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.numbers.types import ACK, RST
from aiocoap.pipe import Pipe

from peer.errors import Malformed, MessageNotSent
from peer.limits import Limits
from peer.net import outline
from peer.net.aiocoap_seam.context import Context
from peer.net.aiocoap_seam.managers import BoundedMessageManager
from peer.net.aiocoap_seam.parsing import decode_untrusted, unknown_critical
from peer.net.aiocoap_seam.requests import BoundedTokenManager
from peer.net.association import Association
from peer.net.direct import DirectPath, DirectSite
from peer.net.outline import TooLarge, outline_untrusted
from peer.net.remote import CoapsRemote, ObserveNumbers

_log = logging.getLogger(__name__)


class SessionEnded(coap_error.NetworkError):
    """The DTLS session under an exchange has ended."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the session has ended"


class UnusableResponse(coap_error.Error):
    """A response has a critical option that this side does not understand."""

    def __str__(self) -> str:
        return f"the response has the critical option {self.args[0]}, which is not supported"


class CoapsLayer(interfaces.MessageInterface):
    """Connects DTLS associations to one aiocoap context; the `UpperLayer` of an endpoint.

    Args:
        site: the root resource of a server, or None for a client.
        limits: the limits of this side.
        counters: counts what was dropped, by kind.
        direct_site: answers plain requests of a server; None: aiocoap has all of them.
        interface_name: the name of an interface index.
        on_session_end: called with the ID of each session that has ended.
    """

    def __init__(
        self,
        *,
        site: interfaces.Resource | None,
        limits: Limits,
        counters: Counter[str],
        direct_site: DirectSite | None = None,
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
        self._tokens = tokens = BoundedTokenManager(self.context)
        self._observe_numbers = ObserveNumbers(self.context.loop.time)
        self._messages = BoundedMessageManager(tokens, limits)
        self._messages.message_interface = self
        self._delivered = self._messages.delivered  # one object for all remotes
        tokens.token_interface = self._messages
        self.context.request_interfaces.append(tokens)
        self._direct = (
            None if direct_site is None else DirectPath(direct_site, self._messages, limits)
        )

    # -- from the associations ------------------------------------------------------------------

    def session_established(self, association: Association) -> None:
        """Give a new session its ID and its remote."""
        self._numbers += 1
        self.remotes[association] = CoapsRemote(
            association,
            number=self._numbers,
            interface=self._interface_name(association.ifindex),
            limits=self._limits,
            numbers=self._observe_numbers,
            delivered=self._delivered,
        )

    def message_received(self, association: Association, message: bytes) -> None:
        """Process one decrypted message of a peer.

        A message that is not valid CoAP, or too large, is counted and rejected (RFC 7252 §4.2,
        §4.3): with a reset if it is confirmable, else without an answer.
        """
        remote = self.remotes.get(association)
        if remote is None or self.closed:
            return
        if outline.is_request(message):
            now = association.last_seen  # when this message was received
            if (repeat := remote.recent.find(message, now)) is not None:
                if outline.type_of(message) == outline.CON and repeat.answer:
                    self._send(association, repeat.answer)
                return
            if self._direct is not None:
                answer = self._direct.answer_untrusted(remote, message)
                if answer is not None:
                    is_piggybacked = outline.type_of(message) == outline.CON
                    remote.recent.note(message, now, answer if is_piggybacked else b"")
                    if answer:
                        self._send(association, answer)
                    return
        try:
            self._dispatch_untrusted(remote, message)
        except asyncio.InvalidStateError:  # the response to a request that was cancelled just now
            self._counters["coap-late-answers"] += 1
        except Exception:
            # An internal error in one message must not stop the others.
            self._counters["coap-dispatch-failed"] += 1
            _log.exception("cannot process a message from %s", association.remote)

    def _dispatch_untrusted(self, remote: CoapsRemote, message: bytes) -> None:
        """Pass a message to aiocoap, unless it is not valid or not usable."""
        if outline.is_empty_acknowledgement(message):
            self._messages.acknowledged(remote, outline.message_id_of(message))
            return
        decoded, association = self._decoded_untrusted(remote, message), remote.association
        if decoded is None or self._is_unusable(decoded) or self._is_endless(association, decoded):
            return
        if outline.is_request(message):
            remote.recent.note(message, association.last_seen)
        self._messages.dispatch_message(decoded)

    def _decoded_untrusted(self, remote: CoapsRemote, message: bytes) -> aiocoap.Message | None:
        try:
            return decode_untrusted(message, outline_untrusted(message, self._limits), remote)
        except Malformed as error:
            kind = "coap-too-large" if isinstance(error, TooLarge) else "coap-malformed"
            self._counters[kind] += 1
            if outline.is_confirmable(message):
                self._messages.reset(remote, outline.message_id_of(message))
            return None

    def _is_unusable(self, message: aiocoap.Message) -> bool:
        """Reject a response with a critical option that is not understood (RFC 7252 §5.4.1)."""
        if not message.code.is_response() or (number := unknown_critical(message)) is None:
            return False
        self._counters["coap-bad-option"] += 1
        self._messages.reject_response(message, UnusableResponse(int(number)))
        return True

    def _is_endless(self, association: Association, message: aiocoap.Message) -> bool:
        """End the session if a response has more blocks than allowed: aiocoap has no such limit."""
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
        """End the requests and observations of a session."""
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

    def is_in_use(self, association: Association) -> bool:
        """Return whether there is a request, an observation or a stream on a session."""
        remote = self.remotes.get(association)
        return remote is not None and (
            bool(remote.under_way or remote.observing)
            or association.has_open_streams
            or self._tokens.has_requests_to(remote)
        )

    def probe(self, association: Association) -> None:
        """Send a ping (RFC 7252 §4.3), which the peer answers with Reset."""
        remote = self.remotes.get(association)
        if remote is not None:
            self._messages.send_ping(remote)

    async def close(self) -> None:
        """Free everything, once the requests of ended sessions have ended. Safe to repeat."""
        if self._is_closing:
            return
        self._is_closing = True
        await self._all_ended.wait()
        await self.context.shutdown()

    # -- for this side's requests ---------------------------------------------------------------

    def send_request(self, pipe: Pipe) -> None:
        """Send a request; its responses, or an error, come through the pipe."""
        self._tokens.request(pipe)

    def register_again(self, observing: aiocoap.Message) -> None:
        """Send the request of a running observation again; its response is a notification."""
        if not self.closed and observing.remote.association.established:
            self._messages.register_again(observing)

    def deregister(self, observing: aiocoap.Message) -> None:
        """End an observation that this side began with the request `observing`."""
        if not self.closed and observing.remote.association.established:
            self._messages.deregister(observing)

    async def ping(self, remote: CoapsRemote) -> None:
        """Send a ping and wait for its answer, which may never come."""
        if not self.closed:
            await self._messages.ping(remote)

    # -- aiocoap's MessageInterface -------------------------------------------------------------

    def send(self, message: aiocoap.Message) -> None:
        """Encrypt and send one message."""
        remote: CoapsRemote = message.remote
        if remote.association.established:
            encoded = message.encode()
            if message.mtype in (ACK, RST):  # all others have Message IDs of this side
                remote.recent.answered(message.mid, encoded)
            self._send(remote.association, encoded)
        elif not self.closed:
            ended = SessionEnded("the session has ended")
            self.context.loop.call_soon(self._messages.dispatch_error, ended, remote)

    def _send(self, association: Association, encoded: bytes) -> None:
        try:
            association.send(encoded)
        except MessageNotSent as error:
            self._counters["coap-not-sent"] += 1
            _log.error("cannot send a message to %s: %s", association.remote, error)

    async def recognize_remote(self, remote: object) -> bool:
        """Return whether a remote is a session of this transport, possibly an ended one."""
        return isinstance(remote, CoapsRemote)

    async def determine_remote(self, _message: aiocoap.Message) -> None:
        """Leave the remote empty: a request needs a session whose key was verified."""
        return

    async def shutdown(self) -> None:
        """Implement aiocoap's interface: the context has ended."""
        self.closed = True
