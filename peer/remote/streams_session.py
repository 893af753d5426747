"""One QUIC connection on the datagrams of a DTLS session: its timer, its pings and its streams.

    TCP ─▶ reader and writer ─▶ StreamTransport ─▶ StreamConnection (QUIC) ─▶ Association ─▶ path

It is the same for both sides; which streams there are and who serves them is in `streams`.
"""

import asyncio
import logging
from collections.abc import Callable

from peer.errors import SessionFailed
from peer.net.association import Association
from peer.remote.limits import RemoteLimits
from peer.remote.stream_copy import Pair
from peer.remote.stream_transport import StreamTransport, streams_of
from peer.remote.streams_quic import (
    Ended,
    PeerReset,
    PeerStopped,
    Ready,
    Received,
    StreamConnection,
    StreamEvent,
)

_log = logging.getLogger(__name__)


class StreamSession:
    """One QUIC connection: its datagrams, its timer, and its streams.

    Args:
        association: the session, whose datagrams it shares.
        quic: the connection.
        limits: the limits of this side.
        on_stream: called with reader and writer of each stream that the peer opens.
    """

    def __init__(
        self,
        association: Association,
        quic: StreamConnection,
        *,
        limits: RemoteLimits,
        on_stream: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None] | None = None,
    ) -> None:
        self._association = association
        self._quic = quic
        self._limits = limits
        self._on_stream = on_stream
        self._transports: dict[int, StreamTransport] = {}
        self._loop = asyncio.get_running_loop()
        self._flush: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.TimerHandle | None = None
        self._heard = self._loop.time()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._flush_soon()

    @property
    def is_open(self) -> bool:
        """True until the connection has ended."""
        return not self._quic.is_ended

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return len(self._transports)

    def receive_untrusted(self, data: bytes) -> None:
        """Process one datagram. Only an authenticated one counts as a sign of life."""
        now = self._loop.time()
        try:
            if self._quic.receive_untrusted(data, now):
                self._heard = now
                self._association.note_stream_datagram()
        except Exception:
            # An internal error in one datagram must not stop the other sessions.
            _log.exception("cannot process a QUIC packet from %s", self._association.address)
            self._quic.close("internal error")
        self._dispatch()
        self._flush_soon()

    def open(self) -> Pair:
        """Open a stream. The peer learns of it with the first data."""
        stream_id = self._quic.open_stream()
        pair = self._add(stream_id)
        self._ping_later()
        return pair

    def end(self, why: str = "the session has ended") -> None:
        """End all streams and the connection at once. Safe to repeat."""
        self._quic.close()
        self._send()
        for handle in (self._flush, self._timer, self._ping):
            if handle is not None:
                handle.cancel()
        self._flush = self._timer = self._ping = None
        self._lose_all(why)

    # -- for the transports -----------------------------------------------------------------------

    def send(self, stream_id: int, data: bytes, *, is_last: bool = False) -> None:
        """Send data on a stream."""
        self._quic.send(stream_id, data, is_last=is_last)
        self._flush_soon()

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of a stream waits to be sent."""
        return self._quic.unsent_bytes(stream_id)

    def taken(self, stream_id: int, count: int) -> None:
        """Note that a reader has taken data."""
        self._quic.taken(stream_id, count)
        self._flush_soon()

    def stop(self, stream_id: int) -> None:
        """Read no more of a stream."""
        self._quic.stop(stream_id)
        self._flush_soon()

    def reset(self, stream_id: int) -> None:
        """Abort both directions of a stream."""
        self._quic.reset(stream_id)
        self._flush_soon()

    def forget(self, stream_id: int) -> None:
        """Release a stream whose transport is closed."""
        self._transports.pop(stream_id, None)
        self._quic.forget(stream_id)

    # -- inside -----------------------------------------------------------------------------------

    def _add(self, stream_id: int) -> Pair:
        transport, reader, writer = streams_of(self, stream_id)
        self._transports[stream_id] = transport
        return reader, writer

    def _dispatch(self) -> None:
        for event in self._quic.take_events():
            self._handle(event)

    def _handle(self, event: StreamEvent) -> None:
        match event:
            case Ready():
                if not self.ready.done():
                    self.ready.set_result(None)
            case Received(stream_id=stream_id, data=data, is_last=is_last):
                if stream_id not in self._transports:
                    if self._on_stream is None:
                        return
                    self._on_stream(*self._add(stream_id))
                if (transport := self._transports.get(stream_id)) is not None:
                    transport.received(data, is_last=is_last)
            case PeerReset(stream_id=stream_id):
                if (transport := self._transports.get(stream_id)) is not None:
                    self._quic.reset(stream_id)
                    transport.lose(ConnectionResetError("the other side has reset this stream"))
            case PeerStopped(stream_id=stream_id):
                if (transport := self._transports.get(stream_id)) is not None:
                    transport.peer_stopped()
            case Ended(reason=reason):
                self._lose_all(reason or "the streams were closed by the other side")

    def _lose_all(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(SessionFailed(f"the streams have ended: {why}"))
            self.ready.exception()  # there may be no waiter, which is no fault
        for transport in list(self._transports.values()):
            transport.lose(ConnectionResetError(why))

    def _flush_soon(self) -> None:
        """Send in the next turn of the loop, together with all that this turn adds."""
        if self._flush is None:
            self._flush = self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._send()
        self._dispatch()
        for transport in list(self._transports.values()):
            transport.sent()
        self._set_timer()

    def _send(self) -> None:
        for datagram in self._quic.take_datagrams(self._loop.time()):
            self._association.send_datagram(datagram)

    def _set_timer(self) -> None:
        at = self._quic.timeout_at()
        if self._timer is not None:
            if at is not None and self._timer.when() == at:
                return
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._quic.handle_timeout(self._loop.time())
        self._dispatch()
        self._flush_soon()

    def _ping_later(self) -> None:
        if self._ping is None:
            self._ping = self._loop.call_later(self._limits.streams_ping_seconds, self._on_ping)

    def _on_ping(self) -> None:
        """Ask a silent peer for a sign of life, as long as a stream is open."""
        self._ping = None
        if self._transports and self.is_open:
            if self._loop.time() - self._heard >= self._limits.streams_ping_seconds:
                self._quic.ping()
                self._flush_soon()
            self._ping_later()
