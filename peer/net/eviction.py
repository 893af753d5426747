"""Fair eviction: the choice of the holder that loses its slot to a newcomer in a full table.

Slots are shared out by network (/24 of IPv4, /64 of IPv6: the size of one subscriber or link), and
within a network by address, so that many ports or addresses get no larger share. A newcomer takes
a slot from a network that has at least two more than its own. Otherwise it takes one from its
own network, or from a network that has one more, and only from a holder that has had its slot for
some time: a flood cannot interrupt a handshake or a short request. Among the remaining holders the
choice is random, so that no sender can influence it.
"""

import socket
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")
_Level = Callable[[str], str]


def network_of(host: str) -> str:
    """Return the network of a canonical IP address: its /64 for IPv6, its /24 for IPv4."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host)[:8].hex()
    return host.rpartition(".")[0]


def _address_of(host: str) -> str:
    return host


_LEVELS: tuple[_Level, ...] = (network_of, _address_of)


class FairEviction:
    """Chooses by the rules above. `random_bytes` returns that many random bytes."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes

    def victim(
        self, newcomer: str, holders: Mapping[K, str], *, evictable: Callable[[K], bool]
    ) -> K | None:
        """Return the holder that loses its slot to the host `newcomer`, or None to refuse it.

        `holders` maps each holder to its host. `evictable` is true for a holder that has had its
        slot for long enough.
        """
        return self._victim(newcomer, holders, _LEVELS, evictable)

    def _victim(
        self,
        newcomer: str,
        holders: Mapping[K, str],
        levels: Sequence[_Level],
        evictable: Callable[[K], bool],
    ) -> K | None:
        level, *finer = levels
        groups = _grouped(holders, level)
        own = groups.pop(level(newcomer), {})
        if max(map(len, groups.values()), default=0) >= len(own) + 2:
            return self._in_the_largest(holders, levels)
        if own and finer:
            found = self._victim(newcomer, own, finer, evictable)
            if found is not None:
                return found
        larger = [group for group in groups.values() if len(group) > len(own)]
        fair = larger if finer else [own, *larger]
        candidates = [key for group in fair for key in group if evictable(key)]
        return self._one_of(candidates) if candidates else None

    def _in_the_largest(self, holders: Mapping[K, str], levels: Sequence[_Level]) -> K:
        for level in levels:
            groups = _grouped(holders, level).values()
            most = max(map(len, groups))
            holders = self._one_of([group for group in groups if len(group) == most])
        return self._one_of(list(holders))

    def _one_of(self, things: Sequence[T]) -> T:
        return things[int.from_bytes(self._random_bytes(4), "big") % len(things)]


def _grouped(holders: Mapping[K, str], level: _Level) -> dict[str, dict[K, str]]:
    groups: defaultdict[str, dict[K, str]] = defaultdict(dict)
    for key, host in holders.items():
        groups[level(host)][key] = host
    return dict(groups)
