"""The established sessions of an endpoint, and how many of them each key has.

The numbers are kept up to date, so that a handshake costs the same whatever the number of sessions.
"""

from collections.abc import Callable, Collection

from peer.identity import Fingerprint
from peer.net.association import Association, PeerAddress

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
        self._unknown: set[_Key] = set()  # keys of sessions that were unknown when last looked at

    def __len__(self) -> int:
        """Return the number of sessions without the refused ones."""
        return len(self.all) - len(self.refused)

    def admitted(self) -> _Sessions:
        """Return the sessions without the refused ones."""
        return {peer: one for peer, one in self.all.items() if not one.is_refused}

    def of_key(self, key: _Key) -> _Sessions:
        """Return the sessions of one key."""
        return self._of_key.get(key, {})

    def of_unknown_keys(self) -> _Sessions:
        """Return the sessions of all unknown keys."""
        self._look_at(self._unknown)
        return {peer: one for key in self._unknown for peer, one in self._of_key[key].items()}

    def add(self, peer: PeerAddress, association: Association, *, is_unknown: bool) -> None:
        """Store a session, of a key that is unknown now or not. There is none of this peer."""
        self.all[peer] = association
        if association.is_refused:
            self.refused[peer] = association
            return
        key = association.session.peer_fingerprint
        self._of_key.setdefault(key, {})[peer] = association
        if is_unknown:
            self._unknown.add(key)
        else:
            self._unknown.discard(key)

    def remove(self, peer: PeerAddress) -> None:
        """Forget the session of a peer."""
        association = self.all.pop(peer)
        if self.refused.pop(peer, None) is not None:
            return
        key = association.session.peer_fingerprint
        sessions = self._of_key[key]
        del sessions[peer]
        if not sessions:
            del self._of_key[key]
            self._unknown.discard(key)

    def reassess(self) -> None:
        """Look at each key again."""
        self._look_at(self._of_key)

    def _look_at(self, keys: Collection[_Key]) -> None:
        for key in tuple(keys):
            if self._is_unknown(key):
                self._unknown.add(key)
            else:
                self._unknown.discard(key)
