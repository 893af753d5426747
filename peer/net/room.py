"""Room for established sessions: which of them end when a new one does not fit."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction


class Standing(IntEnum):
    """What a key is to us, as far as room is concerned: who makes way for whom."""

    UNPAIRED = 0
    PAIRED = 1
    OWNER = 2


class Room:
    """Decides by standing: a session is never ended for one of a lower standing."""

    def __init__(
        self, limits: Limits, eviction: FairEviction, standing: Callable[[Fingerprint], Standing]
    ) -> None:
        self._limits = limits
        self._eviction = eviction
        self._standing = standing

    def standing_of(self, association: Association) -> Standing:
        """What the key of a session is to us at this moment."""
        fingerprint = association.session.peer_fingerprint
        return Standing.UNPAIRED if fingerprint is None else self._standing(fingerprint)

    def make(
        self, newcomer: Association, sessions: Mapping[PeerAddress, Association], *, now: float
    ) -> list[PeerAddress] | None:
        """The sessions to end so that `newcomer` fits, mostly none. None: it does not fit."""
        limits = self._limits
        standing = self.standing_of(newcomer)
        key = newcomer.session.peer_fingerprint
        by_age = sorted(sessions, key=lambda peer: sessions[peer].last_seen)
        standings = {peer: self.standing_of(sessions[peer]) for peer in by_age}
        same_key = [peer for peer in by_age if sessions[peer].session.peer_fingerprint == key]
        unpaired = [peer for peer, its in standings.items() if its is Standing.UNPAIRED]
        ended: list[PeerAddress] = []
        if standing is Standing.UNPAIRED and len(unpaired) >= limits.unpaired_sessions:
            # Before the rule for one key: with it, an unknown key would keep its sessions young.
            victim = self._unpaired_victim(newcomer, unpaired, sessions, now)
            if victim is None:
                return None
            ended.append(victim)
        elif len(same_key) >= limits.sessions_per_key:
            ended.append(same_key[0])
        for peer in ended:
            del standings[peer]
        reserve = 0 if standing is Standing.OWNER else limits.owner_reserve
        if len(standings) < limits.sessions - reserve:
            return ended
        # The lowest standing goes first; nobody pushes out a higher one.
        lowest = min(standings.values())
        if lowest > standing or (lowest is Standing.OWNER and reserve):
            return None
        candidates = [peer for peer, its in standings.items() if its is lowest]
        if standing is Standing.UNPAIRED:
            victim = self._unpaired_victim(newcomer, candidates, sessions, now)
            return None if victim is None else [*ended, victim]
        return [*ended, candidates[0]]

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
