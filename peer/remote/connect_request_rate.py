"""The rate of connect requests that a device answers, per client key and for all keys."""

import math
from dataclasses import dataclass
from enum import Enum, auto, unique

from peer.bounded_dict import BoundedDict
from peer.fingerprint import Fingerprint
from peer.remote.limits import RATED_KEYS, RemoteLimits
from peer.token_bucket import TokenBucket


@unique
class RateResult(Enum):
    """The decision of the rate about one connect request."""

    ADMIT = auto()
    REFUSE = auto()  # above the rate, for the first time
    IGNORE = auto()  # above the rate, and refused already


@dataclass(slots=True)
class _KeyRate:
    bucket: TokenBucket
    is_notified: bool = False


class ConnectRequestRate:
    """Token buckets for each key and for all keys.

    A key above its rate is refused once, and then ignored until it is below the rate again. So a
    broker that replays requests draws a bounded number of messages.
    """

    def __init__(self, limits: RemoteLimits) -> None:
        self._limits = limits
        self._keys: BoundedDict[Fingerprint, _KeyRate] = BoundedDict(RATED_KEYS)
        self._all: TokenBucket | None = None

    def __len__(self) -> int:
        """Return the number of keys that are remembered."""
        return len(self._keys)

    def admit(self, key: Fingerprint, now: float) -> RateResult:
        """Decide about one connect request, and count it if it is admitted."""
        rate, every = self._buckets(key, now)
        if min(rate.bucket.level(now), every.level(now)) >= 1:
            rate.bucket.take(1)
            every.take(1)
            rate.is_notified = False
            return RateResult.ADMIT
        if rate.is_notified:
            return RateResult.IGNORE
        rate.is_notified = True
        return RateResult.REFUSE

    def seconds_until(self, key: Fingerprint, now: float) -> int:
        """Return when the next request of a key is admitted: whole seconds, at least one."""
        rate, every = self._buckets(key, now)
        return max(1, math.ceil(max(one.seconds_until(1, now) for one in (rate.bucket, every))))

    def _buckets(self, key: Fingerprint, now: float) -> tuple[_KeyRate, TokenBucket]:
        limits = self._limits
        rate = self._keys.get(key)
        if rate is None:
            per_second, burst = limits.connect_requests_per_second, limits.connect_request_burst
            rate = _KeyRate(TokenBucket(per_second=per_second, burst=burst, now=now))
        self._keys[key] = rate  # the most recent one
        if self._all is None:
            self._all = TokenBucket(
                per_second=limits.all_connect_requests_per_second,
                burst=limits.all_connect_request_burst,
                now=now,
            )
        return rate, self._all
