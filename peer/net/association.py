"""A DTLS session on one UDP path. It owns the session's timer and sends its datagrams.

The path (source address of responses, interface, whether every datagram so far was local) is taken
from received datagrams. State is stored, not signalled: a late waiter reads `state` and `failure`.

A device retransmits its flight only within a bound. A valid cookie shows that its sender once
received datagrams at that address, but not that the address is still its own. So until the session
is established, retransmission stops before more than `amplification` bytes are sent for each byte
received. A client that lost the flight retransmits its ClientHello (RFC 6347 §4.2.4), which permits
more retransmissions.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from peer.dtls import records
from peer.dtls.session import DtlsSession, SessionState
from peer.limits import TIMER_FLOOR_SECONDS
from peer.net.address import Address
from peer.net.datagram import Datagram, Socket
from peer.net.locality_verdict import LocalityVerdict
from peer.net.session_route import PATH_VERDICT, PathSocket, SessionRoute

NOT_JUDGED = LocalityVerdict(
    is_local=False, rule="", interface="", hop_limit=None, detail="not judged"
)


class PeerAddress(NamedTuple):
    """The two ends of a session's path: a socket of the endpoint, and the peer's address."""

    socket: int  # its number, which no other socket of the endpoint ever gets
    address: Address


class StreamLayer(Protocol):
    """The streams of sessions. `Association.arm_streams` connects a session with it."""

    def receive_untrusted(self, association: "Association", data: bytes) -> None:
        """Process one datagram that arrived where the datagrams of a session arrive.

        Nothing has authenticated it: it may be forged. Never raises.
        """

    def session_ended(self, association: "Association") -> None:
        """End the streams of a session at once."""

    def is_in_use(self, association: "Association") -> bool:
        """Return whether a stream of a session is open."""


class Association:
    """A DTLS session, its peer's address and its timer.

    Args:
        session: the DTLS session.
        socket: sends its datagrams.
        remote: the peer's address.
        counters: counts dropped datagrams, by kind.
        judge: decides whether a datagram is local; one of a remote path never is.
        amplification: bytes sent per byte received, until the session is established.
        on_message: called with each decrypted message.
        on_change: called once when the session is established, and once when it has ended.
        socket_number: the number of the socket in its endpoint.
        path: the socket again if it is a remote path.
    """

    __slots__ = (
        "_amplification",
        "_counters",
        "_flight_bytes",
        "_judge",
        "_loop",
        "_notified",
        "_on_change",
        "_on_message",
        "_received_bytes",
        "_sent_bytes",
        "_socket",
        "_socket_number",
        "_streams",
        "_timer",
        "created",
        "established_at",
        "ifindex",
        "is_refused",
        "last_seen",
        "local_host",
        "path",
        "probed_at",
        "remote",
        "session",
        "verdict",
    )

    def __init__(
        self,
        session: DtlsSession,
        *,
        socket: Socket,
        remote: Address,
        counters: Counter[str],
        judge: Callable[[Datagram], LocalityVerdict] = lambda _datagram: NOT_JUDGED,
        amplification: float = math.inf,
        on_message: Callable[["Association", bytes], None],
        on_change: Callable[["Association"], None],
        socket_number: int = 0,
        path: PathSocket | None = None,
    ) -> None:
        self.session = session
        self.remote = remote
        #: The remote path that it uses, or None.
        self.path = path
        self.local_host = ""
        self.ifindex = 0
        #: True if the session exists only to say that there are too many.
        self.is_refused = False
        #: When the peer was last asked for a sign of life.
        self.probed_at: float | None = None
        self.verdict = NOT_JUDGED
        self._loop = asyncio.get_running_loop()
        self.created = self.established_at = self.last_seen = self._loop.time()
        self._socket = socket
        self._socket_number = socket_number
        self._streams: StreamLayer | None = None
        self._counters = counters
        self._judge = judge if path is None else _judge_path
        self._on_message = on_message
        self._on_change = on_change
        self._amplification = amplification
        self._received_bytes = self._sent_bytes = self._flight_bytes = 0
        self._notified = SessionState.HANDSHAKING
        self._timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> PeerAddress:
        """The two ends of its path."""
        return PeerAddress(self._socket_number, self.remote)

    @property
    def address(self) -> Address:
        """The address to which its datagrams go: that of the peer, or of its relay."""
        return self.remote if self.path is None else self.path.remote_address

    @property
    def route(self) -> SessionRoute:
        """How it reaches its peer now."""
        if self.path is not None:
            return self.path.route
        return SessionRoute.LAN if self.verdict.is_local else SessionRoute.ADDRESS

    @property
    def established(self) -> bool:
        """True while messages can be exchanged."""
        return self.session.state is SessionState.ESTABLISHED

    @property
    def ended(self) -> bool:
        """True once the session is closed or has failed."""
        return self.session.state in (SessionState.CLOSED, SessionState.FAILED)

    def start(self) -> None:
        """Send the first flight and start the timer."""
        self._pump()
        self._notify()

    def note_path(self, datagram: Datagram) -> None:
        """Store the path of a datagram of this session, its size, and whether it was local.

        A session can become non-local, but never local again (protocol §3). The caller passes only
        authentic datagrams once there are keys, so that a forged one changes nothing.
        """
        self.last_seen = self._loop.time()
        self._received_bytes += len(datagram.data)
        self.local_host, self.ifindex = datagram.destination, datagram.ifindex
        if self.path is not None and self.established:
            self.path.note_authentic()
        verdict, before = self._judge(datagram), self.verdict
        if verdict is not before and (
            before is NOT_JUDGED or (before.is_local and not verdict.is_local)
        ):
            self.verdict = verdict

    def receive_untrusted(self, datagram: Datagram, found: list[records.Record]) -> None:
        """Process one datagram from this peer's address. `found` has its records."""
        was_established = self.established
        if was_established and any(record.epoch == 0 for record in found):
            self._counters["dtls-cleartext-after-handshake"] += 1
        messages = self.session.receive_untrusted(found)
        if messages or not was_established:
            self.note_path(datagram)
        application = records.ContentType.APPLICATION_DATA
        if was_established and not messages and found[0].content_type is application:
            self._counters["dtls-replayed-or-forged"] += 1
        self._pump()
        if self.established:
            self._notify()
        for message in messages:
            self._on_message(self, message)
        self._notify()

    def receive_record_untrusted(self, record: bytes, arrived: Datagram) -> bool:
        """Process a datagram that is one application record, on an established session.

        It does what `receive_untrusted` does. A record that can be decrypted leaves nothing to send
        and no timer, so nothing is looked for.

        Args:
            record: the data of the datagram.
            arrived: the datagram, or an earlier one that arrived in the same way.

        Returns:
            Whether it is authentic.
        """
        message = self.session.open_record_untrusted(record)
        if message is None:
            self._counters["dtls-replayed-or-forged"] += 1
            self._pump()
            self._notify()
            return False
        self.note_path(arrived)
        self._on_message(self, message)
        return True

    def send(self, plaintext: bytes) -> None:
        """Send one message. It is dropped if the session is not established."""
        datagram = self.session.seal(plaintext)
        if datagram is not None:
            self._transmit(datagram)
            return
        self._pump()
        self._notify()

    def arm_streams(self, streams: StreamLayer) -> None:
        """Pass the datagrams of streams to `streams` from now on, until the session ends."""
        if self.established:
            self._streams = streams

    @property
    def has_open_streams(self) -> bool:
        """True while a stream of this session is open."""
        return self._streams is not None and self._streams.is_in_use(self)

    def receive_stream_untrusted(self, data: bytes) -> None:
        """Pass on one datagram of streams, or drop and count it if the session is not armed."""
        if self._streams is None:
            self._counters["streams-not-armed"] += 1
            return
        self._streams.receive_untrusted(self, data)

    def note_stream_datagram(self) -> None:
        """Note that the datagram of streams that is delivered at this moment is authentic."""
        self.last_seen = self._loop.time()
        if self.path is not None:
            self.path.note_authentic()

    def send_datagram(self, data: bytes) -> bool:
        """Send one datagram of streams as it is; return False if it was dropped. Never raises."""
        return self.established and self._transmit(data)

    def close(self) -> None:
        """Send close_notify and stop the timer. Safe to repeat."""
        self.session.close()
        self._pump()
        self._notify()

    def _pump(self) -> None:
        datagrams = self.session.take_datagrams()
        if datagrams:
            self._flight_bytes = sum(map(len, datagrams))
            self._sent_bytes += self._flight_bytes
        for datagram in datagrams:
            self._transmit(datagram)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = self.session.timeout()
        if wait is not None:
            self._timer = self._loop.call_later(max(wait, TIMER_FLOOR_SECONDS), self._on_timer)

    def _transmit(self, datagram: bytes) -> bool:
        on_link = self.verdict.is_local or self.remote.scope
        return self._socket.send(
            datagram, self.remote, source=self.local_host, ifindex=self.ifindex if on_link else 0
        )

    def _on_timer(self) -> None:
        self._timer = None
        if self._sent_bytes + self._flight_bytes > self._amplification * self._received_bytes:
            self._counters["handshake-repeats-withheld"] += 1
            return  # the next datagram starts the timer again
        self.session.handle_timeout()
        self._pump()
        self._notify()

    def _notify(self) -> None:
        """Call `on_change` once per state."""
        state = self.session.state
        if state is self._notified:
            return
        self._notified = state
        if state is SessionState.ESTABLISHED:
            self.established_at = self._loop.time()
        on_change = self._on_change
        if self.ended:
            # Both refer to the owner of this object: without the cycle, it is freed at once.
            self._on_change = self._on_message = _ignore
            self.session.release()
            streams, self._streams = self._streams, None
            if streams is not None:
                streams.session_ended(self)
        on_change(self)


def _judge_path(_datagram: Datagram) -> LocalityVerdict:
    return PATH_VERDICT


def _ignore(*_: object) -> None:
    """Handle an event of a session that has ended: not at all."""


class UpperLayer(Protocol):
    """The layer above: CoAP."""

    def session_established(self, association: Association) -> None:
        """Prepare for messages on a new session."""

    def message_received(self, association: Association, message: bytes) -> None:
        """Process one decrypted message."""

    def session_ended(self, association: Association) -> None:
        """Release everything of a session."""

    def is_in_use(self, association: Association) -> bool:
        """Return whether there is a request, an observation or a stream on a session."""

    def probe(self, association: Association) -> None:
        """Ask the peer for a sign of life, which it sends at once."""
