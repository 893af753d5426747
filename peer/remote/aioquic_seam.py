"""aioquic's connection with windows that follow the reader: every private override of aioquic."""

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch


class Window:
    """How far the peer may send ahead of the reader on one stream. Counts are bytes."""

    __slots__ = ("granted", "size", "taken")

    def __init__(self, size: int, granted: int) -> None:
        self.size = size
        self.taken = 0
        self.granted = granted


class WindowedConnection(QuicConnection):
    """A connection whose peer may send only a little more than was read.

    aioquic doubles a window once half of it has arrived, whether or not the data was read
    (aioquic 1.7: `_write_connection_limits`, `_write_stream_limits`). So a slow reader never slows
    the sender down, and after some transfer a single packet can make the receiver allocate a
    window of any size. Both methods double by the number of bytes that have arrived; it is hidden
    from them, and `grant` raises the windows instead. Sending beyond them is a FLOW_CONTROL_ERROR,
    which aioquic answers by closing the connection (RFC 9000 §4.1).
    """

    def __init__(
        self, configuration: QuicConfiguration, *, first_id: bytes, peer_streams: int
    ) -> None:
        if configuration.is_client:
            super().__init__(configuration=configuration)
            self._peer_cid.cid = self._original_destination_connection_id = first_id
        else:
            super().__init__(
                configuration=configuration, original_destination_connection_id=first_id
            )
        for limit, most in (
            (self._local_max_streams_bidi, peer_streams),
            (self._local_max_streams_uni, 0),
        ):
            limit.value = limit.sent = most

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        used, limit.used = limit.used, 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        receiver = stream.receiver
        arrived, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder, space, stream)
        finally:
            receiver.highest_offset = arrived

    def grant(self, stream_id: int, end: int) -> None:
        """Let the peer send up to the offset `end` of a stream."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.max_stream_data_local = max(stream.max_stream_data_local, end)

    def grant_in_all(self, windows: dict[int, Window], ahead: int) -> None:
        """Let the peer send `ahead` bytes in all beyond what these streams have not taken."""
        unread = sum(
            self._streams[stream_id].receiver.highest_offset - window.taken
            for stream_id, window in windows.items()
            if stream_id in self._streams
        )
        limit = self._local_max_data
        limit.value = max(limit.value, limit.used - unread + ahead)

    @property
    def is_ending(self) -> bool:
        """True once either side has closed it, or an error has."""
        return self._close_event is not None

    @property
    def why(self) -> str:
        """Why it has ended; empty if it was closed without an error."""
        return self._close_event.reason_phrase if self._close_event is not None else ""

    @property
    def newest_packet(self) -> int:
        """The number of the newest authenticated packet of the peer, after the handshake."""
        space = self._spaces.get(Epoch.ONE_RTT)
        return -1 if space is None else space.largest_received_packet

    def sent_bytes(self, stream_id: int) -> int | None:
        """Return how much of a stream was sent at least once; None if it is not open."""
        stream = self._streams.get(stream_id)
        return None if stream is None else stream.sender.highest_offset

    def knows(self, stream_id: int) -> bool:
        """Return whether a stream may still have events."""
        return stream_id in self._streams

    def can_send_on(self, stream_id: int) -> bool:
        """Return whether the sending direction of a stream is open."""
        return stream_id in self._streams and not self._streams[stream_id].sender.is_finished
