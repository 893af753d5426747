"""CoAP over DTLS client: one connected socket and one session per device.

A connection is made with the pinned fingerprint; a wrong key ends it inside the handshake, before
any byte of a request is sent. Without a pin (pairing), the caller checks the fingerprint. A later
connection to the same key resumes the earlier session if the device allows it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Self

import aiocoap
from aiocoap import error as coap_error

from peer.bounded_dict import BoundedDict
from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.errors import (
    HandshakeFailed,
    Malformed,
    ObservationEnded,
    PeerError,
    TimedOut,
    Unreachable,
)
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.association import Association
from peer.net.coaps import CoapsLayer
from peer.net.remote import CoapsRemote, PeerIdentity
from peer.net.udp import Address, Datagram, Net, UdpSocket

_RESUMABLE = 32  # devices whose last session is kept for resumption
_CONNECT_SECONDS = 20.0
_MOST_TRIES = 4  # handshakes with one address at a time


class _Link:
    """One connected socket with its association, and the outcome of its handshake."""

    def __init__(
        self, address: Address, *, layer: CoapsLayer, counters: Counter[str], net: Net
    ) -> None:
        self._address = address
        self._layer = layer
        self._counters = counters
        self._association: Association | None = None
        self.outcome: asyncio.Future[Association] = asyncio.get_running_loop().create_future()
        self._socket = net.connect(address, on_datagram=self._datagram, on_error=self._socket_error)

    def start(self, session: DtlsSession) -> None:
        """Send the ClientHello."""
        self._association = Association(
            session,
            socket=self._socket,
            remote=self._address,
            counters=self._counters,
            on_message=self._layer.message_received,
            on_change=self._changed,
        )
        self._association.start()

    @property
    def is_open(self) -> bool:
        """Whether the session has not ended."""
        return self._association is not None and not self._association.ended

    def close(self) -> None:
        """Send close_notify and close the socket. Safe to repeat."""
        if self._association is not None:
            self._association.close()
        self._socket.close()

    def _datagram(self, datagram: Datagram) -> None:
        try:
            found = records.split_untrusted(datagram.data)
        except Malformed:
            self._counters["dtls-malformed"] += 1
            return
        if self._association is not None:
            self._association.receive_untrusted(datagram, found)

    def _socket_error(self, error: OSError) -> None:
        """An ICMP error. It ends a handshake; an established session ignores it."""
        self._counters["socket-errors"] += 1
        if not self.outcome.done():
            refused = isinstance(error, ConnectionRefusedError)
            why = error.strerror or str(error)
            said = f"nothing listens on {self._address}" if refused else f"{self._address}: {why}"
            self.outcome.set_exception(
                Unreachable(
                    said,
                    advice="Check that the device is running and that the address is correct.",
                    refused=refused,
                )
            )

    def _changed(self, association: Association) -> None:
        if association.established:
            self._layer.session_established(association)
            if not self.outcome.done():
                self.outcome.set_result(association)
            return
        self._layer.session_ended(association)
        self._socket.close()
        if not self.outcome.done():
            failure = association.session.failure or HandshakeFailed(
                f"{self._address} closed the connection during the handshake"
            )
            self.outcome.set_exception(failure)


class CoapsConnection:
    """An open session with a device. Created by `CoapsClient.connect`."""

    def __init__(self, link: _Link, remote: CoapsRemote, layer: CoapsLayer) -> None:
        self._link = link
        self._remote = remote
        self._layer = layer
        self._context = layer.context

    @property
    def peer(self) -> PeerIdentity:
        """The device: its key, its address, the session's exporter value."""
        return self._remote.peer

    @property
    def is_open(self) -> bool:
        """Whether the session is open, as far as this side knows."""
        return self._remote.association.established

    @property
    def resumed(self) -> bool:
        """Whether an earlier session was resumed instead of a full handshake."""
        return self._remote.association.session.resumed

    async def request(
        self, message: aiocoap.Message, *, timeout: float | None = None
    ) -> aiocoap.Message:
        """Send a request and return the answer, whatever its code.

        `timeout` in seconds bounds the whole exchange, blocks included; None waits as long as the
        device acknowledges. Raises `TimedOut` or `Unreachable`.
        """
        message.remote = self._remote
        request = self._context.request(message)
        return await self._answer(request, timeout=timeout)

    async def observe(self, message: aiocoap.Message) -> AsyncIterator[aiocoap.Message]:
        """Observe a resource (RFC 7641): the first answer, then each notification.

        Ends when the device says so or the answer is an error (which is yielded). Raises
        `ObservationEnded` when the session is gone.
        """
        message.opt.observe = 0
        message.remote = self._remote
        request = self._context.request(message)
        try:
            yield await self._answer(request, timeout=None)
            async for notification in request.observation:
                yield notification
        except (Unreachable, coap_error.NetworkError) as error:
            raise ObservationEnded(
                f"the observation has ended: {error}",
                advice="Request the resource again to see the reason.",
            ) from error
        finally:
            if not request.observation.cancelled:
                request.observation.cancel()
                if message.token and self.is_open:
                    self._layer.deregister(message)

    async def close(self) -> None:
        """End the session. Safe to repeat."""
        self._link.close()

    @staticmethod
    async def _answer(request: Any, *, timeout: float | None) -> aiocoap.Message:
        try:
            async with asyncio.timeout(timeout):
                return await request.response
        except TimeoutError as error:
            raise TimedOut(
                f"no response within {timeout:g} s" if timeout else "no response",
                advice="Check that the device is on and connected, then try again.",
            ) from error
        except coap_error.ConRetransmitsExceeded as error:
            raise TimedOut(
                "the device no longer responds",
                advice="Check that the device is on and connected, then try again.",
            ) from error
        except coap_error.MessageError as error:
            raise Unreachable(
                "the device rejected the request without processing it",
                advice="Use a shorter path and query, or fewer segments: a device accepts "
                f"{DEFAULT_LIMITS.message_options} options with "
                f"{DEFAULT_LIMITS.message_option_bytes} bytes in total.",
            ) from error
        except coap_error.Error as error:
            raise Unreachable(f"the request failed: {error or type(error).__name__}") from error
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            # aiocoap assembles the blocks of a response and fails on some sequences of them.
            raise Malformed("the blocks of the device's response are inconsistent") from error


