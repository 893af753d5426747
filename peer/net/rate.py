"""Rate limit of handshakes, per source and for all sources together.

There are token buckets at four levels: an address with its port, the address, its network (/24 of
IPv4, /64 of IPv6), and all sources. A bucket that is at least half full admits every handshake.
Below that it admits at random, in proportion to its level: every sender above the rate has the same
chance, and no sender can exclude another by its timing. The lowest chance of the levels counts, and
an admitted handshake takes a token from every level.

For an address from which a known key connected, only its own two levels count, so that a flood from
elsewhere does not affect it.
"""

from collections.abc import Callable, Hashable

from peer.bounded_dict import BoundedDict
from peer.limits import Limits
from peer.net.address import Address
from peer.net.eviction import network_of
from peer.token_bucket import TokenBucket

RandomBytes = Callable[[int], bytes]


class _Level:
    """The buckets of one level; the least recently used one is dropped first."""

    def __init__(self, limits: Limits, share: float) -> None:
        self._per_second = share * limits.handshakes_per_second
        self._burst = share * limits.handshake_burst
        self._buckets: BoundedDict[Hashable, TokenBucket] = BoundedDict(limits.rate_sources)

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: Hashable, now: float) -> TokenBucket:
        """Return the bucket of a source, and make it the most recently used one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(per_second=self._per_second, burst=self._burst, now=now)
        self._buckets[key] = bucket
        return bucket


class HandshakeRate:
    """Decides which handshakes may begin. `random_bytes` returns that many random bytes."""

    def __init__(self, limits: Limits, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._ports = _Level(limits, limits.handshake_port_share)
        self._hosts = _Level(limits, 1.0)
        self._networks = _Level(limits, limits.handshake_network_share)
        self._all = _Level(limits, limits.handshake_total_share)

    def __len__(self) -> int:
        """Return the number of sources that are remembered, at all levels."""
        return sum(map(len, (self._ports, self._hosts, self._networks, self._all)))

    def admits(self, source: Address, *, is_known: bool, now: float) -> bool:
        """Decide about one handshake, and count it if it may begin.

        The caller has verified the cookie of `source`. `now` is in monotonic seconds.
        """
        host = source.host
        buckets = [self._ports.bucket((host, source.port), now), self._hosts.bucket(host, now)]
        if not is_known:
            buckets += [self._networks.bucket(network_of(host), now), self._all.bucket("", now)]
        chance = min(bucket.level(now) / (bucket.burst / 2) for bucket in buckets)
        if chance < 1 and chance <= self._draw():
            return False
        for bucket in buckets:
            bucket.take(1)
        return True

    def _draw(self) -> float:
        """Return a random number in [0, 1)."""
        return int.from_bytes(self._random_bytes(4), "big") / 2**32
