"""The state on disk: one SQLite file with users, keys, invites, attempt counters and audit trail.

Invariants:

- `Store.state` is what the disk holds. `commit` returns after the disk has it (WAL,
  synchronous=FULL) or raises, and then neither has changed. State, counters and events of one
  commit go together or not at all.
- A commit writes what differs and no more, however many users there are.
- When keys were last seen, and how far the clock has come, are noted in memory and written along:
  they never cause more than one write an hour.

How the file is opened and what is refused: `iam.openfile`. What is in it: `iam.schema`.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from iam import openfile, schema
from iam.audit import Event, Trail
from iam.errors import StoreWriteFailed
from iam.model import State, lost_keys
from iam.schema import Content, Row
from iam.sightings import ROWS_ALONG, Sightings

EVENTS_KEPT: Final = 10_000

_Watcher = TypeVar("_Watcher", bound=Callable[..., None])
log = logging.getLogger(__name__)


class Store:
    """The open store. Used from the thread that opened it."""

    def __init__(
        self, path: Path, lock: int, db: sqlite3.Connection, held: Content, *, keep_events: int
    ) -> None:
        """For `open` only."""
        self.path = path
        self.trail = Trail(db, keep=keep_events)
        self._lock = lock
        self._db = db
        self._state = held.state
        self._attempts = held.attempts
        self._sightings = Sightings(held.seen, held.floor)
        self._watchers: list[Callable[[State, State], None]] = []
        self._event_watchers: list[Callable[[int], None]] = []
        self._told = 0

    @classmethod
    def open(cls, path: Path, *, keep_events: int = EVENTS_KEPT) -> Store:
        """Open the file, or make it if there is none. `keep_events` bounds the audit trail.

        Raises StoreBusy, StoreCorrupt, StoreTooNew, StoreError (the folder cannot be used).
        """
        lock, db, held = openfile.open_for_writing(path)
        return cls(path, lock, db, held, keep_events=keep_events)

    @staticmethod
    @contextmanager
    def read_trail(path: Path) -> Iterator[Trail]:
        """The trail as the disk has it now, for whoever does not hold the store.

        It is a copy, so a running writer and a slow reader do not feel each other, and nothing is
        written. Raises StoreCorrupt, StoreTooNew, StoreError.
        """
        with closing(openfile.copy_of_trail(path)) as copy:
            yield Trail(copy, keep=EVENTS_KEPT)

    @property
    def state(self) -> State:
        return self._state

    @property
    def attempts(self) -> Mapping[str, object]:
        """The counters last committed: small JSON-able values, never a code."""
        return self._attempts

    @property
    def seen(self) -> Mapping[str, float]:
        """When each key was last noted; a key that never was is not in it."""
        return self._sightings.seen

    @property
    def floor(self) -> float:
        """A time that has passed for certain, as far as it was noted; 0 if none was."""
        return self._sightings.floor

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make `new` the state, append the events and replace the counters, all or nothing.

        Only rows that differ are written. Raises StoreWriteFailed; then nothing has changed
        anywhere. Watchers are called after it is durable: those of the state only if it did change,
        those of the events only if there were some.
        """
        old = self._state
        changes = [(statement, rows) for statement, rows in schema.writes(old, new) if rows]
        if not changes and not events and attempts is None:
            return
        body = json.dumps(dict(self._attempts if attempts is None else attempts), allow_nan=False)
        gone = lost_keys(old, new)
        noted = self._sightings.unwritten(at_most=ROWS_ALONG)
        newest = 0
        with self._transaction():
            self._run(changes)
            if attempts is not None:
                self._db.execute(schema.WRITE_ATTEMPTS, (body,))
            for event in events:
                newest = self.trail.append(event)
            self._write_sightings(noted)
            self._db.executemany(schema.FORGET_SEEN, [(one,) for one in gone])
        self._sightings.written(noted)
        self._sightings.forget(gone)
        self._attempts = MappingProxyType(json.loads(body))
        if changes:
            self._state = new
            self._tell(self._watchers, old, new)
        if newest > self._told:  # else a watcher's own commit was told already, and it is newer
            self._told = newest
            self._tell(self._event_watchers, newest)

    # -- times that are not worth a write of their own ------------------------------------------

    def note_seen(self, fingerprint: str, now: float) -> None:
        """A key was used at this time. Cheap; strangers' keys are not remembered."""
        if fingerprint in self._state.owner_of_key:
            self._sightings.note(fingerprint, now)

    def note_time(self, now: float) -> None:
        """The clock has come so far: `floor` never falls below it again. Cheap."""
        self._sightings.note_time(now)

    def flush_seen(self) -> None:
        """Write what was noted, if that is an hour's worth; may be called as often as one likes.

        Raises StoreWriteFailed; what was noted is kept.
        """
        if self._sightings.is_due:
            self._flush()

    def reset_floor(self, floor: float) -> None:
        """Repair a floor that a wrong clock has raised, at once. Raises StoreWriteFailed."""
        with self._transaction():
            self._db.execute(schema.WRITE_CLOCK, (floor,))
            self._db.execute(schema.CUT_SEEN, (floor, floor))
        self._sightings.reset_floor(floor)

    def _flush(self) -> None:
        noted = self._sightings.unwritten()
        with self._transaction():
            self._write_sightings(noted)
        self._sightings.written(noted)

    def _write_sightings(self, rows: list[tuple[str, float]]) -> None:
        self._db.executemany(schema.WRITE_SEEN, rows)
        if (floor := self._sightings.unwritten_floor) is not None:
            self._db.execute(schema.WRITE_CLOCK, (floor,))

    # -- those who wait for changes -------------------------------------------------------------

    def subscribe(self, watcher: Callable[[State, State], None]) -> Callable[[], None]:
        """Call `watcher(old, new)` after each change of the state; returns what ends that."""
        return _enlist(self._watchers, watcher)

    def on_events(self, watcher: Callable[[int], None]) -> Callable[[], None]:
        """Call `watcher(seq)` with the newest event's number after each commit with events;
        returns what ends that."""
        return _enlist(self._event_watchers, watcher)

    def close(self) -> None:
        """Close the file and give up the lock; a second call does nothing."""
        if self._lock < 0:
            return
        try:
            if self._sightings.has_unwritten:
                self._flush()
        except StoreWriteFailed as error:
            log.warning("times last seen are lost: %s", error)
        self._db.close()
        os.close(self._lock)
        self._lock = -1

    def _run(self, changes: list[tuple[str, list[Row]]]) -> None:
        for statement, rows in changes:
            self._db.executemany(statement, rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            # A failed COMMIT may have rolled back by itself, then there is nothing left to do.
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            raise StoreWriteFailed(
                f"the change could not be stored in {self.path}: {error}",
                advice="Look for a full or read-only disk; the change was not made, try again.",
            ) from error

    def _tell(self, watchers: list[_Watcher], *news: object) -> None:
        for watcher in tuple(watchers):
            try:
                watcher(*news)
            except Exception:
                # The change is durable: to its author it must not look as if it had failed.
                log.exception("a watcher of the store failed")


def _enlist(watchers: list[_Watcher], watcher: _Watcher) -> Callable[[], None]:
    watchers.append(watcher)
    return lambda: watchers.remove(watcher)