class CoapsClient:
    """Connects to devices with one identity. Close it, or use it as a context."""

    def __init__(
        self,
        identity: Identity,
        *,
        limits: Limits = DEFAULT_LIMITS,
        ccm8: bool = False,
        net: Net = UdpSocket,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._limits = limits
        self._net = net
        self._dtls = ClientContext(identity, ccm8=ccm8)
        self._layer = CoapsLayer(site=None, limits=limits, counters=self.counters)
        self._links: set[_Link] = set()
        self._tickets: BoundedDict[Fingerprint, Any] = BoundedDict(_RESUMABLE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def connect(
        self,
        address: Address,
        *,
        pinned: Fingerprint | None,
        timeout: float = _CONNECT_SECONDS,
    ) -> CoapsConnection:
        """Open a session; with `pinned`, only with the holder of that key.

        Raises `Unreachable` (`refused` if the host says that nothing listens), `HandshakeFailed`,
        `PinMismatch`, or `TimedOut` after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                link, association = await self._first_of_several(address, pinned)
        except TimeoutError as error:
            raise TimedOut(
                f"{address} did not answer within {timeout:g} s",
                advice="Check that the device is on and that no firewall blocks UDP.",
            ) from error
        remote = self._layer.remotes.get(association)
        if remote is None:
            raise HandshakeFailed(
                f"{address} closed the session immediately",
                advice="It may have too many sessions. Try again in a minute.",
            )
        self._links = {one for one in self._links if one.is_open} | {link}
        fingerprint = association.session.peer_fingerprint
        if fingerprint is not None:
            self._tickets[fingerprint] = association.session.ticket
        return CoapsConnection(link, remote, self._layer)

    async def _first_of_several(
        self, address: Address, pinned: Fingerprint | None
    ) -> tuple[_Link, Association]:
        """The first handshake that is done. OpenSSL's pauses double with each loss, so after some
        seconds another one starts beside a slow one, up to a few."""
        tries = {asyncio.create_task(self._handshake(address, pinned))}
        done: set[asyncio.Task[tuple[_Link, Association]]] = set()
        try:
            while not done:
                done, _ = await asyncio.wait(
                    tries,
                    timeout=self._limits.handshake_again_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done and len(tries) < _MOST_TRIES:
                    tries.add(asyncio.create_task(self._handshake(address, pinned)))
            first = done.pop()
            tries.discard(first)
            return first.result()
        finally:
            for one in tries:
                one.cancel()
            for outcome in await asyncio.gather(*tries, return_exceptions=True):
                if isinstance(outcome, tuple):  # done in the same moment: one is enough
                    outcome[0].close()

    async def _handshake(
        self, address: Address, pinned: Fingerprint | None
    ) -> tuple[_Link, Association]:
        link = _Link(address, layer=self._layer, counters=self.counters, net=self._net)
        ticket = self._tickets.pop(pinned, None) if pinned is not None else None
        try:
            link.start(
                DtlsSession.client(
                    self._dtls, mtu=self._limits.payload_mtu, pinned=pinned, resume=ticket
                )
            )
            return link, await link.outcome
        except (PeerError, asyncio.CancelledError):
            link.close()
            raise

    async def close(self) -> None:
        """End every connection. Safe to repeat."""
        if self._layer.closed:
            return
        for link in self._links:
            link.close()
        self._links.clear()
        await asyncio.sleep(0)  # what was under way ends first
        await self._layer.context.shutdown()
