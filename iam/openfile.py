"""Open a store for one process, after comparing it with its mark; read or remove a closed one.

- A store that agrees with its mark in everything is read in one pass (`iam.sound_store`). Every
  other one is compared with its mark row by row.
- One process writes. It holds a lock on `<file>.lock`, which ends with the process. The lock file
  stays; it contains the process ID for the error of a second process, and on the following lines
  the note of that process, which tells others how to reach it.
- A file that a newer version wrote is refused and not changed.
- A file that is damaged, missing, or differs from its mark is copied to `<file>.aside` and replaced
  by one that holds what is safe to use (`iam.recovery`, `iam.salvage`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from iam import audit, database, files, mark, recovery, salvage, schema, sound_store
from iam.audit import AuditTrail
from iam.database import beside, explained
from iam.errors import StoreBusy, StoreError, StoreTooNew
from iam.limits import DEFAULT_IAM_LIMITS, LOCK_FILE_BYTES_MAX, STORE_COPY_TRIES
from iam.mark import End, Marked
from iam.recovery import AcceptedState, Reason
from iam.schema import Beside, Content


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store.

    Attributes:
        lock: the descriptor that holds the lock; close it last.
        db: the connection.
        beside: what the file holds beside users, keys and invites.
        accepted: the state to use.
        time_floor: the latest time that has certainly passed.
        end: where the mark ends, if it agrees with the store.
    """

    lock: int
    db: sqlite3.Connection
    beside: Beside
    accepted: AcceptedState
    time_floor: float
    end: End | None


def open_for_writing(path: Path) -> Opened:
    """Open a store, create one, or replace one that differs from its mark.

    Raises StoreBusy, StoreTooNew, StoreError (the folder or the disk cannot be used).
    """
    held = lock(path)
    try:
        with explained(path):
            for suffix in database.BESIDE:
                files.require_own(beside(path, suffix))
            if (sound := sound_store.open_sound(path)) is not None:
                return Opened(held, *sound)
            marked = mark.load_untrusted(mark.path_of(path))
            if marked is None and not has_traces(path):
                database.create(path)
            return _recovered(path, held, marked)
    except BaseException:
        os.close(held)
        raise


def has_traces(path: Path) -> bool:
    """Return whether there is a store, or a log or a mark of one."""
    return any(one.exists() for one in (path, beside(path, "-wal"), mark.path_of(path)))


def _recovered(path: Path, held: int, marked: Marked | None) -> Opened:
    db: sqlite3.Connection | None = None
    fault: Reason | None = None
    has_lost_events = False
    try:
        database.examine(path, marked)
        db = database.connect_for_writing(path)
        database.migrate(db, path)
        content: Content | None = schema.read(db.execute)
        trail = AuditTrail(db, keep=0)
        has_lost_events = not trail.holds(*(marked.head if marked is not None else trail.head))
    except StoreTooNew:
        raise
    except database.NOT_SOUND as error:
        _close(db)
        db = None
        if database.is_disk_fault(error) and path.exists():
            raise
        fault = Reason.DAMAGED if path.exists() else Reason.MISSING
        content = salvage.salvaged(path)
    except BaseException:
        _close(db)
        raise
    accepted = recovery.compare(content, marked, fault=fault, has_lost_events=has_lost_events)
    end: End | None = None
    if db is None or accepted.recovery is not None:
        _close(db)
        salvage.replace(path, content, marked, accepted)
        db = database.connect_for_writing(path)
        content = schema.read(db.execute)
    elif marked is not None and content is not None:
        is_current = marked.is_whole and marked.schema == len(schema.MIGRATIONS)
        end = End.of(marked) if is_current and marked.rows == content.rows else None
    assert content is not None
    time_floor = max(content.time_floor, marked.time_floor if marked is not None else 0.0)
    return Opened(held, db, content, accepted, time_floor, end)


def _close(db: sqlite3.Connection | None) -> None:
    if db is not None:
        db.close()


def remove(path: Path) -> None:
    """Remove a store that cannot be opened, with every copy beside it.

    Raises StoreBusy, and StoreError if it cannot be removed.
    """
    held = lock(path)
    try:
        with explained(path):
            salvage.remove_copies(path)
            salvage.remove(path, "")
    finally:
        os.close(held)


