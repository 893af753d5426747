"""The state on disk: one SQLite file with users, keys, attempt counters and the audit trail.

Invariants:

- `Store.state` is what the disk holds. `commit` returns after the disk has it (WAL,
  synchronous=FULL) or raises, and then neither has changed. State, counters and events of one
  commit go together or not at all.
- One process writes: it holds a lock on `<file>.lock`, which dies with it. The lock file stays; its
  content is only a courtesy to whoever comes second.
- A file is read as a stranger before it is opened for writing: not ours, damaged or newer than this
  software is a refusal that changes no byte. A new file is made beside its place and moved there
  whole, so an empty or half file is never mistaken for a device that nobody owns yet.
- An older file is migrated in one transaction after a copy was made beside it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from iam import audit
from iam.audit import Event, Trail
from iam.errors import (
    IamError,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
    StoreWriteFailed,
)
from iam.model import Key, State, User, differing

APPLICATION_ID: Final = 0x48464E44  # "HFND"
EVENTS_KEPT: Final = 10_000

# MIGRATIONS[n] leads from schema version n to n + 1; version 0 is the empty file.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE users (
            name TEXT PRIMARY KEY, role TEXT NOT NULL, display_name TEXT NOT NULL,
            not_before REAL, not_after REAL, created REAL NOT NULL) STRICT""",
        """CREATE TABLE keys (
            fingerprint TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name),
            name TEXT NOT NULL, method TEXT NOT NULL,
            verified INTEGER NOT NULL, added REAL NOT NULL) STRICT""",
        "CREATE INDEX keys_of_user ON keys (user)",
        "CREATE TABLE attempts (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL)",
        "INSERT INTO attempts VALUES (1, '{}')",
        *audit.SCHEMA,
    ),
)

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

log = logging.getLogger(__name__)


class Store:
    """The open store. Used from the thread that opened it."""

    def __init__(self, path: Path, lock: int, db: sqlite3.Connection, *, keep_events: int) -> None:
        """For `open` only."""
        self.path = path
        self.trail = Trail(db, keep=keep_events)
        self._lock = lock
        self._db = db
        self._state = _load_state(db)
        self._attempts = _load_attempts(db)
        self._watchers: list[Callable[[State, State], None]] = []

    @classmethod
    def open(cls, path: Path, *, keep_events: int = EVENTS_KEPT) -> Store:
        """Open the file, or make it if there is none. `keep_events` bounds the audit trail.

        Raises StoreBusy, StoreCorrupt, StoreTooNew, StoreError (the folder cannot be used).
        """
        lock = _lock(path)
        try:
            with _explained(path):
                if not path.exists():
                    _create(path)
                _examine(path)
                db = _connect(path, "rw")
                try:
                    _migrate(db, path)
                    return cls(path, lock, db, keep_events=keep_events)
                except BaseException:
                    db.close()
                    raise
        except BaseException:
            os.close(lock)
            raise

    @property
    def state(self) -> State:
        return self._state

    @property
    def attempts(self) -> Mapping[str, object]:
        """The counters last committed: small JSON-able values, never a code."""
        return self._attempts

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make `new` the state, append the events and replace the counters, all or nothing.

        Only rows that differ are written. Raises StoreWriteFailed; then nothing has changed
        anywhere. Watchers are called after it is durable, and only if the state did change.
        """
        old = self._state
        changes = list(differing(old, new))
        if not changes and not events and attempts is None:
            return
        body = json.dumps(dict(self._attempts if attempts is None else attempts), allow_nan=False)
        with self._transaction():
            _write_users(self._db, changes)
            if attempts is not None:
                self._db.execute("UPDATE attempts SET body = ?", (body,))
            for event in events:
                self.trail.append(event)
        self._attempts = MappingProxyType(json.loads(body))
        if changes:
            self._state = new
            self._tell(old, new)

    def subscribe(self, watcher: Callable[[State, State], None]) -> Callable[[], None]:
        """Call `watcher(old, new)` after each change of the state; returns what ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def close(self) -> None:
        """Close the file and give up the lock; a second call does nothing."""
        if self._lock >= 0:
            self._db.close()
            os.close(self._lock)
            self._lock = -1

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

    def _tell(self, old: State, new: State) -> None:
        for watcher in tuple(self._watchers):
            try:
                watcher(old, new)
            except Exception:
                # The change is durable: to its author it must not look as if it had failed.
                log.exception("a watcher of the store failed")


