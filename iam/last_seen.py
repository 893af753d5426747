"""When each key was last in use, and the time floor: the latest time that has certainly passed.

Every write wears flash memory. So both are kept in memory, written along with the next change, and
written by themselves at most once an hour. A crash loses up to an hour of these times, and no
right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from iam.limits import LAST_SEEN_WRITE_SECONDS


class LastSeen:
    """Times by key, and the time floor. Neither decreases.

    Only `reset_time_floor` lowers them, after a wrong clock has raised them.
    """

    def __init__(self, seen: dict[str, float], time_floor: float) -> None:
        """Start with what the disk has."""
        self._seen = seen
        self.seen: Mapping[str, float] = MappingProxyType(seen)
        self.time_floor = time_floor
        self._unwritten: set[str] = set()
        self._written_time_floor = time_floor
        self._latest: float | None = None
        self._since: float | None = None  # the first time noted after the last write

    def note(self, fingerprint: str, now: float) -> None:
        """Note that a key is in use now."""
        if self._seen.get(fingerprint, 0.0) < now:
            self._seen[fingerprint] = now
            self._unwritten.add(fingerprint)
            self._pass(now)

    def note_time(self, now: float) -> None:
        """Raise the floor to this time."""
        if self.time_floor < now:
            self.time_floor = now
            self._pass(now)

    def forget(self, fingerprints: Iterable[str]) -> None:
        """Forget removed keys."""
        for one in fingerprints:
            self._seen.pop(one, None)
            self._unwritten.discard(one)

    def reset_time_floor(self, time_floor: float) -> None:
        """Set the floor, and cap all times by it; the disk has both already."""
        self._seen.update({one: min(at, time_floor) for one, at in self._seen.items()})
        self.time_floor = self._written_time_floor = time_floor
        self._since = None

    @property
    def is_due(self) -> bool:
        """True if the oldest time that is not written is an hour old."""
        if self._since is None or self._latest is None:
            return False
        return self._latest - self._since >= LAST_SEEN_WRITE_SECONDS

    def unwritten(self, *, at_most: int | None = None) -> list[tuple[str, float]]:
        """Return the keys and times that the disk does not have yet."""
        return [(one, self._seen[one]) for one in islice(self._unwritten, at_most)]

    @property
    def unwritten_time_floor(self) -> float | None:
        """The floor, if the disk has a lower one."""
        return self.time_floor if self.time_floor != self._written_time_floor else None

    @property
    def has_unwritten(self) -> bool:
        """True if a crash would lose anything now."""
        return bool(self._unwritten) or self.unwritten_time_floor is not None

    def written(self, rows: Iterable[tuple[str, float]]) -> None:
        """Note that the disk has these rows and the floor."""
        self._unwritten.difference_update(one for one, _ in rows)
        self._written_time_floor = self.time_floor
        if not self._unwritten:
            self._since = None

    def _pass(self, now: float) -> None:
        self._latest = now
        self._since = now if self._since is None else self._since
