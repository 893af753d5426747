"""Addresses from which known keys connected: they have a rate limit and a reserve of their own.

An address authenticates nothing. It only decides who is served first when there is a flood.
"""

from collections import Counter
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
        counts: Counter[Fingerprint] = Counter()
        self._counts = counts
        self._hosts: BoundedDict[str, Fingerprint] = BoundedDict(
            most, on_evict=lambda _host, key: _decrement(counts, key)
        )

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host: object) -> bool:
        """Return whether a key that is known now connected from there."""
        key = self._hosts.get(host) if isinstance(host, str) else None
        return key is not None and self._is_known(key)

    def note(self, host: str, key: Fingerprint) -> None:
        """Remember that a key, which is known, connected from an address."""
        if host in self._hosts:
            self._remove(host)
        if self._counts[key] >= self._most_per_key:
            self._remove(next(one for one, owner in self._hosts.items() if owner == key))
        self._hosts[host] = key
        self._counts[key] += 1

    def _remove(self, host: str) -> None:
        _decrement(self._counts, self._hosts.pop(host))


def _decrement(counts: Counter[Fingerprint], key: Fingerprint) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
