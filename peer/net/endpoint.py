"""UDP endpoint of a DTLS server: a few sockets, many sessions.

Datagrams are demultiplexed by source address. A datagram from an unknown source must be a
ClientHello. It has to pass, at rising cost, the cookie exchange (RFC 6347 §4.2.1), the rate limit
of its source, and the limit of half-open handshakes; only then the handshake begins, which costs a
signature. No state is allocated for a source before its cookie is valid. A ClientHello from a known
source starts a second handshake; the existing session stays until the new one has authenticated its
peer (§4.2.8), so that a spoofed ClientHello cannot terminate a session.

Everything that a remote host can grow is bounded: half-open handshakes (`half_open`), sessions of
unknown keys and sessions in all (`admission`), the table of handshake rates (`rate`), and the bytes
sent in a handshake (`association`).
"""

from __future__ import annotations  # `Locality` imports kernel tables, which only a device needs

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from peer.dtls import records
from peer.dtls.context import ServerContext
from peer.dtls.cookie import CookieGate, CookieKeys
from peer.dtls.session import SessionState
from peer.errors import Malformed, PeerError
from peer.identity import Fingerprint, Identity
from peer.limits import (
    HANDSHAKE_MESSAGE_BYTES,
    SESSIONS_ENDED_PER_STEP,
    SESSIONS_JUDGED_PER_STEP,
    Limits,
)
from peer.net.address import Address
from peer.net.admission import SessionAdmission, SessionPriority
from peer.net.association import Association, PeerAddress, UpperLayer
from peer.net.attached_paths import AttachedPaths
from peer.net.datagram import Datagram, Net, Socket
from peer.net.eviction import FairEviction
from peer.net.half_open import HalfOpen
from peer.net.handshake_failures import HandshakeFailures
from peer.net.known_hosts import KnownHosts
from peer.net.rate import HandshakeRate, RandomBytes
from peer.net.session_paths import SessionPaths
from peer.net.session_route import PathSocket
from peer.net.session_table import SessionTable
from peer.net.stream_layer import is_stream_datagram
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from peer.net.onlink import Locality


