"""How the file of a store is opened, made and migrated; what the store promises about it is there.

- One process writes: it holds a lock on `<file>.lock`, which dies with it. The lock file stays; its
  content is only a courtesy to whoever comes second.
- A file is read as a stranger before it is opened for writing: not ours, damaged or newer than this
  software is a refusal that changes no byte. A new file is made beside its place and moved there
  whole, so an empty or half file is never mistaken for a device that nobody owns yet.
- An older file is migrated in one transaction after a copy was made beside it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from iam import audit, schema
from iam.errors import IamError, StoreBusy, StoreCorrupt, StoreError, StoreTooNew
from iam.schema import APPLICATION_ID, Content

# Primary result codes that tell of the disk, not of the file.
_DISK_FAULTS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
_COPY_TRIES: Final = 5


def open_for_writing(path: Path) -> tuple[int, sqlite3.Connection, Content]:
    """The lock (a descriptor to close at the end), the connection, and what the file holds.

    Raises StoreBusy, StoreCorrupt, StoreTooNew, StoreError (the folder cannot be used).
    """
    lock = _lock(path)
    try:
        with _explained(path):
            if not path.exists():
                _create(path)
            content = _examine(path)
            db = _connect(path, "rw")
            try:
                _migrate(db, path)
                return lock, db, content or schema.read(db.execute)
            except BaseException:
                db.close()
                raise
    except BaseException:
        os.close(lock)
        raise


def copy_of_trail(path: Path) -> sqlite3.Connection:
    """The tables of the audit trail as the disk has them now, in memory.

    It needs no lock and writes nothing, whether a writer is at work or not, and whoever reads the
    copy slowly is in nobody's way. Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    with _explained(path):
        for _ in range(_COPY_TRIES):
            before = _stamp(path)
            copy = sqlite3.connect(":memory:", uri=False, isolation_level=None)
            try:
                _copy_trail(path, copy)
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


def _lock(path: Path) -> int:
    try:
        lock = os.open(_beside(path, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        _blame_disk(path, error)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        pid = int(said) if said.isdecimal() else None
        raise StoreBusy(
            f"{path} is in use by process {pid or '(unknown)'}",
            pid=pid,
            advice="Stop that process first, or talk to it.",
        ) from None
    with suppress(OSError):  # a full disk must not keep the device from starting
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever goes wrong with the file becomes one StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        _blame_disk(path, error)
    except (sqlite3.Error, IamError, ValueError, TypeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_FAULTS:
            _blame_disk(path, error)
        _refuse(path, str(error), error)


def _blame_disk(path: Path, error: Exception) -> NoReturn:
    raise StoreError(
        f"{path} cannot be opened: {error}",
        advice="Look for a full or read-only disk, and at the permissions.",
    ) from error


def _refuse(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise StoreCorrupt(
        f"{path} is not a whole store: {why}",
        advice="It was left as it is. Put a copy in its place; moving it away forgets every user.",
    ) from cause


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _create(path: Path) -> None:
    if _beside(path, "-wal").exists():
        _refuse(path, "the file is missing, but its write-ahead log is there")
    with _draft(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _upgrade(db, 0)


@contextmanager
def _draft(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database that appears at `path` whole and durable, or not at all."""
    draft = _beside(path, ".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        _beside(draft, suffix).unlink(missing_ok=True)
    # Private from birth; SQLite gives the files beside it the same mode.
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_connect(draft, "rw")) as db:
        yield db
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """It reads the log of a crash but does not write it back. Where there is none, `immutable`
    keeps SQLite from making one."""
    return _connect(path, "ro" if _beside(path, "-wal").exists() else "ro&immutable=1")


def _check_ours(db: sqlite3.Connection, path: Path) -> int:
    """The version of the schema, if it is one that we know."""
    if _pragma(db, "application_id") != APPLICATION_ID:
        _refuse(path, "it was made by something else, or is empty")
    version, known = _pragma(db, "user_version"), len(schema.MIGRATIONS)
    if version > known:
        raise StoreTooNew(
            f"{path} has schema {version}; this version knows {known} at most",
            advice="It was left as it is. Install the version that wrote it, or a later one.",
        )
    return version


def _examine(path: Path) -> Content | None:
    """Refuse a file that is not ours, newer or damaged, without changing it.

    Returns what it holds, or None where a migration comes first.
    """
    with closing(_connect_read_only(path)) as db:
        version = _check_ours(db, path)
        # Not quick_check: with an index astray, a key that was removed could come back.
        verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok" or db.execute("PRAGMA foreign_key_check").fetchone():
            _refuse(path, str(verdict) if verdict != "ok" else "something belongs to nobody")
        return schema.read(db.execute) if version == len(schema.MIGRATIONS) else None


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if (version := _pragma(db, "user_version")) < len(schema.MIGRATIONS):
        with _draft(_beside(path, f".v{version}")) as copy:
            db.backup(copy)
        _upgrade(db, version)


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    for step in schema.MIGRATIONS[version:]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    db.execute("COMMIT")


def _copy_trail(path: Path, copy: sqlite3.Connection) -> None:
    for table in audit.TABLES.values():
        copy.execute(table)
    with closing(_connect_read_only(path)) as db:
        _check_ours(db, path)
        db.execute("BEGIN")  # one moment for all tables
        for name in audit.TABLES:
            rows = db.execute(f"SELECT * FROM {name}")  # noqa: S608 - names of ours
            copy.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)  # noqa: S608


def _is_unchanged(path: Path, before: tuple[int, int] | None) -> bool:
    """Where there was no log, nothing has kept a writer from starting meanwhile."""
    return before is None or _stamp(path) == before


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when the file does; None while there is a log, which readers may trust."""
    if _beside(path, "-wal").exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size
