"""Addresses from which known keys connected: they keep places and a rate of their own in a flood.

An address proves nothing. It only decides who is served first.
"""

from collections import OrderedDict
from collections.abc import Callable

from peer.identity import Fingerprint


class KnownHosts:
    """The latest addresses of known keys; `is_known` tells whether a key still is one.

    A key has at most `most_per_key` addresses, so that none can push out those of all others.
    """

    def __init__(
        self, is_known: Callable[[Fingerprint], bool], *, most: int, most_per_key: int
    ) -> None:
        self._is_known = is_known
        self._most = most
        self._most_per_key = most_per_key
        self._hosts: OrderedDict[str, Fingerprint] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host: object) -> bool:
        """Whether a key that is known now connected from there."""
        key = self._hosts.get(host) if isinstance(host, str) else None
        return key is not None and self._is_known(key)

    def note(self, host: str, key: Fingerprint) -> None:
        """A key has connected from an address. An unknown key leaves the table as it is."""
        if not self._is_known(key):
            return
        self._hosts[host] = key
        self._hosts.move_to_end(host)
        same_key = [one for one, owner in self._hosts.items() if owner == key]
        if len(same_key) > self._most_per_key:
            del self._hosts[same_key[0]]
        elif len(self._hosts) > self._most:
            self._hosts.popitem(last=False)
