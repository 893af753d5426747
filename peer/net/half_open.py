"""The table of half-open handshakes, with a bounded number of slots.

Some slots are reserved for addresses from which a known key connected. Each of the two parts is
shared out fairly (see `peer.net.eviction`).
"""

from collections.abc import Iterator

from peer.limits import Limits
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction, FairSlots


class _Part:
    """A part of the table: the slots that peers hold, and their number."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.slots: FairSlots[PeerAddress] = FairSlots()


_Slot = tuple[_Part, PeerAddress | None]
"""A part of the table that has a slot, and the peer that holds the slot now, or None."""


class HalfOpen:
    """At most `Limits.half_open` unfinished handshakes, one per peer address."""

    def __init__(self, limits: Limits, eviction: FairEviction) -> None:
        self._limits = limits
        self._eviction = eviction
        self._unknown = _Part(limits.half_open - limits.half_open_reserve)
        self._known = _Part(limits.half_open_reserve)
        self._handshakes: dict[PeerAddress, Association] = {}

    def __len__(self) -> int:
        return len(self._handshakes)

    def __iter__(self) -> Iterator[Association]:
        """Iterate over a copy of the handshakes, in no order."""
        return iter((*self._handshakes.values(),))

    def get(self, peer: PeerAddress) -> Association | None:
        """Return the handshake with a peer, or None."""
        return self._handshakes.get(peer)

    def has_room(self, peer: PeerAddress, *, is_known: bool, now: float) -> bool:
        """Return whether a handshake with a peer may begin now."""
        return self._slot(peer, is_known, now) is not None

    def add(self, peer: PeerAddress, one: Association, *, is_known: bool, now: float) -> bool:
        """Store a handshake for which there is a slot; return whether it replaces another peer's.

        An earlier handshake with the same peer is ended, and the new one inherits its age, so that
        no peer protects its slot by starting again and again.
        """
        part, victim = self._slot(peer, is_known, now) or (self._unknown, None)
        before = None if victim is None else self.pop(victim)
        self._handshakes[peer] = one
        part.slots.add(peer, peer.address.host)
        if before is None:
            return False
        if victim == peer:
            one.created = before.created
        before.close()
        return victim != peer

    def pop(self, peer: PeerAddress) -> Association | None:
        """Remove the handshake with a peer without ending it."""
        one = self._handshakes.pop(peer, None)
        if one is not None:
            self._unknown.slots.discard(peer)
            self._known.slots.discard(peer)
        return one

    def _slot(self, peer: PeerAddress, is_known: bool, now: float) -> _Slot | None:
        """Return the slot for a peer: its own, else a free one, else one that it may take."""
        if peer in self._handshakes:
            return (self._known if peer in self._known.slots else self._unknown), peer
        parts = (self._known, self._unknown) if is_known else (self._unknown,)
        for part in parts:
            if len(part.slots) < part.bound:
                return part, None
        for part in parts:
            victim = self._victim(peer, part, now)
            if victim is not None:
                return part, victim
        return None

    def _victim(self, peer: PeerAddress, part: _Part, now: float) -> PeerAddress | None:
        least = self._limits.half_open_kept_seconds
        return self._eviction.victim(
            peer.address.host,
            part.slots,
            evictable=lambda one: now - self._handshakes[one].created >= least,
        )
