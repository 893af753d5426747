"""The established sessions of an endpoint, and how many of them each key has.

The numbers are kept up to date, so that a handshake costs the same whatever the number of sessions.
This holds in a full table as well: the search for a session to close looks at a bounded number of
them, which take turns.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from peer.identity import Fingerprint
from peer.limits import EVICTION_CANDIDATES
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairSlots

K = TypeVar("K")
V = TypeVar("V")
_Key = Fingerprint | None
_Sessions = dict[PeerAddress, Association]


class SessionTable:
    """At most one session per peer address.

    `all` maps each peer address to its session; only `add` and `remove` change it. The other
    methods leave out `refused` sessions, which exist only to say that there are too many.

    Args:
        is_unknown: whether a key is unknown now. A key that becomes unknown counts as such from the
            next `reassess` on: the device ends the sessions of a key that loses its access.
    """

    def __init__(self, is_unknown: Callable[[_Key], bool]) -> None:
        self._is_unknown = is_unknown
        self.all: _Sessions = {}
        self.refused: _Sessions = {}
        self._of_key: dict[_Key, _Sessions] = {}
        # Keys with sessions that were unknown when last looked at, and their sessions.
        self._unknown: OrderedDict[_Key, None] = OrderedDict()
        self._of_unknown: FairSlots[PeerAddress] = FairSlots()
        self._of_known: OrderedDict[PeerAddress, Association] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of sessions without the refused ones."""
        return len(self.all) - len(self.refused)

    def admitted(self) -> _Sessions:
        """Return the sessions without the refused ones."""
        return {peer: one for peer, one in self.all.items() if not one.is_refused}

    def of_key(self, key: _Key) -> _Sessions:
        """Return the sessions of one key."""
        return self._of_key.get(key, {})

    def of_unknown_keys(self) -> FairSlots[PeerAddress]:
        """Return the slots of the sessions of unknown keys.

        A bounded number of these keys are looked at again, in turn, since they may be known by now.
        """
        self._look_at(_next_of(self._unknown, EVICTION_CANDIDATES))
        return self._of_unknown

    def next_of_known_keys(self) -> list[PeerAddress]:
        """Return a bounded number of the sessions of known keys. They take turns.

        Their keys are looked at again, since they may be unknown by now.
        """
        peers = _next_of(self._of_known, EVICTION_CANDIDATES)
        self._look_at({self.all[peer].session.peer_fingerprint for peer in peers})
        return [peer for peer in peers if peer in self._of_known]

    def add(self, peer: PeerAddress, association: Association, *, is_unknown: bool) -> None:
        """Store a session, of a key that is unknown now or not. There is none of this peer."""
        self.all[peer] = association
        if association.is_refused:
            self.refused[peer] = association
            return
        key = association.session.peer_fingerprint
        same_key = self._of_key.setdefault(key, {})
        self._sort(key, is_unknown=is_unknown)
        same_key[peer] = association
        self._put(peer, association, is_unknown=is_unknown)

    def remove(self, peer: PeerAddress) -> None:
        """Forget the session of a peer."""
        association = self.all.pop(peer)
        if self.refused.pop(peer, None) is not None:
            return
        key = association.session.peer_fingerprint
        sessions = self._of_key[key]
        del sessions[peer]
        self._take(peer)
        if not sessions:
            del self._of_key[key]
            self._unknown.pop(key, None)

    def reassess(self) -> None:
        """Look at each key again."""
        self._look_at(tuple(self._of_key))

    def _look_at(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            self._sort(key, is_unknown=self._is_unknown(key))

    def _sort(self, key: _Key, *, is_unknown: bool) -> None:
        """Note whether a key is unknown; its sessions follow it."""
        if is_unknown is (key in self._unknown):
            return
        if is_unknown:
            self._unknown[key] = None
        else:
            del self._unknown[key]
        for peer, one in self._of_key[key].items():
            self._take(peer)
            self._put(peer, one, is_unknown=is_unknown)

    def _put(self, peer: PeerAddress, association: Association, *, is_unknown: bool) -> None:
        if is_unknown:
            self._of_unknown.add(peer, peer.address.host)
        else:
            self._of_known[peer] = association

    def _take(self, peer: PeerAddress) -> None:
        if self._of_known.pop(peer, None) is None:
            self._of_unknown.discard(peer)


def _next_of(things: "OrderedDict[K, V]", most: int) -> list[K]:
    """Return the first keys, and put them to the end."""
    found = list(islice(things, most))
    for key in found:
        things.move_to_end(key)
    return found