def _write_users(db: sqlite3.Connection, changes: list[tuple[User | None, User | None]]) -> None:
    """Deletions first, for a key or a name may go from one user to another in one commit."""
    old_keys = {(k, before.name) for before, _ in changes if before for k in before.keys}
    new_keys = {(k, after.name) for _, after in changes if after for k in after.keys}
    db.executemany(
        "DELETE FROM keys WHERE fingerprint = ?", [(k.fingerprint,) for k, _ in old_keys - new_keys]
    )
    db.executemany(
        "DELETE FROM users WHERE name = ?", [(b.name,) for b, after in changes if b and not after]
    )
    db.executemany(
        "INSERT INTO users (name, role, display_name, not_before, not_after, created)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " role = excluded.role, display_name = excluded.display_name,"
        " not_before = excluded.not_before, not_after = excluded.not_after,"
        " created = excluded.created",
        [
            (u.name, u.role, u.display_name, u.not_before, u.not_after, u.created)
            for _, u in changes
            if u
        ],
    )
    db.executemany(
        "INSERT INTO keys (fingerprint, user, name, method, verified, added)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (k.fingerprint, user, k.name, k.method, int(k.verified), k.added)
            for k, user in new_keys - old_keys
        ],
    )


def _load_state(db: sqlite3.Connection) -> State:
    keys: dict[str, list[Key]] = {}
    for user, fingerprint, name, method, verified, added in db.execute(
        "SELECT user, fingerprint, name, method, verified, added FROM keys"
    ):
        key = Key(fingerprint, name, method, bool(verified), added)
        keys.setdefault(user, []).append(key)
    return State.of(
        User(name, role, tuple(keys.get(name, ())), *rest)
        for name, role, *rest in db.execute(
            "SELECT name, role, display_name, not_before, not_after, created FROM users"
        )
    )


def _load_attempts(db: sqlite3.Connection) -> Mapping[str, object]:
    (body,) = db.execute("SELECT body FROM attempts").fetchone()
    return MappingProxyType(dict(json.loads(body)))


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


def _examine(path: Path) -> None:
    """Refuse a file that is not ours, newer or damaged, without changing it.

    A read-only connection reads the write-ahead log of a crash but does not write it back. Where
    there is none, `immutable` keeps SQLite from making one.
    """
    mode = "ro" if _beside(path, "-wal").exists() else "ro&immutable=1"
    with closing(_connect(path, mode)) as db:
        if _pragma(db, "application_id") != APPLICATION_ID:
            _refuse(path, "it was made by something else, or is empty")
        version, known = _pragma(db, "user_version"), len(MIGRATIONS)
        if version > known:
            raise StoreTooNew(
                f"{path} has schema {version}; this version knows {known} at most",
                advice="It was left as it is. Install the version that wrote it, or a later one.",
            )
        # Not quick_check: with an index astray, a key that was removed could come back.
        verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok" or db.execute("PRAGMA foreign_key_check").fetchone():
            _refuse(path, str(verdict) if verdict != "ok" else "a key belongs to nobody")
        if version == known:
            _load_state(db)
            _load_attempts(db)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if (version := _pragma(db, "user_version")) < len(MIGRATIONS):
        with _draft(_beside(path, f".v{version}")) as copy:
            db.backup(copy)
        _upgrade(db, version)


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    for step in MIGRATIONS[version:]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute("COMMIT")
