"""One DTLS session on one UDP path: it owns the session's timer and sends what the session says.

The path (source address of our answers, interface, whether every datagram so far was local) is
learned from what arrives. Records, not callbacks, keep the facts: a waiter that comes late finds
`state` and `failure` as they are.

A device repeats its flight only within a bound. A good cookie shows that its sender received at
that address once; it does not show that the address still is its own, or wants a flight for a
minute. So until the session is established, repeats stop where more would go out than
`amplification` bytes for each byte that came in. A client that lost the flight repeats its
ClientHello (RFC 6347 §4.2.4), which pays for the next repeats.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from peer.dtls import records
from peer.dtls.session import DtlsSession, SessionState
from peer.limits import TIMER_FLOOR_SECONDS
from peer.net.address import Address
from peer.net.datagram import Datagram, Socket
from peer.net.locality_verdict import LocalityVerdict

NOT_JUDGED = LocalityVerdict(
    is_local=False, rule="", interface="", hop_limit=None, detail="not judged"
)


class PeerAddress(NamedTuple):
    """The two ends of a session's path: which of the endpoint's sockets, and the peer's address."""

    socket: int  # its number
    address: Address


class Association:
    """A session, its peer's address and its timer. `on_message` gets each decrypted message;
    `on_change` is called once when it is established and once when it has ended."""

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
    ) -> None:
        self.session = session
        self.remote = remote
        self.local_host = ""
        self.ifindex = 0
        self.verdict = NOT_JUDGED
        self._loop = asyncio.get_running_loop()
        self.created = self.established_at = self.last_seen = self._loop.time()
        self._socket = socket
        self._counters = counters
        self._judge = judge
        self._on_message = on_message
        self._on_change = on_change
        self._amplification = amplification
        self._received_bytes = self._sent_bytes = self._flight_bytes = 0
        self._notified = SessionState.HANDSHAKING
        self._timer: asyncio.TimerHandle | None = None

    @property
    def established(self) -> bool:
        """Whether messages can be exchanged now."""
        return self.session.state is SessionState.ESTABLISHED

    @property
    def ended(self) -> bool:
        """Whether this is over for good."""
        return self.session.state in (SessionState.CLOSED, SessionState.FAILED)

    def start(self) -> None:
        """Send what the session has to say first, and arm its timer."""
        self._pump()
        self._notify()

    def note_path(self, datagram: Datagram) -> None:
        """Note the path of a datagram of this session, its size, and whether it was local.

        Local can fall, never rise (protocol §3). Once there are keys, only what they have opened
        counts: a forged datagram moves nothing.
        """
        self.last_seen = self._loop.time()
        self._received_bytes += len(datagram.data)
        self.local_host, self.ifindex = datagram.destination, datagram.ifindex
        verdict = self._judge(datagram)
        if self.verdict is NOT_JUDGED or (self.verdict.is_local and not verdict.is_local):
            self.verdict = verdict

    def receive_untrusted(self, datagram: Datagram, found: list[records.Record]) -> None:
        """Take one datagram from this peer's address, with the records found in it."""
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

    def send(self, plaintext: bytes) -> None:
        """Send one message; it is lost without a word if the session is over."""
        self.session.send(plaintext)
        self._pump()
        self._notify()

    def close(self) -> None:
        """Say close_notify, stop the timer. Safe to repeat."""
        self.session.close()
        self._pump()
        self._notify()

    def _pump(self) -> None:
        datagrams = self.session.take_datagrams()
        if datagrams:
            self._flight_bytes = sum(map(len, datagrams))
            self._sent_bytes += self._flight_bytes
        for datagram in datagrams:
            link_local = self.remote.scope or (self.verdict.is_local and self.ifindex)
            self._socket.send(
                datagram,
                self.remote,
                source=self.local_host,
                ifindex=self.ifindex if link_local else 0,
            )
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = self.session.timeout()
        if wait is not None:
            self._timer = self._loop.call_later(max(wait, TIMER_FLOOR_SECONDS), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._sent_bytes + self._flight_bytes > self._amplification * self._received_bytes:
            self._counters["handshake-repeats-withheld"] += 1
            return  # what arrives next arms the timer again
        self.session.handle_timeout()
        self._pump()
        self._notify()

    def _notify(self) -> None:
        """Report a change of state once per state, the establishment before the end."""
        state = self.session.state
        if state is self._notified:
            return
        self._notified = state
        if state is SessionState.ESTABLISHED:
            self.established_at = self._loop.time()
        self._on_change(self)
