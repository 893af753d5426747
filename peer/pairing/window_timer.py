"""The time of a pairing window, and of its port after it has closed (protocol §4).

    OPEN ──any `CloseReason`──▶ LINGERING ──notified or 10 s──▶ CLOSED

All times are monotonic seconds, so a wall clock that jumps changes nothing. Opening an open window
again extends it to the later of the two deadlines; the times never add up.
"""

from enum import StrEnum, unique

from peer.errors import UsageError
from peer.limits import Limits


@unique
class Phase(StrEnum):
    """The phase of a window. LINGERING: closed, but the port waits for the last client."""

    OPEN = "open"
    LINGERING = "lingering"
    CLOSED = "closed"


@unique
class CloseReason(StrEnum):
    """The reason why a window closed."""

    SUCCESS = "success"
    FAILURES = "failures"
    OVERLAP = "overlap"
    TIME = "time"
    CONSOLE = "console"
    REPLACED = "replaced"  # by a window with other methods or another role


class WindowTimer:
    """The time of one window. All times are monotonic seconds.

    Raises `UsageError` if `seconds` is not positive.
    """

    def __init__(self, now: float, seconds: float, limits: Limits) -> None:
        self._limits = limits
        self.phase = Phase.OPEN
        self.closed_because: CloseReason | None = None
        self.closes_at = now + self._bounded(seconds)
        self.lingers_until = self.closes_at

    @property
    def is_open(self) -> bool:
        """Whether the window is open, as of the last call that was given the time."""
        return self.phase is Phase.OPEN

    def seconds_left(self, now: float) -> float:
        """Return how long the window stays open; 0 if it has closed."""
        return max(0.0, self.closes_at - now) if self.is_open else 0.0

    def extend(self, now: float, seconds: float) -> None:
        """Move the deadline to `seconds` from now if that is later; `seconds` is bounded."""
        self.closes_at = max(self.closes_at, now + self._bounded(seconds))

    def close(self, now: float, reason: CloseReason) -> None:
        """Take no new ceremony from now on; the port lingers."""
        self.closed_because = reason
        self.linger(now)

    def linger(self, now: float) -> None:
        """Keep the port open from now on, for the last client."""
        self.phase = Phase.LINGERING
        self.lingers_until = now + self._limits.window_linger_seconds

    def end_linger(self) -> None:
        """Close the port: no client waits for a result."""
        if self.phase is Phase.LINGERING:
            self.phase = Phase.CLOSED

    def _bounded(self, seconds: float) -> float:
        if not seconds > 0:  # also true for NaN
            raise UsageError(
                "the duration of a pairing window must be positive",
                advice=f"Give a duration of 1 to {self._limits.window_max_seconds:.0f} seconds.",
            )
        return min(seconds, self._limits.window_max_seconds)
