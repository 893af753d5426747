"""Admission of established sessions: which sessions are closed when a new one does not fit.

A session of a lower priority is closed first, and a session is never closed for one of a lower
priority. Among known keys of one priority, a session is closed only if it is not in use, if its
peer does not respond, or if its key has at least two sessions more than the newcomer's. Each of
these ends: otherwise more programs than sessions would evict each other indefinitely. A search
looks at a bounded number of sessions, so its cost does not depend on the size of the table. The
limits are `sessions`, `session_reserve`, `sessions_per_key` and `unpaired_sessions`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from itertools import islice

from peer.identity import Fingerprint
from peer.limits import EVICTION_CANDIDATES, Limits
from peer.net.association import Association, PeerAddress, UpperLayer
from peer.net.eviction import FairEviction, FairSlots
from peer.net.session_table import SessionTable


class SessionPriority(IntEnum):
    """The priority of a key's sessions when sessions have to be closed."""

    LOW = 0
    """An unknown key: `unpaired_sessions` apply, and an idle session is closed early."""
    NORMAL = 1
    """A known key."""
    HIGH = 2
    """A known key that may also use the `session_reserve`."""


class SessionAdmission:
    """Decides whether a new session fits, and which sessions it replaces.

    Args:
        limits: the numbers of sessions, in all and per key.
        eviction: chooses among the sessions of unknown keys.
        upper: tells whether a session is in use.
        priority: the priority of a key at the time of the call.
    """

    def __init__(
        self,
        limits: Limits,
        eviction: FairEviction,
        upper: UpperLayer,
        priority: Callable[[Fingerprint], SessionPriority],
    ) -> None:
        self._limits = limits
        self._eviction = eviction
        self._upper = upper
        self._priority = priority

    def priority_of(self, association: Association) -> SessionPriority:
        """Return the priority of a session's key now."""
        return self._priority_of(_key_of(association))

    def _priority_of(self, key: Fingerprint | None) -> SessionPriority:
        return SessionPriority.LOW if key is None else self._priority(key)

    def is_unknown(self, key: Fingerprint | None) -> bool:
        """Return whether a key is unknown now."""
        return self._priority_of(key) is SessionPriority.LOW

    def replaced_by(
        self, newcomer: Association, priority: SessionPriority, table: SessionTable, *, now: float
    ) -> list[PeerAddress] | None:
        """Return the sessions to close so that `newcomer` fits, or None if it does not fit."""
        limits = self._limits
        key = _key_of(newcomer)
        replaced: list[PeerAddress] = []
        if (
            priority is SessionPriority.LOW
            and len(unpaired := table.of_unknown_keys()) >= limits.unpaired_sessions
        ):
            # Before the limit per key: that one would let an unknown key renew its sessions.
            victim = self._unpaired_victim(newcomer, unpaired, table, now)
            if victim is None:
                return None
            replaced.append(victim)
        elif len(same_key := table.of_key(key)) >= limits.sessions_per_key:
            by_age = _by_age(same_key)
            victim = by_age[0]
            if priority is not SessionPriority.LOW:
                victim = self._unused_victim(by_age, same_key, now)
            if victim is None:
                return None
            replaced.append(victim)
        reserve = 0 if priority is SessionPriority.HIGH else limits.session_reserve
        if len(table) - len(replaced) < limits.sessions - reserve:
            return replaced
        victim = self._victim_of_all(newcomer, priority, table, replaced, now)
        return None if victim is None else [*replaced, victim]

    def _victim_of_all(
        self,
        newcomer: Association,
        priority: SessionPriority,
        table: SessionTable,
        replaced: Collection[PeerAddress],
        now: float,
    ) -> PeerAddress | None:
        """Return a session to close although it is within all other limits, or None.

        In a table of more than `EVICTION_CANDIDATES` sessions, it is one of the next ones.
        """
        known = [peer for peer in table.next_of_known_keys() if peer not in replaced]
        unpaired = table.of_unknown_keys()
        leaving = [peer for peer in replaced if peer in unpaired]
        if len(unpaired) > len(leaving):
            if priority is SessionPriority.LOW:
                return self._unpaired_victim(newcomer, unpaired, table, now, leaving)
            first = islice(unpaired, EVICTION_CANDIDATES + len(leaving))
            return _by_age({peer: table.all[peer] for peer in first if peer not in leaving})[0]
        priorities = {peer: self.priority_of(table.all[peer]) for peer in known}
        lowest = min(priorities.values(), default=SessionPriority.HIGH)
        candidates = {peer: table.all[peer] for peer in known if priorities[peer] is lowest}
        if not candidates or lowest > priority:
            return None
        by_age = _by_age(candidates)
        return by_age[0] if lowest < priority else self._equal_victim(newcomer, by_age, table, now)

    def _equal_victim(
        self,
        newcomer: Association,
        candidates: Sequence[PeerAddress],
        table: SessionTable,
        now: float,
    ) -> PeerAddress | None:
        """Return a session of the newcomer's priority to close, by age, or None.

        One of the key with the most sessions may go. Each such eviction makes the numbers of two
        keys more even, so that they end.
        """
        own = len(table.of_key(_key_of(newcomer)))
        held = {peer: len(table.of_key(_key_of(table.all[peer]))) for peer in candidates}
        most = max(held.values())
        unused = self._unused_victim(candidates, table.all, now)
        if unused is not None or most < own + 2:
            return unused
        return next(peer for peer in candidates if held[peer] == most)

    def _unused_victim(
        self,
        candidates: Sequence[PeerAddress],
        sessions: Mapping[PeerAddress, Association],
        now: float,
    ) -> PeerAddress | None:
        """Return the first session that is not in use or dead; None after a ping to the others."""
        for peer in candidates:
            if self._is_unused(sessions[peer], now):
                return peer
        self._probe([sessions[peer] for peer in candidates], now)
        return None

    def _is_unused(self, one: Association, now: float) -> bool:
        limits = self._limits
        if one.probed_at is not None and one.last_seen <= one.probed_at:
            return now - one.probed_at >= limits.session_probe_seconds
        is_idle = now - one.last_seen >= limits.session_unused_seconds
        return is_idle and not self._upper.is_in_use(one)

    def _probe(self, sessions: Sequence[Association], now: float) -> None:
        """Ping the sessions that were silent for a while, unless a ping is on its way."""
        for one in sessions:
            is_waiting = one.probed_at is not None and one.last_seen <= one.probed_at
            if not is_waiting and now - one.last_seen >= self._limits.session_probe_seconds:
                one.probed_at = now
                self._upper.probe(one)

    def _unpaired_victim(
        self,
        newcomer: Association,
        unpaired: FairSlots[PeerAddress],
        table: SessionTable,
        now: float,
        leaving: Collection[PeerAddress] = (),
    ) -> PeerAddress | None:
        """Return a session of an unknown key to close, but none that is closed anyway, or None."""
        least = self._limits.unpaired_kept_seconds
        for peer in leaving:
            unpaired.discard(peer)
        try:
            return self._eviction.victim(
                newcomer.remote.host,
                unpaired,
                evictable=lambda peer: now - table.all[peer].established_at >= least,
            )
        finally:
            for peer in leaving:
                unpaired.add(peer, peer.address.host)


def _key_of(association: Association) -> Fingerprint | None:
    return association.session.peer_fingerprint


def _by_age(sessions: Mapping[PeerAddress, Association]) -> list[PeerAddress]:
    """Return the peers of sessions, least recently active first."""
    return sorted(sessions, key=lambda peer: sessions[peer].last_seen)
