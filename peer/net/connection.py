"""One connection of a client: a connected socket, its DTLS session, and the requests on it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

import aiocoap

from peer.dtls import records
from peer.dtls.session import DtlsSession
from peer.errors import HandshakeFailed, Malformed, Unreachable
from peer.limits import Limits
from peer.net.address import Address
from peer.net.association import Association
from peer.net.coaps import CoapsLayer
from peer.net.datagram import Datagram, Net, Socket
from peer.net.exchange import Exchange
from peer.net.notifications import NotificationStream
from peer.net.remote import CoapsRemote, PeerIdentity
from peer.net.session_route import PATH_ADDRESS, PathSocket
from peer.net.socket_reports import unreachable
from peer.net.stream_layer import is_stream_datagram

_TAG_BYTES = 4  # of 0 to 8 (RFC 9175 §3.2)


class ClientLink:
    """A connected socket or a remote path, with its association.

    `outcome` is the result of the handshake.

    `on_round_trip` is called with the seconds from the ClientHello to the first datagram.
    """

    def __init__(
        self,
        to: Address | PathSocket,
        *,
        layer: CoapsLayer,
        counters: Counter[str],
        net: Net,
        on_round_trip: Callable[[float], None],
    ) -> None:
        self._address = to if isinstance(to, Address) else PATH_ADDRESS
        self._layer = layer
        self._counters = counters
        self._association: Association | None = None
        self._on_round_trip = on_round_trip
        #: Seconds from the ClientHello to the first datagram; 0 before it arrives.
        self.round_trip_seconds = 0.0
        self._has_answer = False
        self.outcome: asyncio.Future[Association] = asyncio.get_running_loop().create_future()
        self._path = None if isinstance(to, Address) else to
        self._socket: Socket
        if isinstance(to, Address):
            self._socket = net.connect(to, on_datagram=self._datagram, on_error=self._socket_error)
        else:
            self._socket = to
            to.open(on_datagram=self._datagram, on_closed=self._path_closed)

    def start(self, session: DtlsSession) -> None:
        """Send the ClientHello. It does nothing if the path has ended meanwhile."""
        if self.outcome.done():
            return
        self._association = Association(
            session,
            socket=self._socket,
            remote=self._address,
            counters=self._counters,
            on_message=self._layer.message_received,
            on_change=self._changed,
            path=self._path,
        )
        self._association.start()

    @property
    def peer_text(self) -> str:
        """The peer in an error message."""
        return str(self._address) if self._path is None else "the device"

    @property
    def is_open(self) -> bool:
        """True until the session has ended."""
        return self._association is not None and not self._association.ended

    def close(self) -> None:
        """Send close_notify and close the socket. Safe to repeat."""
        if self._association is not None:
            self._association.close()
        self._socket.close()

    async def wait_closed(self) -> None:
        """Wait after `close` until everything below a path is freed, such as a relay."""
        if self._path is not None:
            await self._path.wait_closed()

    def _datagram(self, datagram: Datagram) -> None:
        association = self._association
        if association is None:
            return
        if association.established and records.is_one_application_record(datagram.data):
            association.receive_record_untrusted(datagram.data, datagram)
            return
        if is_stream_datagram(datagram.data):
            association.receive_stream_untrusted(datagram.data)
            return
        try:
            found = records.split_untrusted(datagram.data)
        except Malformed:
            self._counters["dtls-malformed"] += 1
            return
        if not self._has_answer:
            self._has_answer = True
            self.round_trip_seconds = asyncio.get_running_loop().time() - association.created
            self._on_round_trip(self.round_trip_seconds)
        association.receive_untrusted(datagram, found)

    def _socket_error(self, error: OSError) -> None:
        """Handle an ICMP error: it ends a handshake, and an established session ignores it."""
        self._counters["socket-errors"] += 1
        if not self.outcome.done():
            self.outcome.set_exception(unreachable(self._address, error))

    def _path_closed(self) -> None:
        """End the session: its path has ended."""
        ended = Unreachable("the remote path to the device has ended", advice="Try again.")
        if not self.outcome.done():
            self.outcome.set_exception(ended)
        if self._association is not None:
            self._association.session.failure = ended
            self._association.close()

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
                f"{self.peer_text} closed the connection during the handshake"
            )
            self.outcome.set_exception(failure)


class CoapsConnection:
    """An open session with a device. Created by `CoapsClient.connect` or `connect_over`."""

    def __init__(
        self, link: ClientLink, remote: CoapsRemote, layer: CoapsLayer, limits: Limits
    ) -> None:
        self._link = link
        self._remote = remote
        self._layer = layer
        self._limits = limits
        self._request_tags = itertools.count(1)

    @property
    def peer(self) -> PeerIdentity:
        """The device: its key, its address, the session's exporter value."""
        return self._remote.peer

    @property
    def is_open(self) -> bool:
        """True while the session is open, as far as this side knows."""
        return self._remote.association.established

    @property
    def resumed(self) -> bool:
        """True if an earlier session was resumed instead of a full handshake."""
        return self._remote.association.session.resumed

    async def request(
        self, message: aiocoap.Message, *, timeout: float | None = None
    ) -> aiocoap.Message:
        """Send a request and return the response, whatever its code.

        Args:
            message: the request.
            timeout: seconds for the whole exchange, blocks included; None waits as long as the
                device acknowledges.

        Raises:
            TimedOut: there was no response in time.
            Unreachable: the session has ended, or the device rejected the message.
            Malformed: the blocks of the response do not fit together.
        """
        return await self.begin(message).response(timeout=timeout)

    def begin(self, message: aiocoap.Message) -> Exchange:
        """Send a request, and return the exchange, which has to be stopped."""
        message.remote = self._remote
        if message.payload:
            # Nothing else tells the blocks of parallel requests apart (RFC 9175 §3.3).
            message.opt.request_tag = [next(self._request_tags).to_bytes(_TAG_BYTES)]
        return Exchange(message, self._layer, self._limits)

    def observe(self, message: aiocoap.Message) -> NotificationStream:
        """Observe a resource (RFC 7641): iterate over its present state and each new one.

        States that are not read in time are left out. The iterator ends if the device ends the
        observation; an error response is the last one. It raises `ObservationEnded` when the
        session has ended.
        """
        message.opt.observe = 0
        message.remote = self._remote
        return NotificationStream(message, layer=self._layer, ask=self._block, limits=self._limits)

    async def ping(self, *, timeout: float) -> bool:
        """Return whether the device answers a ping (RFC 7252 §4.3) within `timeout` seconds."""
        if not self.is_open:
            return False
        try:
            async with asyncio.timeout(timeout):
                await self._layer.ping(self._remote)
        except TimeoutError:
            return False
        return True

    @property
    def round_trip_seconds(self) -> float:
        """Seconds that the first datagram of the device took, with retransmissions."""
        return self._link.round_trip_seconds

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last message of the device."""
        return self._remote.silent_seconds

    @property
    def association(self) -> Association:
        """The DTLS session, with which streams are connected (`Association.arm_streams`)."""
        return self._remote.association

    @property
    def is_in_use(self) -> bool:
        """True while a request, an observation or a stream is open."""
        return self._layer.is_in_use(self._remote.association)

    async def close(self) -> None:
        """End the session. Safe to repeat."""
        self._link.close()

    async def _block(self, message: aiocoap.Message) -> aiocoap.Message:
        """Send a request for one block of a response."""
        message.remote = self._remote
        exchange = Exchange(message, self._layer, self._limits, is_block=True)
        return await exchange.response(timeout=None)
