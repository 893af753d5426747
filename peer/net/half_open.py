"""The table of half-open handshakes, with a bounded number of slots.

Some slots are reserved for addresses from which a known key connected. Each of the two parts is
shared out fairly (see `peer.net.eviction`).
"""

from collections.abc import Iterator

from peer.limits import Limits
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction

_Slot = tuple[dict[PeerAddress, Association], PeerAddress | None]
"""A part of the table that has a slot, and the peer that holds the slot now, or None."""


class HalfOpen:
    """At most `Limits.half_open` unfinished handshakes, one per peer address."""

    def __init__(self, limits: Limits, eviction: FairEviction) -> None:
        self._limits = limits
        self._eviction = eviction
        self._unknown: dict[PeerAddress, Association] = {}
        self._known: dict[PeerAddress, Association] = {}

    def __len__(self) -> int:
        return len(self._unknown) + len(self._known)

    def __iter__(self) -> Iterator[Association]:
        """Iterate over a copy of the handshakes, in no order."""
        return iter((*self._unknown.values(), *self._known.values()))

    def get(self, peer: PeerAddress) -> Association | None:
        """Return the handshake with a peer, or None."""
        return self._unknown.get(peer) or self._known.get(peer)

    def has_room(self, peer: PeerAddress, *, is_known: bool, now: float) -> bool:
        """Return whether a handshake with a peer may begin now."""
        return self._slot(peer, is_known, now) is not None

    def add(self, peer: PeerAddress, one: Association, *, is_known: bool, now: float) -> bool:
        """Store a handshake for which there is a slot; return whether it replaces another peer's.

        An earlier handshake with the same peer is ended, and the new one inherits its age, so that
        no peer protects its slot by starting again and again.
        """
        part, victim = self._slot(peer, is_known, now) or (self._unknown, None)
        before = None if victim is None else part.pop(victim)
        part[peer] = one
        if before is None:
            return False
        if victim == peer:
            one.created = before.created
        before.close()
        return victim != peer

    def pop(self, peer: PeerAddress) -> Association | None:
        """Remove the handshake with a peer without ending it."""
        return self._unknown.pop(peer, None) or self._known.pop(peer, None)

    def _slot(self, peer: PeerAddress, is_known: bool, now: float) -> _Slot | None:
        """Return the slot for a peer: its own, else a free one, else one that it may take."""
        for part in (self._unknown, self._known):
            if peer in part:
                return part, peer
        reserve = self._limits.half_open_reserve
        parts = [(self._unknown, self._limits.half_open - reserve)]
        if is_known:
            parts.insert(0, (self._known, reserve))
        for part, bound in parts:
            if len(part) < bound:
                return part, None
        for part, _ in parts:
            victim = self._victim(peer, part, now)
            if victim is not None:
                return part, victim
        return None

    def _victim(
        self, peer: PeerAddress, part: dict[PeerAddress, Association], now: float
    ) -> PeerAddress | None:
        least = self._limits.half_open_kept_seconds
        return self._eviction.victim(
            peer.address.host,
            {one: one.address.host for one in part},
            evictable=lambda one: now - part[one].created >= least,
        )
