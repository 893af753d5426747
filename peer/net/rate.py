"""How many handshakes may begin, per source and in all.

There are token buckets at four levels: a source address and port, the address, its network (/24 of
IPv4, /64 of IPv6), and all sources. A bucket that is at least half full admits every handshake.
Below that it admits at random, in proportion to its level, which so settles where the rate is kept:
all senders above the rate have the same chance, and none can shut out another by its timing. The
lowest chance of the levels counts, and what is admitted is taken from every level.

For an address where a known key was seen, only its own two levels count: a flood from elsewhere
does not affect it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from peer.limits import Limits
from peer.net.eviction import network_of
from peer.net.udp import Address

RandomBytes = Callable[[int], bytes]


@dataclass(slots=True)
class _Bucket:
    level: float
    filled: float  # when, in monotonic seconds


class _Buckets:
    """The buckets of one level, the least recently used forgotten first."""

    def __init__(self, *, per_second: float, burst: float, most: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: Hashable, now: float) -> _Bucket:
        """The bucket of a source, filled up to now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.level += (now - bucket.filled) * self._per_second
        bucket.level, bucket.filled = min(bucket.level, self._burst), now
        return bucket

    def chance(self, bucket: _Bucket) -> float:
        """How likely the bucket lets one through: 1 while it is at least half full."""
        return min(1.0, bucket.level / (self._burst / 2))


class HandshakeRate:
    """Decides which handshakes may begin. `random_bytes` yields that many random bytes."""

    def __init__(self, limits: Limits, random_bytes: RandomBytes) -> None:
        def level(share: float) -> _Buckets:
            return _Buckets(
                per_second=share * limits.handshakes_per_second,
                burst=share * limits.handshake_burst,
                most=limits.rate_sources,
            )

        self._random_bytes = random_bytes
        self._ports = level(limits.handshake_port_share)
        self._hosts = level(1.0)
        self._networks = level(limits.handshake_network_share)
        self._all = level(limits.handshake_total_share)

    def __len__(self) -> int:
        """How many sources are remembered, at all levels."""
        return sum(map(len, (self._ports, self._hosts, self._networks, self._all)))

    def admits(self, source: Address, *, is_known: bool, now: float) -> bool:
        """Let one handshake through, or not. Only sources that showed a good cookie get here."""
        host = source.host
        levels: list[tuple[_Buckets, Hashable]] = [
            (self._ports, (host, source.port)),
            (self._hosts, host),
        ]
        if not is_known:
            levels += [(self._networks, network_of(host)), (self._all, "")]
        found = [(buckets, buckets.bucket(key, now)) for buckets, key in levels]
        chance = min(buckets.chance(bucket) for buckets, bucket in found)
        if chance < 1 and chance <= self._draw():
            return False
        for _, bucket in found:
            bucket.level -= 1  # may leave it in debt, for which it then lets nothing through
        return True

    def _draw(self) -> float:
        """A number from 0 up to and without 1."""
        return int.from_bytes(self._random_bytes(4), "big") / 2**32
