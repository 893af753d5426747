"""Streams over DTLS sessions: `ClientStreams` at the client, `StreamServer` at the device.

Each is the `StreamLayer` of the sessions that it is armed for, and gives them QUIC connections
(`streams_session`). The end of a session ends its streams in the same turn of the loop; a QUIC
connection that ends leaves the session alone, and the next stream begins another one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine

from peer.errors import PeerError, SessionFailed, TimedOut
from peer.identity import Identity
from peer.net.association import Association
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.stream_copy import Pair
from peer.remote.streams_header import first_connection_id, has_connection_id
from peer.remote.streams_quic import StreamConnection
from peer.remote.streams_session import StreamSession

Serve = Callable[
    [Association, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]
]
"""Serves one stream of a session, and closes its writer."""


class ClientStreams:
    """The streams of one session, at the client. It is the `StreamLayer` of the session."""

    def __init__(
        self, association: Association, *, limits: RemoteLimits = DEFAULT_REMOTE_LIMITS
    ) -> None:
        self._association = association
        self._limits = limits
        self._number = 0
        self._session: StreamSession | None = None
        association.arm_streams(self)

    async def open(self) -> Pair:
        """Open a stream, with a handshake if there is no QUIC connection.

        Raises `SessionFailed` if the session has ended or the device shows another certificate,
        `TimedOut`, or `PeerError` if too many streams are open.
        """
        session = self._live()
        try:
            async with asyncio.timeout(self._limits.streams_ready_seconds):
                await asyncio.shield(session.ready)
        except TimeoutError as error:
            raise TimedOut("the device does not answer on the streams of its session") from error
        if session.open_streams >= self._limits.streams_per_session:
            raise PeerError(
                f"{session.open_streams} connections are open to this device already",
                advice="Close some of them first.",
            )
        return session.open()

    def _live(self) -> StreamSession:
        if not self._association.established:
            raise SessionFailed("the session has ended", advice="Connect again.")
        if self._session is None or not self._session.is_open:
            dtls = self._association.session
            quic = StreamConnection.client(
                dtls.peer_certificate(),
                dtls.exporter,
                self._number,
                limits=self._limits,
                now=asyncio.get_running_loop().time(),
            )
            self._number += 1
            self._session = StreamSession(self._association, quic, limits=self._limits)
        return self._session

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return 0 if self._session is None else self._session.open_streams

    # -- of StreamLayer ---------------------------------------------------------------------------

    def receive_untrusted(self, _association: Association, data: bytes) -> None:
        """Process one datagram."""
        if self._session is not None:
            self._session.receive_untrusted(data)

    def session_ended(self, _association: Association) -> None:
        """End the streams."""
        if self._session is not None:
            self._session.end()

    def is_in_use(self, _association: Association) -> bool:
        """Return whether a stream is open."""
        return self.open_streams > 0


class _Armed:
    """A session of the device with its QUIC connection."""

    def __init__(self, association: Association, session: StreamSession, next_id: bytes) -> None:
        self.association = association
        self.session = session
        self.number = 0
        self.next_id = next_id
        self.tasks: set[asyncio.Task[None]] = set()


class StreamServer:
    """The streams of all sessions, at the device. It is the `StreamLayer` of those it is armed for.

    Args:
        identity: the device's key, whose certificate QUIC shows, too.
        serve: serves each stream. It is cancelled when the session ends.
        limits: the limits of the device.
        counters: counts what was refused, by kind.
        on_end: called with each session that has ended.
    """

    def __init__(
        self,
        identity: Identity,
        serve: Serve,
        *,
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
        counters: Counter[str] | None = None,
        on_end: Callable[[Association], None] = lambda _association: None,
    ) -> None:
        self._identity = identity
        self._serve = serve
        self._limits = limits
        self._on_end = on_end
        self._armed: dict[Association, _Armed] = {}
        self.counters: Counter[str] = Counter() if counters is None else counters

    @property
    def open_streams(self) -> int:
        """The number of open streams of all sessions."""
        return sum(one.session.open_streams for one in self._armed.values())

    def arm(self, association: Association) -> None:
        """Accept streams on a session from now on. Safe to repeat."""
        if association not in self._armed and association.established:
            session = self._connection(association, 0)
            next_id = first_connection_id(association.session.exporter, 1)
            self._armed[association] = _Armed(association, session, next_id)
            association.arm_streams(self)

    def close(self) -> None:
        """End all streams."""
        for association in list(self._armed):
            self.session_ended(association)

    def _connection(self, association: Association, number: int) -> StreamSession:
        quic = StreamConnection.server(
            self._identity, association.session.exporter, number, limits=self._limits
        )

        def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            armed = self._armed[association]
            task = asyncio.get_running_loop().create_task(self._serve(association, reader, writer))
            armed.tasks.add(task)
            task.add_done_callback(armed.tasks.discard)

        return StreamSession(association, quic, limits=self._limits, on_stream=on_stream)

    # -- of StreamLayer ---------------------------------------------------------------------------

    def receive_untrusted(self, association: Association, data: bytes) -> None:
        """Process one datagram. The first one of the session's next connection replaces this one.

        Only the client of the session knows the connection ID that begins it.
        """
        armed = self._armed.get(association)
        if armed is None:
            return
        if has_connection_id(data, armed.next_id):
            if armed.number + 1 >= self._limits.stream_connections:
                self.counters["streams-too-many-connections"] += 1
                association.close()
                return
            armed.number += 1
            armed.session.end("the client has opened another connection")
            armed.session = self._connection(association, armed.number)
            exporter = association.session.exporter
            armed.next_id = first_connection_id(exporter, armed.number + 1)
        armed.session.receive_untrusted(data)

    def session_ended(self, association: Association) -> None:
        """End the streams of a session, and whatever serves them."""
        armed = self._armed.pop(association, None)
        if armed is not None:
            armed.session.end()
            for task in armed.tasks:
                task.cancel()
            self._on_end(association)

    def is_in_use(self, association: Association) -> bool:
        """Return whether a stream of a session is open."""
        armed = self._armed.get(association)
        return armed is not None and armed.session.open_streams > 0
