"""The attempt budget: how often pairing may fail before it has to wait (protocol §4).

A start is debited before its first answer, and a success clears the count. From the tenth failure
since the last success on, each one brings a back-off of 30 s · 2^(k-10), at most a day.

Restarts: a board has no clock that survives them, so the record holds the *remaining* seconds at
the time of the write, and a restart begins them anew. Cutting the power never shortens a back-off;
it can only prolong it. A record whose remainder makes no sense gets its full back-off.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS, Limits
from peer.pairing.errors import LockedOut

_COUNT_MAX = 1_000_000  # more tells nothing; keeps the record small


@dataclass(frozen=True, slots=True)
class AttemptBudget:
    """Failures since the last success, and the monotonic time until which nothing may start.

    `is_kept`: whether it is the device's budget, which is stored; False for one that a single
    window has to itself and that ends with it.
    """

    failures: int = 0
    blocked_until: float = -math.inf
    limits: Limits = field(default=DEFAULT_LIMITS, repr=False)
    is_kept: bool = True

    def may_start(self, now: float) -> bool:
        """Whether a ceremony may start."""
        return now >= self.blocked_until

    def require(self, now: float) -> None:
        """Raise `LockedOut` if no ceremony may start."""
        if not self.may_start(now):
            wait = self.seconds_blocked(now)
            raise LockedOut(
                f"too many failed pairings; the next attempt is possible in {wait:.0f} s",
                advice="Wait, or press the device's button for 5 s. Paired clients are unaffected.",
                retry_after=wait,
            )

    def seconds_blocked(self, now: float) -> float:
        """How long nothing may start; 0 if it may."""
        return max(0.0, self.blocked_until - now)

    def debit(self, now: float) -> Self:
        """One more attempt. The caller persists the result before it answers."""
        failures = min(self.failures + 1, _COUNT_MAX)
        wait = _backoff(failures, self.limits)
        blocked_until = now + wait if wait else -math.inf
        return replace(self, failures=failures, blocked_until=blocked_until)

    def refund(self) -> Self:
        """After a success: no failures since. Also what a press of 5 s and the console do."""
        return replace(self, failures=0, blocked_until=-math.inf)

    def record(self, now: float) -> dict[str, int | float]:
        """The form to persist: a count and the remaining seconds."""
        return {"failures": self.failures, "remaining": self.seconds_blocked(now)}

    @classmethod
    def unknown(cls, now: float, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """The budget of a board whose record is damaged: the longest back-off, so that damage
        never lets anybody try again. A person at the console clears it."""
        most = limits.backoff_max_seconds
        counts = range(limits.backoff_after, limits.backoff_after + 64)
        failures = next((n for n in counts if _backoff(n, limits) >= most), counts.stop)
        return cls(failures, now + most, limits)

    @classmethod
    def restored(
        cls, record: Mapping[str, object] | None, now: float, *, limits: Limits = DEFAULT_LIMITS
    ) -> Self:
        """The budget of a record; None is a board that never paired.

        Raises `Malformed` if there is no count in it.
        """
        if record is None:
            return cls(limits=limits)
        failures, remaining = record.get("failures"), record.get("remaining")
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 0:
            raise Malformed(
                "the record of pairing attempts is damaged",
                advice="Clear it at the device's console.",
            )
        longest = _backoff(failures, limits)
        if isinstance(remaining, bool) or not isinstance(remaining, int | float):
            remaining = longest
        if not 0 <= remaining <= longest:  # also true for NaN
            remaining = longest
        return cls(min(failures, _COUNT_MAX), now + remaining if remaining else -math.inf, limits)


def _backoff(failures: int, limits: Limits) -> float:
    """The back-off in seconds that the k-th failure brings."""
    over = failures - limits.backoff_after
    if over < 0:
        return 0.0
    # 2^64 base back-offs are far above any maximum; larger powers only cost time.
    return min(limits.backoff_base_seconds * 2.0 ** min(over, 64), limits.backoff_max_seconds)
