"""Addresses from which known keys connected: they have a rate limit and a reserve of their own.

An address authenticates nothing. It only decides who is served first when there is a flood.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

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
        self._of_key: dict[Fingerprint, OrderedDict[str, None]] = {}  # the oldest address first
        self._hosts: BoundedDict[str, Fingerprint] = BoundedDict(
            most, on_evict=partial(_forget, self._of_key)
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
        same = self._of_key.get(key, ())
        if len(same) >= self._most_per_key:
            self._remove(next(iter(same)))
        self._of_key.setdefault(key, OrderedDict())[host] = None
        self._hosts[host] = key

    def _remove(self, host: str) -> None:
        _forget(self._of_key, host, self._hosts.pop(host))


def _forget(of_key: dict[Fingerprint, OrderedDict[str, None]], host: str, key: Fingerprint) -> None:
    hosts = of_key[key]
    del hosts[host]
    if not hosts:
        del of_key[key]
