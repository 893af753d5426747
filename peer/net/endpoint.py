"""The device's side of UDP: a few sockets, many sessions.

A datagram finds its session by where it came from. What comes from nowhere known must be a
ClientHello. It passes, in this order and at rising cost, the cookie gate, the rate of its source
and the question whether there is a place for it; only then the handshake begins, which costs a
signature. Until its cookie is right nothing about its source is kept. A new ClientHello from a
known address takes the same way, but the session that lives there stays until the new one has
proved its key (RFC 6347 §4.2.8), so a replayed or spoofed ClientHello ends nobody's session.

Everything that a remote host can grow is bounded: half-open handshakes (`half_open`), sessions of
unknown keys and sessions in all (`admission`), the table of handshake rates (`rate`), and the bytes
sent in a handshake (`association`).
"""

from __future__ import annotations  # onlink's kernel tables are imported by who uses them

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from peer.dtls import records
from peer.dtls.context import ServerContext
from peer.dtls.cookie import CookieGate, CookieJar
from peer.dtls.session import SessionState
from peer.errors import HandshakeFailed, Malformed, PeerError
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.net.admission import SessionAdmission, SessionPriority
from peer.net.association import Association, PeerAddress
from peer.net.datagram import Datagram, Net, Socket
from peer.net.eviction import FairEviction
from peer.net.half_open import HalfOpen
from peer.net.known_hosts import KnownHosts
from peer.net.rate import HandshakeRate, RandomBytes
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from peer.net.onlink import Locality


class UpperLayer(Protocol):
    """The layer above: CoAP."""

    def session_established(self, association: Association) -> None: ...
    def message_received(self, association: Association, message: bytes) -> None: ...
    def session_ended(self, association: Association) -> None: ...


