"""Fair eviction: the choice of the holder that loses its slot to a newcomer in a full table.

Slots are shared out by network (/24 of IPv4, /64 of IPv6: the size of one subscriber or link), and
within a network by address, so that many ports or addresses get no larger share. A newcomer takes
a slot from a network that has at least two more than its own. Otherwise it takes one from its
own network, or from a network that has one more, and only from a holder that has had its slot for
some time: a flood cannot interrupt a handshake or a short request. Among the remaining holders the
choice is random, so that no sender can influence it.

The numbers of holders are kept up to date, and no choice looks at more than `EVICTION_CANDIDATES`
of them: a newcomer to a full table costs the same, however large the table is.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from peer.limits import EVICTION_CANDIDATES

K = TypeVar("K")
T = TypeVar("T")


def network_of(host: str) -> str:
    """Return the network of a canonical IP address: its /64 for IPv6, its /24 for IPv4."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host)[:8].hex()
    return host.rpartition(".")[0]


class _Sizes:
    """The number of holders in each group, and the groups of each number, kept up to date."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._groups: dict[int, OrderedDict[str, None]] = {}
        self.largest = 0

    def __getitem__(self, group: str) -> int:
        return self._sizes.get(group, 0)

    def groups(self, size: int) -> Iterable[str]:
        """Return the groups of a size. The first has had it for the longest time."""
        return self._groups.get(size, ())

    def change(self, group: str, by: int) -> None:
        """Add one holder to a group, or remove one."""
        before = self[group]
        after = before + by
        if before:
            same = self._groups[before]
            del same[group]
            if not same:
                del self._groups[before]
        if after:
            self._sizes[group] = after
            self._groups.setdefault(after, OrderedDict())[group] = None
        else:
            del self._sizes[group]
        if after > self.largest or self.largest not in self._groups:
            self.largest = after


class _Network(Generic[K]):
    """The holders in one network, by address. The first of an address came first."""

    def __init__(self) -> None:
        self.sizes = _Sizes()
        self._holders: OrderedDict[str, OrderedDict[K, None]] = OrderedDict()

    def of(self, address: str) -> Iterable[K]:
        """Return the holders at an address."""
        return self._holders.get(address, ())

    def __iter__(self) -> Iterator[K]:
        for holders in self._holders.values():
            yield from holders

    def add(self, address: str, holder: K) -> None:
        self._holders.setdefault(address, OrderedDict())[holder] = None
        self.sizes.change(address, 1)

    def remove(self, address: str, holder: K) -> None:
        del self._holders[address][holder]
        if not self._holders[address]:
            del self._holders[address]
        self.sizes.change(address, -1)


class FairSlots(Generic[K]):
    """The holders of slots. Adding, removing and choosing one cost the same for any number."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[K, str] = OrderedDict()
        self.sizes = _Sizes()
        self._networks: dict[str, _Network[K]] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, holder: object) -> bool:
        return holder in self._hosts

    def __iter__(self) -> Iterator[K]:
        """Iterate over the holders. The first came first."""
        return iter(self._hosts)

    def network(self, name: str) -> _Network[K]:
        """Return the holders in a network that has some."""
        return self._networks[name]

    def add(self, holder: K, host: str) -> None:
        """Note that a holder at a host has a slot. It has none yet."""
        self._hosts[holder] = host
        name = network_of(host)
        if name not in self._networks:
            self._networks[name] = _Network()
        self._networks[name].add(host, holder)
        self.sizes.change(name, 1)

    def discard(self, holder: K) -> None:
        """Note that a holder has no slot any more, if it had one."""
        host = self._hosts.pop(holder, None)
        if host is None:
            return
        name = network_of(host)
        self._networks[name].remove(host, holder)
        self.sizes.change(name, -1)
        if not self.sizes[name]:
            del self._networks[name]


class FairEviction:
    """Chooses by the rules above. `random_bytes` returns that many random bytes."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes

    def victim(
        self, newcomer: str, slots: FairSlots[K], *, evictable: Callable[[K], bool]
    ) -> K | None:
        """Return the holder that loses its slot to the host `newcomer`, or None to refuse it.

        `evictable` is true for a holder that has had its slot for long enough.
        """
        name = network_of(newcomer)
        own = slots.sizes[name]
        if slots.sizes.largest >= own + 2:
            network = slots.network(self._one_of(slots.sizes.groups(slots.sizes.largest)))
            return self._in_the_largest(network)
        if own:
            network = slots.network(name)
            at_own = network.sizes[newcomer]
            if network.sizes.largest >= at_own + 2:
                return self._in_the_largest(network)
            addresses = (newcomer, *network.sizes.groups(at_own + 1))
            found = self._evictable((network.of(one) for one in addresses), evictable)
            if found is not None:
                return found
        larger = slots.sizes.groups(own + 1)
        return self._evictable((slots.network(one) for one in larger), evictable)

    def _in_the_largest(self, network: _Network[K]) -> K:
        """Return a holder at an address that has the most in a network."""
        address = self._one_of(network.sizes.groups(network.sizes.largest))
        return self._one_of(network.of(address))

    def _evictable(self, groups: Iterable[Iterable[K]], evictable: Callable[[K], bool]) -> K | None:
        """Return one of the evictable holders, or None.

        Those that came first are looked at, since a holder becomes evictable with time.
        """
        holders = islice((one for group in groups for one in group), EVICTION_CANDIDATES)
        candidates = list(filter(evictable, holders))
        return self._one_of(candidates) if candidates else None

    def _one_of(self, things: Iterable[T]) -> T:
        some = list(islice(things, EVICTION_CANDIDATES))
        return some[int.from_bytes(self._random_bytes(4), "big") % len(some)]
