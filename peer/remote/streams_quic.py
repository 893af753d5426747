"""QUIC without I/O (RFC 9000), by aioquic.

    datagrams ─▶ receive_untrusted ─▶ take_events ─▶ the owner
    the owner ─▶ send, reset, taken … ─▶ take_datagrams ─▶ datagrams

Time is an argument. After each call, the owner sends what `take_datagrams` returns, reads the
events, and calls `handle_timeout` at the time that `timeout_at` returns.

A connection carries the streams of one DTLS session. The client accepts only the certificate that
the device showed in that session, and authenticates itself in the header of each stream
(`streams_header`), since aioquic has no client certificates. There is no resumption and no 0-RTT.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from peer.identity import Identity
from peer.remote.aioquic_seam import Window, WindowedConnection
from peer.remote.limits import RemoteLimits
from peer.remote.streams_header import first_connection_id, has_connection_id

ALPN: Final = "handfast/1"
_PEER: Final = ("peer", 0)  # the address of the one peer: the session knows the real one
_LONG_HEADER: Final = 0x80  # RFC 9000 §17.2
_ABORTED: Final = 1  # the application's error code of a stream that is reset


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is complete: streams can be opened."""


@dataclass(frozen=True, slots=True)
class Received:
    """Data arrived on a stream, for the first time if the stream is not known yet."""

    stream_id: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class PeerReset:
    """The peer has aborted its direction of a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PeerStopped:
    """The peer reads no more of a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection has ended; `reason` says why, empty if it was closed."""

    reason: str


StreamEvent = Ready | Received | PeerReset | PeerStopped | Ended


class StreamConnection:
    """The QUIC connection of one DTLS session. Create it with `client` or `server`."""

    def __init__(
        self, make: Callable[[], WindowedConnection], *, limits: RemoteLimits, first_id: bytes
    ) -> None:
        self._limits = limits
        self._make = make
        self._first_id = first_id
        self._quic: WindowedConnection | None = None
        self._own_id = b""
        self._windows: dict[int, Window] = {}
        self._written: dict[int, int] = {}
        self._seen: set[int] = set()  # streams that had a window and may still receive data
        self._events: list[StreamEvent] = []
        self.is_ready = False
        self.is_ended = False

    @classmethod
    def client(
        cls, certificate: bytes, exporter: bytes, number: int, *, limits: RemoteLimits, now: float
    ) -> Self:
        """Begin the handshake with the device that has this certificate, and no other.

        Args:
            certificate: the one that the device showed in the DTLS session, in DER.
            exporter: the exporter value of that session.
            number: how many QUIC connections the session had before.
            limits: the limits of this side.
            now: the time.
        """
        first_id = first_connection_id(exporter, number)
        configuration = _configuration(limits, is_client=True)
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        configuration.load_verify_locations(cadata=pem)
        quic = WindowedConnection(configuration, first_id=first_id, peer_streams=0)
        made = cls(lambda: quic, limits=limits, first_id=first_id)
        made._start()
        quic.connect(_PEER, now)
        return made

    @classmethod
    def server(
        cls, identity: Identity, exporter: bytes, number: int, *, limits: RemoteLimits
    ) -> Self:
        """Wait for the first packet of the client of the session with this exporter value."""
        first_id = first_connection_id(exporter, number)

        def make() -> WindowedConnection:
            configuration = _configuration(limits, is_client=False)
            configuration.certificate = identity.certificate
            configuration.private_key = identity.private_key
            return WindowedConnection(
                configuration, first_id=first_id, peer_streams=limits.streams_per_session
            )

        return cls(make, limits=limits, first_id=first_id)

    def _start(self) -> WindowedConnection:
        self._quic = quic = self._make()
        self._own_id = quic.host_cid
        return quic

    # -- datagrams and time -----------------------------------------------------------------------

    def receive_untrusted(self, data: bytes, now: float) -> bool:
        """Process one datagram; return whether it had a new packet of the authenticated peer.

        A datagram that can be none of the peer's is dropped unread. Never raises.
        """
        if self.is_ended or not self._is_expected(data):
            return False
        quic = self._quic or self._start()
        before = quic.newest_packet
        quic.receive_datagram(data, _PEER, now)
        self._note_end()
        return quic.newest_packet > before

    def _is_expected(self, data: bytes) -> bool:
        """Return whether a datagram has a connection ID that only this session's peer knows."""
        if not data[0] & _LONG_HEADER:
            return self._quic is not None
        return has_connection_id(data, self._first_id) or (
            self._quic is not None and has_connection_id(data, self._own_id)
        )

    def take_datagrams(self, now: float) -> list[bytes]:
        """Return the datagrams to send now."""
        quic = self._quic
        if quic is None or quic.get_peer_address() is None:
            return []
        found = [data for data, _address in quic.datagrams_to_send(now)]
        self._note_end()
        return found

    def timeout_at(self) -> float | None:
        """Return the time at which `handle_timeout` is due, or None."""
        if self._quic is None or self.is_ended:
            return None
        return self._quic.get_timer()

    def handle_timeout(self, now: float) -> None:
        """Repeat what was lost, or end a connection that is silent for too long."""
        if self._quic is not None and not self.is_ended:
            self._quic.handle_timer(now)
            self._note_end()

    def take_events(self) -> list[StreamEvent]:
        """Return what has happened since the last call."""
        if self._quic is not None:
            while (event := self._quic.next_event()) is not None:
                self._note(event)
        found, self._events = self._events, []
        return found

    def _note(self, event: events.QuicEvent) -> None:
        match event:
            case events.HandshakeCompleted():
                self.is_ready = True
                self._events.append(Ready())
            case events.StreamDataReceived(data=data, end_stream=is_last, stream_id=stream_id):
                self._received(stream_id, data, is_last=is_last)
            case events.StreamReset(stream_id=stream_id):
                self._forget_window(stream_id)
                self._events.append(PeerReset(stream_id))
            case events.StopSendingReceived(stream_id=stream_id):
                self._events.append(PeerStopped(stream_id))
            case _:  # connection IDs, which are aioquic's own affair
                pass

    def _note_end(self) -> None:
        """Note that the connection is ending; what aioquic does afterwards is of no interest."""
        if self._quic is not None and self._quic.is_ending and not self.is_ended:
            while (event := self._quic.next_event()) is not None:
                self._note(event)
            self.is_ended = True
            self._events.append(Ended(self._quic.why))

    # -- streams ----------------------------------------------------------------------------------

    def open_stream(self) -> int:
        """Return the number of a new stream. If the peer allows no more now, its data waits."""
        quic = self._connection()
        stream_id = quic.get_next_available_stream_id()
        quic.send_stream_data(stream_id, b"")
        self._open_window(stream_id)
        return stream_id

    def send(self, stream_id: int, data: bytes, *, is_last: bool = False) -> None:
        """Send data on a stream; it is dropped if the stream is closed in this direction."""
        quic = self._connection()
        if not self.is_ended and quic.can_send_on(stream_id):
            quic.send_stream_data(stream_id, data, is_last)
            self._written[stream_id] = self._written.get(stream_id, 0) + len(data)

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of what was passed to `send` has not been sent yet."""
        sent = self._connection().sent_bytes(stream_id)
        return 0 if sent is None else self._written.get(stream_id, 0) - sent

    def taken(self, stream_id: int, count: int) -> None:
        """Note that the reader has taken `count` bytes, so that the peer may send as many more."""
        window = self._windows.get(stream_id)
        if window is None:
            return
        window.taken += count
        end = window.taken + window.size
        if end - window.granted >= window.size // 2:
            window.granted = end
            self._connection().grant(stream_id, end)
            self._grant_in_all()

    def stop(self, stream_id: int) -> None:
        """Read no more of a stream: what still arrives is dropped, and the peer is told."""
        if stream_id in self._windows and not self.is_ended:
            self._forget_window(stream_id)
            if self._connection().knows(stream_id):
                self._connection().stop_stream(stream_id, _ABORTED)

    def reset(self, stream_id: int) -> None:
        """Abort both directions of a stream."""
        self.stop(stream_id)
        quic = self._connection()
        if not self.is_ended and quic.can_send_on(stream_id):
            quic.reset_stream(stream_id, _ABORTED)
        self._written.pop(stream_id, None)

    def forget(self, stream_id: int) -> None:
        """Forget a stream that is closed in both directions."""
        self._forget_window(stream_id)
        self._written.pop(stream_id, None)

    def ping(self) -> None:
        """Ask the peer for an acknowledgement, which shows that it is there."""
        if self.is_ready and not self.is_ended:
            self._connection().send_ping(0)

    def close(self, reason: str = "") -> None:
        """Close the connection. The peer learns of it with the next datagrams."""
        if self._quic is not None and not self.is_ended:
            self._quic.close(QuicErrorCode.NO_ERROR, reason_phrase=reason)

    def _connection(self) -> WindowedConnection:
        assert self._quic is not None, "the handshake has begun"
        return self._quic

    def _received(self, stream_id: int, data: bytes, *, is_last: bool) -> None:
        if stream_id not in self._windows:
            if stream_id in self._seen:  # stopped by this side
                return
            self._open_window(stream_id)
        self._events.append(Received(stream_id, data, is_last))

    def _open_window(self, stream_id: int) -> None:
        """Give a stream a window: a large one while all together leave room for it."""
        limits = self._limits
        in_use = sum(one.size for one in self._windows.values())
        is_large = in_use + limits.stream_window_bytes <= limits.session_window_bytes
        size = limits.stream_window_bytes if is_large else limits.small_window_bytes
        self._windows[stream_id] = window = Window(size, limits.small_window_bytes)
        if len(self._seen) > 2 * limits.streams_per_session:
            self._seen = {one for one in self._seen if self._connection().knows(one)}
        self._seen.add(stream_id)
        if size > window.granted:
            window.granted = size
            self._connection().grant(stream_id, size)

    def _forget_window(self, stream_id: int) -> None:
        if self._windows.pop(stream_id, None) is not None:
            self._grant_in_all()

    def _grant_in_all(self) -> None:
        self._connection().grant_in_all(self._windows, _bytes_in_all(self._limits))


def _bytes_in_all(limits: RemoteLimits) -> int:
    """Return how many bytes of all streams may wait for their readers, at most."""
    return limits.session_window_bytes + limits.streams_per_session * limits.small_window_bytes


def _configuration(limits: RemoteLimits, *, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=is_client,
        idle_timeout=limits.streams_idle_seconds,
        max_data=_bytes_in_all(limits),
        max_stream_data=limits.small_window_bytes,
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )
