"""A token bucket: a rate with a burst above it."""

from math import inf


class TokenBucket:
    """Holds up to `burst` tokens and gains `per_second`. It is full at first.

    Times are monotonic seconds.
    """

    __slots__ = ("_filled_at", "_level", "burst", "per_second")

    def __init__(self, *, per_second: float, burst: float, now: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self._level = float(burst)
        self._filled_at = now

    def level(self, now: float) -> float:
        """Return the number of tokens now; it is negative after more was taken than there was."""
        gained = (now - self._filled_at) * self.per_second
        self._level, self._filled_at = min(self._level + gained, float(self.burst)), now
        return self._level

    def seconds_until(self, count: float, now: float) -> float:
        """Return how long it takes until `count` tokens are there: 0 if they are, or infinity."""
        missing = count - self.level(now)
        if missing <= 0:
            return 0.0
        return missing / self.per_second if count <= self.burst else inf

    def take(self, count: float) -> None:
        """Remove `count` tokens, also if there are fewer."""
        self._level -= count
