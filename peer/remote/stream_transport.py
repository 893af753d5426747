"""One stream of a tunnel as a transport of asyncio, so that it has a reader and a writer.

FIN is the end of one direction (`write_eof`), and a reset ends both (`abort`). A reader that does
not read pauses the transport, which then tells QUIC of no more bytes taken, so the peer stops
sending at the end of the window. A writer waits (`drain`) while the stream has much to send.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from peer.remote.limits import STREAM_READ_BYTES, STREAM_UNSENT_BYTES

_DEFAULT_LOW = 4  # asyncio's ratio of the high to the low mark


class StreamStopped(BrokenPipeError):
    """The other side reads no more of a stream; it may still send."""


class StreamOwner(Protocol):
    """The connection of a stream; see `peer.remote.streams_session.StreamSession`."""

    def send(self, stream_id: int, data: bytes, *, is_last: bool = False) -> None:
        """Send data on a stream."""

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of a stream waits to be sent."""

    def taken(self, stream_id: int, count: int) -> None:
        """Note that a reader has taken data."""

    def stop(self, stream_id: int) -> None:
        """Read no more of a stream."""

    def reset(self, stream_id: int) -> None:
        """Abort both directions of a stream."""

    def forget(self, stream_id: int) -> None:
        """Release a stream whose transport is closed."""


class StreamTransport(asyncio.Transport):
    """The transport of one stream."""

    def __init__(self, owner: StreamOwner, stream_id: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._owner = owner
        self._stream_id = stream_id
        self._protocol: asyncio.BaseProtocol = protocol
        self._loop = asyncio.get_running_loop()
        self._held = 0  # bytes that arrived and are not taken yet
        self._is_reading = True
        self._is_writing = True  # False while the protocol is told to wait
        self._has_ended_reading = self._has_ended_writing = False
        self._is_stopped = False
        self._is_closing = self._is_lost = False
        self._high, self._low = STREAM_UNSENT_BYTES, STREAM_UNSENT_BYTES // _DEFAULT_LOW
        protocol.connection_made(self)

    # -- from the connection ----------------------------------------------------------------------

    def received(self, data: bytes, *, is_last: bool) -> None:
        """Pass data on to the protocol."""
        if self._is_closing or not isinstance(self._protocol, asyncio.Protocol):
            return
        if data:
            self._held += len(data)
            self._protocol.data_received(data)
            self._release()
        if is_last:
            self._has_ended_reading = True
            self._protocol.eof_received()
            self._close_if_done()

    def peer_stopped(self) -> None:
        """The peer reads no more: what is written from now on raises `StreamStopped`."""
        self._is_stopped = True
        self._end_writing()

    def sent(self) -> None:
        """Let the protocol write again if there is little left to send."""
        if not self._is_writing and self.get_write_buffer_size() <= self._low:
            self._is_writing = True
            self._protocol.resume_writing()

    def lose(self, error: Exception | None) -> None:
        """End the transport: `connection_lost` is the last call of the protocol."""
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._owner.forget(self._stream_id)
        protocol, self._protocol = self._protocol, asyncio.BaseProtocol()
        protocol.connection_lost(error)

    # -- reading ----------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Return whether data is passed on as taken."""
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        """Hold the peer back. Data on its way, at most a window, is still passed on."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Let the peer send again."""
        self._is_reading = True
        self._release()

    def _release(self) -> None:
        if self._is_reading and self._held and not self._is_closing:
            held, self._held = self._held, 0
            self._owner.taken(self._stream_id, held)

    # -- writing ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data. Raises `StreamStopped` once the peer reads no more."""
        if self._is_stopped:
            raise StreamStopped("the other side reads no more of this stream")
        if self._has_ended_writing or self._is_closing or not data:
            return
        self._owner.send(self._stream_id, bytes(data))
        if self._is_writing and self.get_write_buffer_size() > self._high:
            self._is_writing = False
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces of data."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: a stream has an end in each direction."""
        return True

    def write_eof(self) -> None:
        """End the direction to the peer. Data can still arrive."""
        if not self._has_ended_writing and not self._is_closing:
            self._owner.send(self._stream_id, b"", is_last=True)
            self._has_ended_writing = True
            self._close_if_done()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return 0 if self._has_ended_writing else self._owner.unsent_bytes(self._stream_id)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks between which the protocol is told to wait, in bytes."""
        high = STREAM_UNSENT_BYTES if high is None else high
        self._high, self._low = high, high // _DEFAULT_LOW if low is None else low

    def _end_writing(self) -> None:
        self._has_ended_writing = True
        self.sent()
        self._close_if_done()

    # -- ending -----------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closed, or closes."""
        return self._is_closing

    def close(self) -> None:
        """End both directions. Written data is still sent; data that arrives is dropped."""
        if not self._is_closing:
            if not self._has_ended_writing:
                self._owner.send(self._stream_id, b"", is_last=True)
            if not self._has_ended_reading:
                self._owner.stop(self._stream_id)
            self._lose_soon()

    def abort(self) -> None:
        """Reset the stream. Written data that was not sent is dropped."""
        if not self._is_lost:
            self._owner.reset(self._stream_id)
            self._lose_soon()

    def _close_if_done(self) -> None:
        if self._has_ended_reading and self._has_ended_writing and not self._is_closing:
            self._lose_soon()

    def _lose_soon(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self.lose, None)


def streams_of(
    owner: StreamOwner, stream_id: int
) -> tuple[StreamTransport, asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the transport of a stream, its reader and its writer."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=STREAM_READ_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = StreamTransport(owner, stream_id, protocol)
    return transport, reader, asyncio.StreamWriter(transport, protocol, reader, loop)