class Endpoint:
    """Owns the sockets and every association on them."""

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
            CookieJar(lambda: random_bytes(32), lifetime=limits.cookie_key_seconds),
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
        self._admission = SessionAdmission(limits, eviction, priority)
        self._sessions: dict[PeerAddress, Association] = {}
        self._sockets: list[Socket] = []
        self._net = net
        self._loop = asyncio.get_running_loop()
        self._sweep_timer: asyncio.TimerHandle | None = None

    def _new_context(self) -> ServerContext:
        return ServerContext(self._identity, resumption=not self._pairing, ccm8=self._ccm8)

    def bind(self, listen: Sequence[tuple[str, int]]) -> None:
        """Open the sockets. Several addresses with port 0 share the port of the first.

        Raises `PeerError` if an address cannot be had; then none is left open.
        """
        try:
            port = 0
            for host, wanted in listen:
                number = len(self._sockets)
                socket = self._net.bind(
                    host,
                    wanted or port,
                    on_datagram=partial(self._datagram, number),
                    on_error=self._socket_error,
                )
                self._sockets.append(socket)
                port = socket.local_address.port
        except PeerError:
            self.close()
            raise
        self._sweep()

    @property
    def addresses(self) -> list[Address]:
        """Where we listen."""
        return [socket.local_address for socket in self._sockets]

    def associations(self) -> list[Association]:
        """The established sessions, least recently active first."""
        return sorted(self._sessions.values(), key=lambda one: one.last_seen)

    def end(self, which: Callable[[Fingerprint], bool]) -> int:
        """End the sessions and half-open handshakes of some keys at once; returns how many.

        A new context takes over, so that no ticket given out before is good for resumption.
        """
        self._context = self._new_context()
        doomed = [
            association
            for association in (*self._sessions.values(), *self._half_open)
            if association.session.peer_fingerprint is not None
            and which(association.session.peer_fingerprint)
        ]
        for association in doomed:
            association.close()
        return len(doomed)

    def close(self) -> None:
        """Say close_notify to everybody and close the sockets."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for association in (*self._half_open, *self._sessions.values()):
            association.close()
        for socket in self._sockets:
            socket.close()
        self._sockets.clear()

    # -- what arrives ---------------------------------------------------------------------------

    def _socket_error(self, _error: OSError) -> None:
        self.counters["socket-errors"] += 1

    def _datagram(self, number: int, datagram: Datagram) -> None:
        """Give one datagram to whom it belongs. `number` is the socket it came by."""
        try:
            found = records.split_untrusted(datagram.data)
        except Malformed:
            self.counters["dtls-malformed"] += 1
            return
        peer = PeerAddress(number, datagram.source)
        random = records.client_random_untrusted(found)
        session = self._sessions.get(peer)
        half_open = self._half_open.get(peer)
        if random is not None and self._is_new(random, session, half_open):
            self._hello(peer, datagram, found[0].data, random)
        elif half_open is not None and not (session and _is_for_a_session(found)):
            half_open.receive_untrusted(datagram, found)
        elif session is not None:
            session.receive_untrusted(datagram, found)
        else:
            self.counters["dtls-no-session"] += 1

    @staticmethod
    def _is_new(random: bytes, *known: Association | None) -> bool:
        return all(one is None or one.session.client_random != random for one in known)

    def _hello(self, peer: PeerAddress, datagram: Datagram, hello: bytes, random: bytes) -> None:
        source = datagram.source
        now = self._loop.time()
        verdict = self._gate.admit_untrusted(
            hello,
            context=self._context,
            where=f"{source.host} {source.port} {datagram.ifindex}".encode(),
            now=now,
            may_begin=lambda: self._may_begin(peer, now),
        )
        socket = self._sockets[peer.socket]
        if isinstance(verdict, bytes):
            if verdict:
                link_local = datagram.ifindex if source.scope else 0
                socket.send(verdict, source, source=datagram.destination, ifindex=link_local)
            return
        verdict.client_random = random
        association = Association(
            verdict,
            socket=socket,
            remote=source,
            counters=self.counters,
            judge=self._locality.judge,
            amplification=self._limits.handshake_amplification,
            on_message=self._upper.message_received,
            on_change=lambda changed: self._changed(peer, changed),
        )
        association.note_path(datagram)
        is_known = source.host in self._known_hosts
        if self._half_open.add(peer, association, is_known=is_known, now=now):
            self.counters["half-open-evicted"] += 1
        association.start()

    def _may_begin(self, peer: PeerAddress, now: float) -> bool:
        """Whether a handshake may begin, once the cookie is good and before it costs anything."""
        is_known = peer.address.host in self._known_hosts
        if not self._rate.admits(peer.address, is_known=is_known, now=now):
            self.counters["handshakes-rate-limited"] += 1
            return False
        if not self._half_open.has_room(peer, is_known=is_known, now=now):
            self.counters["half-open-refused"] += 1
            return False
        return True

    def _changed(self, peer: PeerAddress, association: Association) -> None:
        if association.established:
            self._half_open.pop(peer)
            before = self._sessions.get(peer)
            if before is not None:
                # As old as the one it follows: nobody keeps a place by beginning again.
                association.established_at = before.established_at
                before.close()
            self._admit(peer, association)
            return
        if self._half_open.get(peer) is association:
            self._half_open.pop(peer)
            if association.session.state is SessionState.FAILED:
                self.counters[_handshake_counter(association)] += 1
        if self._sessions.get(peer) is association:
            del self._sessions[peer]
            self._upper.session_ended(association)

    # -- admission ------------------------------------------------------------------------------

    def _admit(self, peer: PeerAddress, association: Association) -> None:
        if self._pairing and not association.session.extended_master_secret:
            self.counters["no-extended-master-secret"] += 1
            association.close()
            return
        self.counters["handshakes"] += 1
        replaced = self._admission.replaced_by(association, self._sessions, now=self._loop.time())
        if replaced is None:
            self.counters["sessions-refused"] += 1
            association.close()
            return
        for one in replaced:
            self.counters["sessions-evicted"] += 1
            self._sessions[one].close()
        self._sessions[peer] = association
        if association.session.peer_fingerprint is not None:
            self._known_hosts.note(association.remote.host, association.session.peer_fingerprint)
        self._upper.session_established(association)

    def priority_of(self, association: Association) -> SessionPriority:
        """Return the priority of a session's key now."""
        return self._admission.priority_of(association)

    def _sweep(self) -> None:
        """Drop what has been silent too long, then sleep for the shortest of those times."""
        now = self._loop.time()
        limits = self._limits
        for half_open in self._half_open:
            if now - half_open.created >= limits.handshake_seconds:
                self.counters["handshakes-timed-out"] += 1
                half_open.close()
        for session in list(self._sessions.values()):
            stranger = self.priority_of(session) is SessionPriority.LOW
            idle = limits.unpaired_idle_seconds if stranger else limits.session_idle_seconds
            if now - session.last_seen >= idle:
                self.counters["sessions-idle"] += 1
                session.close()
        pause = min(limits.unpaired_idle_seconds, limits.handshake_seconds) / 4
        self._sweep_timer = self._loop.call_later(pause, self._sweep)


def _is_for_a_session(found: list[records.Record]) -> bool:
    """Whether a datagram can only be for the established session of a peer: it is encrypted,
    and no part of a handshake. An alert is one: close_notify must not go to a half-open one."""
    first = found[0]
    return first.epoch > 0 and first.content_type is not records.ContentType.HANDSHAKE


def _handshake_counter(association: Association) -> str:
    failure = association.session.failure
    # OpenSSL's reason; alerts and keys that we refuse speak of certificates as well.
    reason = "peer did not return a certificate"
    no_certificate = isinstance(failure, HandshakeFailed) and reason in str(failure)
    return "handshakes-without-certificate" if no_certificate else "handshakes-failed"
