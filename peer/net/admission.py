"""Admission of established sessions: which sessions are closed when a new one does not fit.

A session of a lower priority is closed first, and a session is never closed for one of a lower
priority. The limits are `sessions`, `session_reserve`, `sessions_per_key` and `unpaired_sessions`.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction


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
        priority: the priority of a key at the time of the call.
    """

    def __init__(
        self,
        limits: Limits,
        eviction: FairEviction,
        priority: Callable[[Fingerprint], SessionPriority],
    ) -> None:
        self._limits = limits
        self._eviction = eviction
        self._priority = priority

    def priority_of(self, association: Association) -> SessionPriority:
        """Return the priority of a session's key now."""
        fingerprint = association.session.peer_fingerprint
        return SessionPriority.LOW if fingerprint is None else self._priority(fingerprint)

    def replaced_by(
        self, newcomer: Association, sessions: Mapping[PeerAddress, Association], *, now: float
    ) -> list[PeerAddress] | None:
        """Return the sessions to close so that `newcomer` fits, or None if it does not fit."""
        limits = self._limits
        priority = self.priority_of(newcomer)
        key = newcomer.session.peer_fingerprint
        by_age = sorted(sessions, key=lambda peer: sessions[peer].last_seen)
        priorities = {peer: self.priority_of(sessions[peer]) for peer in by_age}
        same_key = [peer for peer in by_age if sessions[peer].session.peer_fingerprint == key]
        unpaired = [peer for peer, its in priorities.items() if its is SessionPriority.LOW]
        replaced: list[PeerAddress] = []
        if priority is SessionPriority.LOW and len(unpaired) >= limits.unpaired_sessions:
            # Before the limit per key: that one would let an unknown key renew its sessions.
            victim = self._unpaired_victim(newcomer, unpaired, sessions, now)
            if victim is None:
                return None
            replaced.append(victim)
        elif len(same_key) >= limits.sessions_per_key:
            replaced.append(same_key[0])
        for peer in replaced:
            del priorities[peer]
        reserve = 0 if priority is SessionPriority.HIGH else limits.session_reserve
        if len(priorities) < limits.sessions - reserve:
            return replaced
        lowest = min(priorities.values())
        if lowest > priority or (lowest is SessionPriority.HIGH and reserve):
            return None
        candidates = [peer for peer, its in priorities.items() if its is lowest]
        if priority is SessionPriority.LOW:
            victim = self._unpaired_victim(newcomer, candidates, sessions, now)
            return None if victim is None else [*replaced, victim]
        return [*replaced, candidates[0]]

    def _unpaired_victim(
        self,
        newcomer: Association,
        unpaired: Sequence[PeerAddress],
        sessions: Mapping[PeerAddress, Association],
        now: float,
    ) -> PeerAddress | None:
        least = self._limits.unpaired_kept_seconds
        return self._eviction.victim(
            newcomer.remote.host,
            {peer: peer.address.host for peer in unpaired},
            evictable=lambda peer: now - sessions[peer].established_at >= least,
        )
