"""The attempt budget: how often pairing may fail before it is blocked for a time (protocol §4).

A start is debited before its first answer, and a success clears the count. From the tenth failure
since the last success on, each failure brings a back-off of 30 s · 2^(k-10), at most a day.

A board may have no clock that survives a restart. So the record holds the *remaining* seconds at
the time of the write, and after a restart they begin again. A power cut never shortens a back-off;
it can only prolong it. A record with impossible remaining seconds gets its full back-off.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS, MAX_COUNTED_FAILURES, Limits
from peer.pairing.errors import LockedOut


@dataclass(frozen=True, slots=True)
class AttemptBudget:
    """Failures since the last success, and the monotonic time before which nothing may start.

    `is_kept` is true for the device's budget, which is stored, and false for the budget of a single
    window, which ends with it.
    """

    failures: int = 0
    blocked_until: float = -math.inf
    limits: Limits = field(default=DEFAULT_LIMITS, repr=False)
    is_kept: bool = True

    def may_start(self, now: float) -> bool:
        """Return whether a ceremony may start."""
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
        """Return how many seconds no ceremony may start; 0 if one may."""
        return max(0.0, self.blocked_until - now)

    def debit(self, now: float) -> Self:
        """Return the budget after one more attempt. The caller stores it before it answers."""
        failures = min(self.failures + 1, MAX_COUNTED_FAILURES)
        wait = _backoff(failures, self.limits)
        blocked_until = now + wait if wait else -math.inf
        return replace(self, failures=failures, blocked_until=blocked_until)

    def refund(self) -> Self:
        """Return the budget without failures: after a success, or cleared at the device."""
        return replace(self, failures=0, blocked_until=-math.inf)

    def record(self, now: float) -> dict[str, int | float]:
        """Return the form to store: the count and the remaining seconds."""
        return {"failures": self.failures, "remaining": self.seconds_blocked(now)}

    @classmethod
    def unknown(cls, now: float, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Return the budget for a damaged record: the longest back-off.

        So a damaged record never permits another attempt. A user at the console clears it.
        """
        most = limits.backoff_max_seconds
        counts = range(limits.backoff_after, limits.backoff_after + 64)
        failures = next((n for n in counts if _backoff(n, limits) >= most), counts.stop)
        return cls(failures, now + most, limits)

    @classmethod
    def restored(
        cls, record: Mapping[str, object] | None, now: float, *, limits: Limits = DEFAULT_LIMITS
    ) -> Self:
        """Return the budget of a stored record; None stands for a board that has never paired.

        Raises `Malformed` if the record has no count.
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
        return cls(
            min(failures, MAX_COUNTED_FAILURES), now + remaining if remaining else -math.inf, limits
        )


def _backoff(failures: int, limits: Limits) -> float:
    """Return the back-off in seconds after this many failures."""
    over = failures - limits.backoff_after
    if over < 0:
        return 0.0
    # 2^64 is far above any maximum; larger powers only cost time.
    return min(limits.backoff_base_seconds * 2.0 ** min(over, 64), limits.backoff_max_seconds)
