"""The paths of a device, as the rendezvous remembers them (protocol §10.4).

    OPENING ──works──▶ LIVE ◀──works── BROKEN
       │                │ ──no carrier──▶ │
       └─ too late      └─ ended          └─ too late ──▶ forgotten

A path is identified by the client nonce of the attempt that opened it, and belongs to one key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from math import inf
from types import MappingProxyType

from peer.fingerprint import Fingerprint
from peer.remote.device_attempts import Attempt
from peer.remote.limits import RemoteLimits


@unique
class PathStage(StrEnum):
    """The stage of a path."""

    OPENING = "opening"  # no carrier has worked yet
    LIVE = "live"
    BROKEN = "broken"  # no carrier works any more


@unique
class PathAct(StrEnum):
    """An event that moves a path to another stage."""

    WORKS = "works"  # a carrier works
    LOST = "lost"  # the last carrier is lost


PATH_TRANSITIONS: Mapping[tuple[PathStage, PathAct], PathStage] = MappingProxyType(
    {
        (PathStage.OPENING, PathAct.WORKS): PathStage.LIVE,
        (PathStage.OPENING, PathAct.LOST): PathStage.OPENING,  # its attempt may still succeed
        (PathStage.LIVE, PathAct.WORKS): PathStage.LIVE,
        (PathStage.LIVE, PathAct.LOST): PathStage.BROKEN,
        (PathStage.BROKEN, PathAct.WORKS): PathStage.LIVE,
        (PathStage.BROKEN, PathAct.LOST): PathStage.BROKEN,
    }
)


@dataclass(slots=True, eq=False)
class DevicePath:
    """One path.

    Attributes:
        attempt: the last attempt that gave it carriers, until that is over.
        deadline: when it ends unless a carrier works, in monotonic seconds; infinite while one
            does, and in OPENING, where the attempt has the deadline.
    """

    path_id: bytes
    key: Fingerprint
    attempt: Attempt | None
    stage: PathStage = PathStage.OPENING
    deadline: float = inf

    def move(self, act: PathAct, now: float, limits: RemoteLimits) -> None:
        """Go to the next stage."""
        before, self.stage = self.stage, PATH_TRANSITIONS[self.stage, act]
        if self.stage is not PathStage.BROKEN:
            self.deadline = inf
        elif before is not PathStage.BROKEN:
            self.deadline = now + limits.path_grace_seconds


class PathTable:
    """The paths of a device: at most `remote_paths`, and `remote_paths_per_key` of one key."""

    def __init__(self, limits: RemoteLimits) -> None:
        self._limits = limits
        self._all: dict[bytes, DevicePath] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[DevicePath]:
        return iter(list(self._all.values()))

    def find(self, path_id: bytes | None) -> DevicePath | None:
        """Return a path."""
        return self._all.get(path_id) if path_id is not None else None

    def of_key(self, key: Fingerprint) -> list[DevicePath]:
        """Return the paths of a key, the oldest first."""
        return [path for path in self._all.values() if path.key == key]

    def make_room(self, key: Fingerprint) -> tuple[bool, DevicePath | None]:
        """Return whether a key may open a path, and which path has to end for it.

        A path without a carrier yields: to a new one of the same key, or in a full table to any.
        The one that has been without for the longest time is first.
        """
        same_key = self.of_key(key)
        if len(same_key) >= self._limits.remote_paths_per_key:
            candidates = same_key
        elif len(self._all) >= self._limits.remote_paths:
            candidates = list(self._all.values())
        else:
            return True, None
        broken = [path for path in candidates if path.stage is PathStage.BROKEN]
        yielding = min(broken, key=lambda path: path.deadline, default=None)
        return yielding is not None, yielding

    def add(self, path: DevicePath) -> None:
        """Add a path."""
        self._all[path.path_id] = path

    def remove(self, path: DevicePath) -> None:
        """Forget a path."""
        self._all.pop(path.path_id, None)
