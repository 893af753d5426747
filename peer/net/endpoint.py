"""The device's side of UDP: a few sockets, many sessions.

A datagram finds its session by where it came from. What comes from nowhere known must be a
ClientHello and passes the cookie gate first; until its cookie is right nothing about its source is
kept. A new ClientHello from a known address is let through the gate as well, but the session that
lives there stays until the new one has proved its key (RFC 6347 §4.2.8), so a replayed or spoofed
ClientHello ends nobody's session.

Everything a stranger can grow is bounded here: half-open handshakes, sessions of unknown keys,
sessions in all, and the table of handshake rates.
"""

from __future__ import annotations  # onlink's kernel tables are imported by who uses them

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from peer.dtls import records
from peer.dtls.context import ServerContext
from peer.dtls.cookie import CookieGate, CookieJar
from peer.dtls.session import SessionState
from peer.errors import HandshakeFailed, Malformed, PeerError
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.association import Association
from peer.net.udp import Address, Datagram, Net, Socket, UdpSocket

if TYPE_CHECKING:
    from peer.net.onlink import Locality

_Place = tuple[int, Address]  # which of our sockets, and who


class Standing(IntEnum):
    """What a key is to us, as far as room is concerned: who makes way for whom."""

    UNPAIRED = 0
    PAIRED = 1
    OWNER = 2


class Upper(Protocol):
    """The layer above: CoAP."""

    def session_established(self, association: Association) -> None: ...
    def message_received(self, association: Association, message: bytes) -> None: ...
    def session_ended(self, association: Association) -> None: ...


class HandshakeRate:
    """Handshakes per second and source address, with a burst; remembers a bounded number."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, host: str, now: float) -> bool:
        """Take one from the host's bucket. Only hosts that showed a good cookie get one."""
        level, then = self._buckets.pop(host, (float(self._limits.handshake_burst), now))
        level = min(
            float(self._limits.handshake_burst),
            level + (now - then) * self._limits.handshakes_per_second,
        )
        admitted = level >= 1
        self._buckets[host] = (level - 1 if admitted else level, now)
        while len(self._buckets) > self._limits.rate_sources:
            self._buckets.popitem(last=False)
        return admitted


