"""The state on disk: one SQLite file with users, keys, invites, attempt counters and audit trail.

Invariants:

- `Store.state` is what the disk holds. `commit` returns when the change is on the disk (WAL,
  synchronous=FULL), or raises; then neither has changed. State, counters and events of one commit
  are written together or not at all.
- A commit that the disk did not confirm is undone before the next one (`iam.storefile`).
- A commit that changes rights is moved out of SQLite's log and marked (`iam.mark_writer`), so that
  neither a damaged log nor an old copy restores a right that was taken away.
- A commit writes only what differs, however many users there are.
- The times of last use and the time floor are kept in memory and written along with a change; they
  cause at most one write an hour of their own.

`iam.openfile` opens the file, handles a damaged one, and reads or removes a store that is not open.
`iam.schema` has the tables.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from iam import openfile, rights, salvage, schema
from iam.audit import AuditTrail, Event
from iam.changes import KEEP, Keep, has_owner
from iam.errors import StoreWriteFailed
from iam.last_seen import LastSeen
from iam.limits import DEFAULT_IAM_LIMITS, LAST_SEEN_ROWS_PER_COMMIT
from iam.mark_writer import MarkWriter
from iam.model import State, lost_keys
from iam.openfile import Opened
from iam.recovery import Recovery
from iam.storefile import StoreFile
from iam.watchers import Watchers

_log = logging.getLogger(__name__)


class Store:
    """The open store. Use it from the thread that opened it.

    `recovery` says what was wrong with the file when it was opened, now or at an earlier start,
    until a person has decided about it; `is_newly_recovered` is true at the first of these starts.
    """

    def __init__(self, path: Path, opened: Opened, *, keep_events: int) -> None:
        """For `open` only."""
        content, accepted = opened.beside, opened.accepted
        self.path = path
        self.audit = AuditTrail(opened.db, keep=keep_events)
        self.recovery = Recovery.restored(content.recovery)
        self.is_newly_recovered = accepted.recovery is not None
        #: True if the number of attempts is unknown, because its record is damaged.
        self.attempts_lost = content.attempts is None
        self._file = StoreFile(path, opened.lock, opened.db)
        self._state = accepted.state
        self._attempts: Mapping[str, object] = content.attempts or MappingProxyType({})
        seen = {key: at for key, at in content.seen.items() if key in self._state.user_name_by_key}
        self._last_seen = LastSeen(seen, content.time_floor)
        self._last_seen.note_time(opened.time_floor)
        self._mark = MarkWriter(
            self._file, self.audit, self._last_seen, seal=accepted.seal, end=opened.end
        )
        self._state_watchers = Watchers[[State, State]]()
        self._event_watchers = Watchers[[int]]()
        self._notified_seq = 0
        self._mark.update(self._rows())

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
        return self._mark.seal.had_owner

    @property
    def fault(self) -> str:
        """The fault of the open store, or an empty text. Looks at the folder.

        The file was removed, the last commit is doubtful, or the mark could not be written.
        """
        return self._file.fault or self._mark.fault

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make `new` the state, append the events and replace the counters, all or nothing.

        Only rows that differ are written. Watchers are called when it is durable: those of the
        state if it changed, those of events if there are any. Raises StoreWriteFailed; then nothing
        has changed.
        """
        self._write(new, events, attempts)

    def end_recovery(
        self, *events: Event, state: State | None = None, label: object = None
    ) -> None:
        """Decide about `recovery`: keep the state in force, or use `state` and its label record.

        A state that is replaced is kept as `<file>.replaced`; the copy of the unsound file is
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
        with self._mark.tolerating("what was deleted may still be in the file"):
            self._file.db.execute("VACUUM")  # free pages of a version that did not overwrite them
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
        body = old_attempts if attempts is None else schema.as_stored(attempts)
        added, dropped = rights.changed_rows(old, new, old_attempts, body)
        has_sealed = bool(added or dropped or is_reset) or recovery is not KEEP
        seal = self._mark.seal
        if has_sealed:
            had_owner = has_owner(new) or (seal.had_owner and not is_reset)
            seal = seal.after(added, dropped, had_owner=had_owner)
        known = self.recovery if recovery is KEEP else recovery
        gone = lost_keys(old, new)
        noted = self._last_seen.unwritten(at_most=LAST_SEEN_ROWS_PER_COMMIT)
        newest = 0
        with self._transaction(seal.serial) as db:
            for statement, rows in changes:
                db.executemany(statement, rows)
            if attempts is not None:
                schema.write_attempts(db.execute, body)
            if is_reset:
                db.execute("DELETE FROM seen")
                self.audit.clear()
            for event in events:
                newest = self.audit.append(event)
            schema.write_last_seen(db.execute, noted, self._last_seen.unwritten_time_floor)
            db.executemany(schema.FORGET_SEEN, [(one,) for one in gone])
            if has_sealed:
                schema.write_rights(db.execute, seal, known.record() if known is not None else "")
        self._last_seen.written(noted)
        self._last_seen.forget(gone)
        self.attempts_lost = self.attempts_lost and attempts is None
        self._state, self._attempts, self.recovery = new, body, known
        if is_reset:
            self._mark.invalidate()
        if has_sealed:
            self._mark.follow(seal, added, dropped, self._rows())
        if changes:
            self._state_watchers.notify(old, new)
        if newest > self._notified_seq or is_reset:  # else a watcher's own commit was told already
            self._notified_seq = newest
            self._event_watchers.notify(newest)

    def _rows(self) -> Iterator[str]:
        return rights.rows_of(self._state, self._attempts)

    def leave_note(self, note: bytes) -> None:
        """Write how to reach this process into the lock file (`iam.openfile.holder`)."""
        self._file.leave_note(note)

    def note_seen(self, fingerprint: str, now: float) -> None:
        """Note that a key was in use at this time. Cheap; unknown keys are ignored."""
        if fingerprint in self._state.user_name_by_key:
            self._last_seen.note(fingerprint, now)

    def note_time(self, now: float) -> None:
        """Note the time: `time_floor` never falls below it again. Cheap."""
        self._last_seen.note_time(now)

    def flush_seen(self) -> None:
        """Write the noted times if that is due, and repair the mark; call it at any rate.

        Raises StoreWriteFailed; then the noted times are kept.
        """
        if self._last_seen.is_due:
            self._flush()
        self._prepare()
        self._mark.repair(self._rows())

    def reset_time_floor(self, time_floor: float) -> None:
        """Lower a floor that a wrong clock has raised, at once. Raises StoreWriteFailed."""
        with self._transaction() as db:
            schema.write_time_floor(db.execute, time_floor)
            db.execute(schema.CUT_SEEN, (time_floor, time_floor))
        self._last_seen.reset_time_floor(time_floor)
        self._mark.invalidate()  # it has the higher floor
        self._mark.update(self._rows())

    def _flush(self) -> None:
        noted = self._last_seen.unwritten()
        with self._transaction() as db:
            schema.write_last_seen(db.execute, noted, self._last_seen.unwritten_time_floor)
        self._last_seen.written(noted)

    def subscribe(self, watcher: Callable[[State, State], None]) -> Callable[[], None]:
        """Call `watcher(old, new)` after each change, until the returned function is called."""
        return self._state_watchers.add(watcher)

    def on_events(self, watcher: Callable[[int], None]) -> Callable[[], None]:
        """Call `watcher` with the newest number after each commit with events, as `subscribe`."""
        return self._event_watchers.add(watcher)

    def close(self) -> None:
        """Close the file and release the lock; a second call does nothing."""
        if self._file.is_closed:
            return
        try:
            if self._last_seen.has_unwritten:
                self._flush()
        except StoreWriteFailed as error:
            _log.warning("times last seen are lost: %s", error)
        self._file.close()

    def _prepare(self) -> None:
        """Check that the file can be written. Raises StoreWriteFailed."""
        before = self._file.db
        self._file.prepare()
        if self._file.db is not before:  # the file was removed in use and is rewritten
            self.audit.attach(self._file.db)
            self._mark.invalidate()

    @contextmanager
    def _transaction(self, serial: int = 0) -> Iterator[sqlite3.Connection]:
        """One transaction. `serial` is the number of the commit if it changes rights, or 0."""

        def failed(undone: bool) -> None:
            self._mark.on_failed_commit(serial, undone=undone)

        self._prepare()
        with self._file.transaction(failed) as db:
            yield db