class Endpoint:
    """Owns the sockets and every association on them.

    `random_bytes` returns that many random bytes. `CoapsServer.start` describes the other
    arguments.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        upper: UpperLayer,
        locality: Locality,
        limits: Limits,
        priority: Callable[[Fingerprint], SessionPriority],
        counters: Counter[str],
        pairing: bool,
        ccm8: bool = False,
        net: Net = UdpSocket,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.counters = counters
        self._identity = identity
        self._upper = upper
        self._locality = locality
        self._limits = limits
        self._pairing = pairing
        self._ccm8 = ccm8
        self._context = self._new_context()
        self._gate = CookieGate(
            CookieKeys(lambda: random_bytes(32), lifetime=limits.cookie_key_seconds),
            mtu=limits.payload_mtu,
        )
        self._known_hosts = KnownHosts(
            lambda key: priority(key) is not SessionPriority.LOW,
            most=limits.known_hosts,
            most_per_key=limits.sessions_per_key,
        )
        self._rate = HandshakeRate(limits, random_bytes)
        eviction = FairEviction(random_bytes)
        self._half_open = HalfOpen(limits, eviction)
        self._admission = SessionAdmission(limits, eviction, upper, priority)
        self._table = SessionTable(self._admission.is_unknown)
        self._sessions = self._table.all
        # One object for all associations, since each access to a method makes another one.
        self._judge = locality.judge
        self._on_message = upper.message_received
        self._on_change = self._changed
        self._failures = HandshakeFailures(counters)
        self._numbers = itertools.count()  # of sockets, none of which is used twice
        self._sockets: dict[int, Socket] = {}
        self._paths: dict[int, SessionPaths] = {}  # one for each bound socket
        self._attached = AttachedPaths(
            identity,
            ccm8=ccm8,
            limits=limits,
            counters=counters,
            split_untrusted=self._split_untrusted,
            on_message=self._on_message,
            on_change=self._on_change,
        )
        self._net = net
        self._loop = asyncio.get_running_loop()
        self._sweep_timer: asyncio.TimerHandle | None = None

    def _new_context(self) -> ServerContext:
        return ServerContext(self._identity, resumption=not self._pairing, ccm8=self._ccm8)

    def bind(self, listen: Sequence[tuple[str, int]]) -> None:
        """Open the sockets. Several addresses with port 0 share the port of the first.

        Raises `PeerError` if an address cannot be bound; then no socket stays open.
        """
        try:
            port = 0
            for host, chosen in listen:
                number = next(self._numbers)
                paths = self._paths[number] = SessionPaths()
                socket = self._net.bind(
                    host,
                    chosen or port,
                    on_datagram=partial(self._datagram, number),
                    on_error=self._socket_error,
                    receivers=paths.receivers,
                )
                self._sockets[number] = socket
                port = socket.local_address.port
        except PeerError:
            self.close()
            raise
        self._sweep()

    def attach(self, path: PathSocket, expected: Fingerprint) -> PeerAddress:
        """Serve one session on a remote path. The path ends with the session, and the reverse.

        The session is never local. One with another key than `expected` is closed before it is
        established for the layer above. Raises `ValueError` for an endpoint that pairs: pairing
        has no paths.
        """
        if self._pairing:
            raise ValueError("the pairing port has no remote paths")
        return self._attached.attach(next(self._numbers), path, expected)

    def unused_seconds(self, peer: PeerAddress) -> float:
        """Return how long a path has been silent; 0 while its session is in use."""
        attached = self._attached.get(peer)
        if attached is None or self._upper.is_in_use(attached.association):
            return 0.0
        return self._loop.time() - attached.association.last_seen

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses."""
        return [socket.local_address for socket in self._sockets.values()]

    def is_serving(self) -> bool:
        """Return whether every bound socket is open and read."""
        sockets = self._sockets.values()
        return bool(sockets) and all(socket.is_reading() for socket in sockets)

    def associations(self) -> list[Association]:
        """Return the established sessions, least recently active first."""
        admitted = self._table.admitted().values()
        return sorted(admitted, key=lambda one: one.last_seen)

    def ending(self, which: Callable[[Fingerprint], bool]) -> Iterator[int]:
        """Return an iterator that ends the sessions and half-open handshakes of some keys.

        Each step looks at some of those that exist now, and yields how many it has ended. The DTLS
        context is replaced at once, so that no session ticket issued before is valid.
        """
        self._context = self._new_context()
        known = [
            (association, key)
            for association in (*self._sessions.values(), *self._half_open)
            if (key := association.session.peer_fingerprint) is not None
        ]
        known += ((one.association, one.expected) for one in self._attached.half_open())
        return _end_in_steps(known, which)

    def close(self) -> None:
        """End every session with close_notify, and close the sockets."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for association in (*self._half_open, *self._sessions.values()):
            association.close()
        for attached in self._attached:
            attached.association.close()
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()

    # -- datagrams ------------------------------------------------------------------------------

    def _socket_error(self, _error: OSError) -> None:
        self.counters["socket-errors"] += 1

    def _datagram(self, number: int, datagram: Datagram) -> None:
        """Pass one datagram to its association. `number` is the socket that received it.

        Once a session has received a record, the next ones that arrive in the same way go to it at
        once (`session_paths`).
        """
        peer = PeerAddress(number, datagram.source)
        session = self._sessions.get(peer)
        if session is not None and records.is_one_application_record(datagram.data):
            is_authentic = session.receive_record_untrusted(datagram.data, datagram)
            if is_authentic and session.established:
                self._paths[number].note(session, datagram)
            return
        if is_stream_datagram(datagram.data):
            if session is not None:
                session.receive_stream_untrusted(datagram.data)
            else:
                self.counters["streams-not-armed"] += 1
            return
        found = self._split_untrusted(datagram.data)
        if found is None:
            return
        random = records.client_random_untrusted(found)
        half_open = self._half_open.get(peer)
        if random is not None and self._is_new(random, session, half_open):
            self._hello(peer, datagram, found, random)
        elif half_open is not None and not (session and records.is_of_established_session(found)):
            half_open.receive_untrusted(datagram, found)
        elif session is not None:
            session.receive_untrusted(datagram, found)
        else:
            self.counters["dtls-no-session"] += 1

    def _split_untrusted(self, data: bytes) -> list[records.Record] | None:
        """Return the records of a datagram, or None if it was dropped."""
        try:
            found = records.split_untrusted(data)
        except Malformed:
            self.counters["dtls-malformed"] += 1
            return None
        if records.longest_message_untrusted(found) > HANDSHAKE_MESSAGE_BYTES:
            self.counters["dtls-handshake-too-large"] += 1
            return None
        return found

    @staticmethod
    def _is_new(random: bytes, *known: Association | None) -> bool:
        return all(one is None or one.session.client_random != random for one in known)

    def _hello(
        self,
        peer: PeerAddress,
        datagram: Datagram,
        found: list[records.Record],
        random: bytes,
    ) -> None:
        source = datagram.source
        now = self._loop.time()
        is_known = False

        def may_begin() -> bool:
            nonlocal is_known
            is_known = source.host in self._known_hosts
            return self._may_begin(peer, is_known=is_known, now=now)

        admitted = self._gate.admit_untrusted(
            found[0].data,
            context=self._context,
            where=f"{source.host} {source.port} {source.scope}".encode(),
            now=now,
            may_begin=may_begin,
        )
        socket = self._sockets[peer.socket]
        if isinstance(admitted, bytes):
            if admitted:
                ifindex = self._locality.answer_interface(datagram)
                socket.send(admitted, source, source=datagram.destination, ifindex=ifindex)
            return
        admitted.client_random = random
        association = Association(
            admitted,
            socket=socket,
            remote=source,
            counters=self.counters,
            judge=self._judge,
            amplification=self._limits.handshake_amplification,
            on_message=self._on_message,
            on_change=self._on_change,
            socket_number=peer.socket,
        )
        association.note_path(datagram)
        if self._half_open.add(peer, association, is_known=is_known, now=now):
            self.counters["half-open-evicted"] += 1
        association.start()
        if found[1:]:  # further fragments of the ClientHello
            association.receive_untrusted(datagram, found[1:])

    def _may_begin(self, peer: PeerAddress, *, is_known: bool, now: float) -> bool:
        """Return whether a handshake may begin. The cookie is valid; nothing was computed yet."""
        if not self._rate.admits(peer.address, is_known=is_known, now=now):
            self.counters["handshakes-rate-limited"] += 1
            return False
        if not self._half_open.has_room(peer, is_known=is_known, now=now):
            self.counters["half-open-refused"] += 1
            return False
        return True

    def _changed(self, association: Association) -> None:
        peer = association.peer
        if association.established:
            self._half_open.pop(peer)
            before = self._sessions.get(peer)
            if before is not None:
                # It inherits the age: reconnecting does not protect a session from eviction.
                association.established_at = before.established_at
                before.close()
            self._admit(peer, association)
            return
        if self._half_open.get(peer) is association:
            self._half_open.pop(peer)
            if association.session.state is SessionState.FAILED:
                self._failures.note(association)
        if self._sessions.get(peer) is association:
            self._table.remove(peer)
            if peer.socket in self._paths:
                self._paths[peer.socket].forget(association)
            self._upper.session_ended(association)
        elif self._attached.get(peer) and association.session.state is SessionState.FAILED:
            self._failures.note(association)
        self._attached.remove(peer)

    # -- admission ------------------------------------------------------------------------------

    def _admit(self, peer: PeerAddress, association: Association) -> None:
        if self._pairing and not association.session.extended_master_secret:
            self.counters["no-extended-master-secret"] += 1
            association.close()
            return
        attached = self._attached.get(peer)
        priority = self.priority_of(association)
        is_unknown = priority is SessionPriority.LOW
        if attached is not None and (
            is_unknown or association.session.peer_fingerprint != attached.expected
        ):
            self.counters["path-key-refused"] += 1
            association.close()
            return
        self.counters["handshakes"] += 1
        replaced = self._admission.replaced_by(
            association, priority, self._table, now=self._loop.time()
        )
        if replaced is None:
            self.counters["sessions-refused"] += 1
            if is_unknown:
                association.close()
            else:
                self._tell(peer, association)
            return
        for one in replaced:
            self.counters["sessions-evicted"] += 1
            self._sessions[one].close()
        self._table.add(peer, association, is_unknown=is_unknown)
        key = association.session.peer_fingerprint
        if key is not None and not is_unknown and attached is None:
            self._known_hosts.note(association.remote.host, key)
        self._upper.session_established(association)

    def _tell(self, peer: PeerAddress, association: Association) -> None:
        """Keep a session for a moment, so that its requests are answered with the reason."""
        refused = list(self._table.refused.values())
        for one in refused[: max(0, len(refused) + 1 - self._limits.refused_sessions)]:
            one.close()
        association.is_refused = True
        self._table.add(peer, association, is_unknown=False)
        self._upper.session_established(association)
        self._loop.call_later(self._limits.refused_seconds, association.close)

    def priority_of(self, association: Association) -> SessionPriority:
        """Return the priority of a session's key now."""
        return self._admission.priority_of(association)

    def _sweep(self) -> None:
        """End handshakes and sessions that are idle for too long, and schedule the next sweep."""
        now = self._loop.time()
        limits = self._limits
        of_paths = (one.association for one in self._attached.half_open())
        for half_open in (*self._half_open, *of_paths):
            if now - half_open.created >= limits.handshake_seconds:
                self.counters["handshakes-timed-out"] += 1
                half_open.close()
        self._table.reassess()
        for session in list(self._sessions.values()):
            is_unknown = self.priority_of(session) is SessionPriority.LOW
            idle = limits.unpaired_idle_seconds if is_unknown else limits.session_idle_seconds
            if now - session.last_seen >= idle:
                self.counters["sessions-idle"] += 1
                session.close()
        pause = min(limits.unpaired_idle_seconds, limits.handshake_seconds) / 4
        self._sweep_timer = self._loop.call_later(pause, self._sweep)


def _end_in_steps(
    known: Sequence[tuple[Association, Fingerprint]], which: Callable[[Fingerprint], bool]
) -> Iterator[int]:
    judged = ended = 0
    for association, key in known:
        judged += 1
        if not association.ended and which(key):
            association.close()
            ended += 1
        if ended >= SESSIONS_ENDED_PER_STEP or judged >= SESSIONS_JUDGED_PER_STEP:
            yield ended
            judged = ended = 0
    yield ended
