"""The state on disk: one SQLite file with users, keys, invites, attempt counters and audit trail.

Invariants:

- `Store.state` is what the disk holds. `commit` returns after the disk has it (WAL,
  synchronous=FULL), or raises; then neither has changed. State, counters and events of one commit
      are
  written together or not at all.
- A commit that the disk did not confirm is undone before the next one (`iam.storefile`).
- A commit that changes rights is moved out of SQLite's log and marked (`iam.mark`), so that neither
  a
  damaged log nor an old copy restores what was taken away.
- A commit writes only what differs, however many users there are.
- The times of last use and the time floor are kept in memory and written along; alone they cause at
  most one write an hour.

How the file is opened, and what happens to a damaged one: `iam.openfile`. What it contains:
`iam.schema`.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from iam import database, openfile, rights, salvage, schema
from iam.audit import AuditTrail, Event
from iam.changes import KEEP, Keep, has_owner
from iam.errors import StoreError, StoreWriteFailed
from iam.last_seen import LastSeen
from iam.limits import DEFAULT_IAM_LIMITS, LAST_SEEN_ROWS_PER_COMMIT
from iam.mark import Mark
from iam.model import State, lost_keys
from iam.openfile import Opened
from iam.recovery import Recovery
from iam.rights import Seal
from iam.schema import Row
from iam.storefile import StoreFile

_Watcher = TypeVar("_Watcher", bound=Callable[..., None])
log = logging.getLogger(__name__)


class Store:
    """The open store. Use it from the thread that opened it.

    `recovery` says what was wrong with the file when it was opened, now or at an earlier start,
    until a person has decided about it; `is_newly_recovered` is true at the first of these starts.
    """

    def __init__(self, path: Path, opened: Opened, *, keep_events: int) -> None:
        """For `open` only."""
        content, accepted = opened.content, opened.accepted
        self.path = path
        self.audit = AuditTrail(opened.db, keep=keep_events)
        self.recovery = Recovery.restored(content.recovery)
        self.is_newly_recovered = accepted.recovery is not None
        #: True if the number of attempts is unknown, because its record is damaged.
        self.attempts_lost = content.attempts is None
        self._file = StoreFile(path, opened.lock, opened.db)
        self._state = accepted.state
        self._attempts: Mapping[str, object] = content.attempts or MappingProxyType({})
        self._seal = accepted.seal
        seen = {key: at for key, at in content.seen.items() if key in self._state.user_name_by_key}
        self._last_seen = LastSeen(seen, content.time_floor)
        self._last_seen.note_time(opened.time_floor)
        self._mark = Mark(path, schema=len(schema.MIGRATIONS), marked=opened.marked)
        self._is_marked = opened.marked is not None
        self._trouble = ""
        self._watchers: list[Callable[[State, State], None]] = []
        self._event_watchers: list[Callable[[int], None]] = []
        self._notified_seq = 0
        self._secure()

    @classmethod
    def open(cls, path: Path, *, keep_events: int = DEFAULT_IAM_LIMITS.events_kept) -> Store:
        """Open the file, or create it. `keep_events` bounds the audit trail.

        A file that is damaged, older than its mark, or missing is replaced; `recovery` says so.
        Raises StoreBusy, StoreTooNew, StoreError (the folder cannot be used).
        """
        opened = openfile.open_for_writing(path)
        try:
            return cls(path, opened, keep_events=keep_events)
        except BaseException:
            opened.db.close()
            os.close(opened.lock)
            raise

    @staticmethod
    def has_traces(path: Path) -> bool:
        """Return whether there is a store, or a sign that there was one."""
        return openfile.has_traces(path)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a store that cannot be opened, with every copy beside it.

        Raises StoreBusy, and StoreError if it cannot be removed.
        """
        held = openfile.lock(path)
        try:
            with database.explained(path):
                salvage.remove_copies(path)
                salvage.remove(path, "")
        finally:
            os.close(held)

    @staticmethod
    @contextmanager
    def read_audit(path: Path) -> Iterator[AuditTrail]:
        """Yield the audit trail as the disk has it now, for a process without the lock.

        It is a copy: it writes nothing, and neither a running writer nor a slow reader waits for
        the other. Raises StoreCorrupt, StoreTooNew, StoreError.
        """
        with closing(openfile.copy_of_audit(path)) as copy:
            yield AuditTrail(copy, keep=DEFAULT_IAM_LIMITS.events_kept)

    @property
    def state(self) -> State:
        """All users and invites, as the disk has them."""
        return self._state

    @property
    def attempts(self) -> Mapping[str, object]:
        """The counters last committed: small values that JSON can express, never a code."""
        return self._attempts

    @property
    def seen(self) -> Mapping[str, float]:
        """When each key was last in use; keys that never were are missing."""
        return self._last_seen.seen

    @property
    def time_floor(self) -> float:
        """The latest time that has certainly passed, as far as it was noted; else 0."""
        return self._last_seen.time_floor

    @property
    def had_owner(self) -> bool:
        """Whether the device has had an owner since it was new or was reset."""
        return self._seal.had_owner

    @property
    def trouble(self) -> str:
        """The current fault, or an empty text; looks at the folder.

        The file was removed, the last commit is doubtful, or the mark could not be written.
        """
        return self._file.trouble or self._trouble

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make `new` the state, append the events and replace the counters, all or nothing.

        Only rows that differ are written. Watchers are called when it is durable: those of the
        state if it changed, those of events if there are any. Raises StoreWriteFailed; then nothing
        has changed.
        """
        self._write(new, events, attempts)

    def settle(self, *events: Event, state: State | None = None, label: object = None) -> None:
        """Decide about `recovery`: keep the state as it is, or use `state` and its label record.

        The state that was in force is kept as `<file>.replaced`; the copy of what was found is
        removed. Raises StoreWriteFailed.
        """
        attempts: dict[str, object] | None = None
        if state is not None:
            with self._file.explained():
                salvage.remove(self.path, salvage.REPLACED)
                self._file.checkpoint()
                salvage.keep(self.path, salvage.REPLACED)
            attempts = {name: one for name, one in self._attempts.items() if name != rights.LABEL}
            if label is not None:
                attempts[rights.LABEL] = label
        self._write(state or self._state, events, attempts, recovery=None)
        with suppress(OSError):
            salvage.remove(self.path, salvage.ASIDE)

    def reset(self, *events: Event, attempts: Mapping[str, object]) -> None:
        """Delete every user, key, invite and event, in the file and in the copies beside it.

        The audit trail starts with `events`, and the device has had no owner. Raises
        StoreWriteFailed.
        """
        self._write(State.of(()), events, attempts, recovery=None, is_reset=True)
        with self._tolerated("what was deleted may still be in the file"):
            self._db.execute("VACUUM")  # free pages of a version that did not overwrite them
            self._file.checkpoint()
            salvage.remove_copies(self.path)

    def _write(
        self,
        new: State,
        events: Sequence[Event],
        attempts: Mapping[str, object] | None,
        *,
        recovery: Recovery | Keep | None = KEEP,
        is_reset: bool = False,
    ) -> None:
        old, old_attempts = self._state, self._attempts
        changes = [(statement, rows) for statement, rows in schema.writes(old, new) if rows]
        if not changes and not events and attempts is None and recovery is KEEP:
            return
        body = old_attempts if attempts is None else _plain(attempts)
        added, dropped = rights.changed_rows(old, new, old_attempts, body)
        has_sealed = bool(added or dropped or is_reset) or recovery is not KEEP
        seal = (
            self._seal_after(new, added, dropped, is_reset=is_reset) if has_sealed else self._seal
        )
        known = self.recovery if recovery is KEEP else recovery
        gone = lost_keys(old, new)
        noted = self._last_seen.unwritten(at_most=LAST_SEEN_ROWS_PER_COMMIT)
        newest = 0
        with self._transaction(seal.serial):
            self._run(changes)
            if attempts is not None:
                schema.write_attempts(self._db.execute, body)
            if is_reset:
                self._db.execute("DELETE FROM seen")
                self.audit.clear()
            for event in events:
                newest = self.audit.append(event)
            self._write_last_seen(noted)
            self._db.executemany(schema.FORGET_SEEN, [(one,) for one in gone])
            if has_sealed:
                record = known.record() if known is not None else ""
                schema.write_rights(self._db.execute, seal, record)
        self._last_seen.written(noted)
        self._last_seen.forget(gone)
        self.attempts_lost = self.attempts_lost and attempts is None
        self._attempts, self._seal, self.recovery = body, seal, known
        self._state = new
        if has_sealed:
            self._is_marked = not is_reset and self._is_marked and self._append_mark(added, dropped)
            self._secure()
        if changes:
            self._notify(self._watchers, old, new)
        if newest > self._notified_seq or is_reset:  # else a watcher's own commit was told already
            self._notified_seq = newest
            self._notify(self._event_watchers, newest)

    def _seal_after(
        self, new: State, added: set[str], dropped: set[str], *, is_reset: bool
    ) -> Seal:
        total = rights.total_after(self._seal.total, added, dropped)
        had_owner = has_owner(new) or (self._seal.had_owner and not is_reset)
        return Seal(total, self._seal.serial + 1, had_owner)

    # -- what keeps rights from coming back ------------------------------------------------------

    def _secure(self) -> None:
        """Move the log into the file, and make the mark agree with the file.

        What fails is tried again with the next change and once an hour.
        """
        self._trouble = ""
        with self._tolerated("a change of rights is stored, but its mark is not"):
            if not self._is_marked:
                rows = rights.rows_of(self._state, self._attempts)
                self._mark.write(rows, self._seal, self.audit.head, self.time_floor)
                self._is_marked = True
        with self._tolerated("a change of rights is stored, but only in SQLite's log"):
            self._file.checkpoint()

    def _append_mark(self, added: set[str], dropped: set[str]) -> bool:
        with suppress(OSError, sqlite3.Error, StoreError):
            head, time_floor = self.audit.head, self.time_floor
            return self._mark.append(added, dropped, self._seal, head, time_floor)
        return False

    def _prepare(self) -> None:
        """Check that the file can be written. Raises StoreWriteFailed."""
        before = self._db
        self._file.prepare()
        if self._db is not before:  # the file was removed in use and is rewritten
            self.audit.attach(self._db)
            self._is_marked = False

    def _on_failed(self, serial: int, *, undone: bool) -> None:
        """Note that a commit has failed: its number is not used again.

        The mark says so if the next start could still find it.
        """
        if serial > self._seal.serial:
            if not undone:
                with suppress(OSError):
                    self._mark.void(serial)
            self._seal = replace(self._seal, serial=serial)
            self._is_marked = False

    @contextmanager
    def _tolerated(self, what: str) -> Iterator[None]:
        """The change is stored; an error of what follows is logged and not raised."""
        try:
            yield
        except (sqlite3.Error, OSError, StoreError) as error:
            self._trouble = f"{what}: {error}"
            log.error("%s: %s", self.path, self._trouble)

    # -- times that are not worth a write of their own ------------------------------------------

    def note_seen(self, fingerprint: str, now: float) -> None:
        """Note that a key was in use at this time. Cheap; unknown keys are ignored."""
        if fingerprint in self._state.user_name_by_key:
            self._last_seen.note(fingerprint, now)

    def note_time(self, now: float) -> None:
        """Note the time: `time_floor` never falls below it again. Cheap."""
        self._last_seen.note_time(now)

    def flush_seen(self) -> None:
        """Write what was noted if that is due; call it as often as you like.

        Raises StoreWriteFailed; then what was noted is kept.
        """
        if self._last_seen.is_due:
            self._flush()
        self._prepare()
        if self._trouble or not self._is_marked or not self._mark.exists():
            self._is_marked = self._is_marked and self._mark.exists()
            self._secure()

    def reset_time_floor(self, time_floor: float) -> None:
        """Lower a floor that a wrong clock has raised, at once. Raises StoreWriteFailed."""
        with self._transaction():
            schema.write_time_floor(self._db.execute, time_floor)
            self._db.execute(schema.CUT_SEEN, (time_floor, time_floor))
        self._last_seen.reset_time_floor(time_floor)
        self._is_marked = False  # the mark has the higher one
        self._secure()

    def _flush(self) -> None:
        noted = self._last_seen.unwritten()
        with self._transaction():
            self._write_last_seen(noted)
        self._last_seen.written(noted)

    def _write_last_seen(self, rows: list[tuple[str, float]]) -> None:
        self._db.executemany(schema.WRITE_SEEN, rows)
        if (time_floor := self._last_seen.unwritten_time_floor) is not None:
            schema.write_time_floor(self._db.execute, time_floor)

    # -- those who wait for changes -------------------------------------------------------------

    def subscribe(self, watcher: Callable[[State, State], None]) -> Callable[[], None]:
        """Call `watcher(old, new)` after each change of the state; return what ends that."""
        return _subscribed(self._watchers, watcher)

    def on_events(self, watcher: Callable[[int], None]) -> Callable[[], None]:
        """Call `watcher(seq)` with the number of the newest event after each commit with events.

        Returns what ends that.
        """
        return _subscribed(self._event_watchers, watcher)

    def close(self) -> None:
        """Close the file and release the lock; a second call does nothing."""
        if self._file.is_closed:
            return
        try:
            if self._last_seen.has_unwritten:
                self._flush()
        except StoreWriteFailed as error:
            log.warning("times last seen are lost: %s", error)
        self._file.close()

    @property
    def _db(self) -> sqlite3.Connection:
        return self._file.db

    def _run(self, changes: list[tuple[str, list[Row]]]) -> None:
        for statement, rows in changes:
            self._db.executemany(statement, rows)

    @contextmanager
    def _transaction(self, serial: int = 0) -> Iterator[None]:
        """`serial`: the number of the commit if it changes rights."""

        def failed(undone: bool) -> None:
            self._on_failed(serial, undone=undone)

        self._prepare()
        with self._file.transaction(failed):
            yield

    def _notify(self, watchers: list[_Watcher], *values: object) -> None:
        for watcher in tuple(watchers):
            try:
                watcher(*values)
            except Exception:
                # The change is durable: to its author it must not look as if it had failed.
                log.exception("a watcher of the store failed")


def _subscribed(watchers: list[_Watcher], watcher: _Watcher) -> Callable[[], None]:
    watchers.append(watcher)
    return lambda: watchers.remove(watcher)


def _plain(attempts: Mapping[str, object]) -> Mapping[str, object]:
    """The form that is read back. Raises ValueError for what JSON cannot express."""
    return MappingProxyType(json.loads(json.dumps(dict(attempts), allow_nan=False)))
