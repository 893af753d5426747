"""What is good to know and not worth a write of its own: when a key was last seen, and how far the
clock has come.

Flash wears by every write, so both are noted in memory, go to the disk with whatever is written
next, and on their own once an hour at most. A crash loses an hour of them, and no right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from iam.limits import LAST_SEEN_WRITE_SECONDS


class LastSeen:
    """Times by key, and the clock's floor: a time that has passed for certain. Neither runs back,
    except by `reset_time_floor`, where a wrong clock has driven them too far."""

    def __init__(self, seen: dict[str, float], time_floor: float) -> None:
        """As the disk has them."""
        self._seen = seen
        self.seen: Mapping[str, float] = MappingProxyType(seen)
        self.time_floor = time_floor
        self._unwritten: set[str] = set()
        self._written_time_floor = time_floor
        self._latest: float | None = None
        self._since: float | None = None  # the first time noted after the last write

    def note(self, fingerprint: str, now: float) -> None:
        """This key was in use now."""
        if self._seen.get(fingerprint, 0.0) < now:
            self._seen[fingerprint] = now
            self._unwritten.add(fingerprint)
            self._pass(now)

    def note_time(self, now: float) -> None:
        """So far the clock has come."""
        if self.time_floor < now:
            self.time_floor = now
            self._pass(now)

    def forget(self, fingerprints: Iterable[str]) -> None:
        """These keys are gone."""
        for one in fingerprints:
            self._seen.pop(one, None)
            self._unwritten.discard(one)

    def reset_time_floor(self, time_floor: float) -> None:
        """This is the floor, and no key was seen later: the disk says so already."""
        self._seen.update({one: min(at, time_floor) for one, at in self._seen.items()})
        self.time_floor = self._written_time_floor = time_floor
        self._since = None

    @property
    def is_due(self) -> bool:
        """Has enough come together for a write of its own?"""
        if self._since is None or self._latest is None:
            return False
        return self._latest - self._since >= LAST_SEEN_WRITE_SECONDS

    def unwritten(self, *, at_most: int | None = None) -> list[tuple[str, float]]:
        """Rows that the disk does not have yet."""
        return [(one, self._seen[one]) for one in islice(self._unwritten, at_most)]

    @property
    def unwritten_time_floor(self) -> float | None:
        """The floor, if the disk has an older one."""
        return self.time_floor if self.time_floor != self._written_time_floor else None

    @property
    def has_unwritten(self) -> bool:
        """Would anything be lost now?"""
        return bool(self._unwritten) or self.unwritten_time_floor is not None

    def written(self, rows: Iterable[tuple[str, float]]) -> None:
        """The disk has these, and the floor."""
        self._unwritten.difference_update(one for one, _ in rows)
        self._written_time_floor = self.time_floor
        if not self._unwritten:
            self._since = None

    def _pass(self, now: float) -> None:
        self._latest = now
        self._since = now if self._since is None else self._since