@contextmanager
def read_audit(path: Path) -> Iterator[AuditTrail]:
    """Yield a copy of the audit trail as the disk has it now, for a process without the lock.

    It needs no lock and writes nothing: neither a running writer nor a slow reader waits for the
    other. Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    with closing(_copy_of_audit(path)) as copy:
        yield AuditTrail(copy, keep=DEFAULT_IAM_LIMITS.events_kept)


def _copy_of_audit(path: Path) -> sqlite3.Connection:
    with explained(path), files.acting_as_owner_of(path.parent):
        for _ in range(STORE_COPY_TRIES):
            before = _stamp(path)
            copy = sqlite3.connect(":memory:", uri=False, isolation_level=None)
            try:
                for table in audit.TABLES.values():
                    copy.execute(table)
                with closing(database.connect_read_only(path)) as db:
                    database.check_version(db, path, None)
                    salvage.copy_audit(db, copy)
            except BaseException as error:
                copy.close()
                is_torn = isinstance(error, sqlite3.Error | StoreError)
                if not is_torn or _is_unchanged(path, before):
                    raise
                continue
            if _is_unchanged(path, before):
                return copy
            copy.close()
    raise StoreError(f"{path} changes while it is read", advice="Try again.")


def lock(path: Path) -> int:
    """Return the descriptor that holds the lock of a store. Raises StoreBusy, StoreError."""
    name = beside(path, ".lock")
    try:
        held = files.open_own(name, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        database.raise_disk_fault(path, error)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(held, LOCK_FILE_BYTES_MAX, 0).partition(b"\n")[0]
        os.close(held)
        pid = int(said) if said.isdigit() else None
        raise StoreBusy(
            f"{path} is in use by process {pid or '(unknown)'}",
            pid=pid,
            advice="Stop that process first.",
        ) from None
    with suppress(OSError):  # a full disk must not keep the device from starting
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held


def leave_note(held: int, note: bytes) -> None:
    """Write a note into the lock file whose lock is held. Raises OSError."""
    os.ftruncate(held, 0)
    os.pwrite(held, b"%d\n%s" % (os.getpid(), note), 0)


@dataclass(frozen=True, slots=True)
class Holder:
    """The content of a lock file: the process that wrote it last, its note, and whether it is held.

    `pid` is 0 at the moment when it is written.
    """

    pid: int
    note: bytes
    is_held: bool


def holder(path: Path) -> Holder | None:
    """Return what the lock file of a store says, or None without one; takes no lock.

    Raises OSError if the lock file is not a file of this user.
    """
    with suppress(FileNotFoundError):
        handle = files.open_own(beside(path, ".lock"), os.O_RDONLY)
        try:
            is_held = _is_held(os.fstat(handle).st_ino)
            said, _, note = os.pread(handle, LOCK_FILE_BYTES_MAX, 0).partition(b"\n")
        finally:
            os.close(handle)
        return Holder(int(said) if said.isdigit() else 0, note, is_held)
    return None


def _is_held(inode: int) -> bool:
    """Whether some process holds a lock on the file; to try it would take the lock for a moment."""
    for line in Path("/proc/locks").read_text("ascii").splitlines():  # proc_locks(5)
        _number, kind, *_middle, where, _start, _end = line.replace("-> ", "").split()
        if kind == "FLOCK" and "->" not in line and where.endswith(f":{inode}"):
            return True
    return False


def is_locked(path: Path, held: int) -> bool:
    """Return whether this descriptor is still the lock that another process would have to take."""
    with suppress(OSError):
        return os.path.samestat(beside(path, ".lock").stat(), os.fstat(held))
    return False


def _is_unchanged(path: Path, before: tuple[int, int] | None) -> bool:
    """True if the file did not change. With a log, SQLite itself gives a consistent copy."""
    return before is None or _stamp(path) == before


def _stamp(path: Path) -> tuple[int, int] | None:
    """A value that changes with the file; None while there is a log."""
    if beside(path, "-wal").exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size
