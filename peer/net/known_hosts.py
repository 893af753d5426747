"""Addresses from which known keys connected: they have a rate limit and a reserve of their own.

An address authenticates nothing. It only decides who is served first when there is a flood.
"""

from collections.abc import Callable

from peer.bounded_dict import BoundedDict
from peer.identity import Fingerprint


class KnownHosts:
    """Remembers the latest addresses of known keys.

    Args:
        is_known: whether a key is known now.
        most: the number of addresses in all.
        most_per_key: the number of addresses of one key, so that no key displaces all others.
    """

    def __init__(
        self, is_known: Callable[[Fingerprint], bool], *, most: int, most_per_key: int
    ) -> None:
        self._is_known = is_known
        self._most_per_key = most_per_key
        self._hosts: BoundedDict[str, Fingerprint] = BoundedDict(most)

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host: object) -> bool:
        """Return whether a key that is known now connected from there."""
        key = self._hosts.get(host) if isinstance(host, str) else None
        return key is not None and self._is_known(key)

    def note(self, host: str, key: Fingerprint) -> None:
        """Remember that a key connected from an address, if the key is known."""
        if not self._is_known(key):
            return
        same_key = [one for one, owner in self._hosts.items() if owner == key and one != host]
        if len(same_key) >= self._most_per_key:
            del self._hosts[same_key[0]]
        self._hosts[host] = key