class Endpoint:
    """Owns the sockets and every association on them."""

    def __init__(
        self,
        identity: Identity,
        *,
        upper: Upper,
        locality: Locality,
        limits: Limits,
        standing: Callable[[Fingerprint], Standing],
        counters: Counter[str],
        pairing: bool,
        interop: bool = False,
        net: Net = UdpSocket,
    ) -> None:
        self.counters = counters
        self._identity = identity
        self._upper = upper
        self._locality = locality
        self._limits = limits
        self._standing = standing
        self._pairing = pairing
        self._interop = interop
        self._context = self._new_context()
        self._gate = CookieGate(
            CookieJar(lambda: secrets.token_bytes(32), lifetime=limits.cookie_key_seconds)
        )
        self._rate = HandshakeRate(limits)
        self._half_open: OrderedDict[_Place, Association] = OrderedDict()
        self._sessions: dict[_Place, Association] = {}
        self._sockets: list[Socket] = []
        self._net = net
        self._loop = asyncio.get_running_loop()
        self._sweep_timer: asyncio.TimerHandle | None = None

    def _new_context(self) -> ServerContext:
        return ServerContext(self._identity, resumption=not self._pairing, interop=self._interop)

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
            for association in (*self._sessions.values(), *self._half_open.values())
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
        for association in (*self._half_open.values(), *self._sessions.values()):
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
        place = (number, datagram.source)
        random = records.client_random_untrusted(found)
        session = self._sessions.get(place)
        half_open = self._half_open.get(place)
        if random is not None and self._is_new(random, session, half_open):
            self._hello(place, datagram, random)
        elif half_open is not None and not (session and _is_application_data(found)):
            half_open.receive_untrusted(datagram, found)
        elif session is not None:
            session.receive_untrusted(datagram, found)
        else:
            self.counters["dtls-no-session"] += 1

    @staticmethod
    def _is_new(random: bytes, *known: Association | None) -> bool:
        return all(one is None or one.session.client_random != random for one in known)

    def _hello(self, place: _Place, datagram: Datagram, random: bytes) -> None:
        source = datagram.source
        now = self._loop.time()
        verdict = self._gate.admit_untrusted(
            datagram.data,
            context=self._context,
            where=f"{source.host} {source.port} {datagram.ifindex}".encode(),
            now=now,
            mtu=self._limits.payload_mtu,
        )
        socket = self._sockets[place[0]]
        if isinstance(verdict, bytes):
            if verdict:
                link_local = datagram.ifindex if source.scope else 0
                socket.send(verdict, source, source=datagram.destination, ifindex=link_local)
            return
        if not self._rate.admits(source.host, now):
            self.counters["handshakes-rate-limited"] += 1
            return
        verdict.client_random = random
        association = Association(
            verdict,
            socket=socket,
            remote=source,
            counters=self.counters,
            judge=self._locality.judge,
            on_message=self._upper.message_received,
            on_change=lambda changed: self._changed(place, changed),
        )
        association.came_by(datagram)
        before = self._half_open.pop(place, None)
        if before is not None:
            before.close()
        self._half_open[place] = association
        while len(self._half_open) > self._limits.half_open:
            self.counters["half-open-evicted"] += 1
            self._half_open.popitem(last=False)[1].close()
        association.start()

    def _changed(self, place: _Place, association: Association) -> None:
        if association.established:
            self._half_open.pop(place, None)
            before = self._sessions.get(place)
            if before is not None:
                before.close()
            self._admit(place, association)
            return
        if self._half_open.get(place) is association:
            del self._half_open[place]
            if association.session.state is SessionState.FAILED:
                self.counters[_handshake_counter(association)] += 1
        if self._sessions.get(place) is association:
            del self._sessions[place]
            self._upper.session_ended(association)

    # -- room -----------------------------------------------------------------------------------

    def _admit(self, place: _Place, association: Association) -> None:
        if self._pairing and not association.session.extended_master_secret:
            self.counters["no-extended-master-secret"] += 1
            association.close()
            return
        self.counters["handshakes"] += 1
        if not self._make_room(association):
            self.counters["sessions-refused"] += 1
            association.close()
            return
        self._sessions[place] = association
        self._upper.session_established(association)

    def standing_of(self, association: Association) -> Standing:
        """What the key of a session is to us at this moment."""
        fingerprint = association.session.peer_fingerprint
        return Standing.UNPAIRED if fingerprint is None else self._standing(fingerprint)

    def _make_room(self, newcomer: Association) -> bool:
        """Evict, least recently active first, until the newcomer fits. False: it may not."""
        standing = self.standing_of(newcomer)
        by_age = sorted(self._sessions, key=lambda place: self._sessions[place].last_seen)
        ranks = {place: self.standing_of(self._sessions[place]) for place in by_age}
        key = newcomer.session.peer_fingerprint
        same_key = [p for p in by_age if self._sessions[p].session.peer_fingerprint == key]
        strangers = [place for place, rank in ranks.items() if rank is Standing.UNPAIRED]
        crowd = []
        if len(same_key) >= self._limits.sessions_per_key:
            crowd = same_key
        elif standing is Standing.UNPAIRED and len(strangers) >= self._limits.unpaired_sessions:
            crowd = strangers
        if crowd:
            self._evict(crowd[0])
            del ranks[crowd[0]]
        reserve = 0 if standing is Standing.OWNER else self._limits.owner_reserve
        if len(ranks) < self._limits.sessions - reserve:
            return True
        # The lowest standing goes first; nobody pushes out a higher one.
        lowest = min(ranks.values())
        if lowest > standing or (lowest is Standing.OWNER and reserve):
            return False
        self._evict(next(place for place, rank in ranks.items() if rank is lowest))
        return True

    def _evict(self, place: _Place) -> None:
        self.counters["sessions-evicted"] += 1
        self._sessions[place].close()

    def _sweep(self) -> None:
        """Drop what has been silent too long, then sleep for the shortest of those times."""
        now = self._loop.time()
        limits = self._limits
        for half_open in list(self._half_open.values()):
            if now - half_open.created >= limits.handshake_seconds:
                self.counters["handshakes-timed-out"] += 1
                half_open.close()
        for session in list(self._sessions.values()):
            stranger = self.standing_of(session) is Standing.UNPAIRED
            idle = limits.unpaired_idle_seconds if stranger else limits.session_idle_seconds
            if now - session.last_seen >= idle:
                self.counters["sessions-idle"] += 1
                session.close()
        pause = min(limits.unpaired_idle_seconds, limits.handshake_seconds) / 4
        self._sweep_timer = self._loop.call_later(pause, self._sweep)


def _is_application_data(found: list[records.Record]) -> bool:
    return found[0].content_type is records.ContentType.APPLICATION_DATA


def _handshake_counter(association: Association) -> str:
    failure = association.session.failure
    # OpenSSL's reason; alerts and keys that we refuse speak of certificates as well.
    reason = "peer did not return a certificate"
    no_certificate = isinstance(failure, HandshakeFailed) and reason in str(failure)
    return "handshakes-without-certificate" if no_certificate else "handshakes-failed"
