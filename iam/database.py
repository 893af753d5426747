"""The SQLite side of a store: connect to one file, create, check and migrate it.

A file is opened read-only and checked before it is opened for writing. A new file is made under
another name and moved into place whole, so an empty or half-written file is never mistaken for a
new device. A file of an older version is migrated in one transaction, after a copy was made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NoReturn

from iam import files, schema
from iam.errors import IamError, StoreCorrupt, StoreError, StoreTooNew
from iam.limits import STORE_BUSY_MILLISECONDS
from iam.mark import Marked
from iam.schema import APPLICATION_ID

BESIDE: Final = ("", "-wal", "-shm", "-journal")  # the files that SQLite keeps for one
#: The errors of using a sound file if the disk fails.
DISK_ERRORS: Final = (sqlite3.Error, OSError)
#: The errors of reading a damaged file.
NOT_SOUND: Final = (sqlite3.Error, IamError, ValueError, TypeError)
# Primary result codes of a fault of the disk, not of the file.
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
_FORMATS: Final = (b"\1\1", b"\2\2")  # bytes 18 and 19: rollback journal, write-ahead log


def beside(path: Path, suffix: str) -> Path:
    """Return the file with this suffix to its name."""
    return path.with_name(path.name + suffix)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn any error about the file into one StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise_disk_fault(path, error)
    except NOT_SOUND as error:
        if is_disk_fault(error):
            raise_disk_fault(path, error)
        raise_corrupt(path, str(error), error)


def is_disk_fault(error: Exception) -> bool:
    """Return whether SQLite failed because of the disk or the folder, not the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_FAULTS


def reason(error: Exception) -> str:
    """Return why the disk or the folder failed, without the number of the error and the path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def raise_disk_fault(path: Path, error: Exception) -> NoReturn:
    """Raise StoreError for a fault of the disk or the folder."""
    named = error.filename if isinstance(error, OSError) else None
    raise StoreError(
        f"{named or path} cannot be opened: {reason(error)}",
        advice="Check for a full or read-only disk, and the permissions of the folder.",
    ) from error


def raise_corrupt(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    """Raise StoreCorrupt: `why` this is not a store that can be used."""
    raise StoreCorrupt(
        f"{path} is not a complete store: {why}", advice="It was left as it is. Use another copy."
    ) from cause


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect in autocommit mode. `mode` is SQLite's: ro or rw."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    accept_any_text(db)
    return db


def accept_any_text(db: sqlite3.Connection) -> None:
    """Accept text that is not UTF-8, so that one damaged name does not hide all others."""
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Connect for reading; the log of a crash is read but not written back.

    If there is no log, `immutable` keeps SQLite from creating one.
    """
    return connect(path, "ro" if beside(path, "-wal").exists() else "ro&immutable=1")


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Connect for commits that wait for the disk; deleted content is overwritten."""
    db = connect(path, "rw")
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            f"busy_timeout = {STORE_BUSY_MILLISECONDS}",
        ):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def create(path: Path) -> None:
    """Create a store without users."""
    with draft(path) as db:
        begin(db)


def begin(db: sqlite3.Connection) -> None:
    """Turn an empty database into a store."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    upgrade(db, 0)


@contextmanager
def draft(path: Path) -> Iterator[sqlite3.Connection]:
    """Make a new database that appears at `path` whole and durable, or not at all."""
    new = beside(path, ".new")
    for suffix in BESIDE:
        beside(new, suffix).unlink(missing_ok=True)
    # Created with mode 0600, or that of a file that it replaces; SQLite gives the files beside it
    # the same mode.
    handle = files.open_own(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    files.take_over(handle, path)
    os.close(handle)
    with closing(connect(new, "rw")) as db:
        yield db
    files.sync(new)
    new.rename(path)
    files.sync(path.parent)


def examine(path: Path, marked: Marked | None) -> None:
    """Check that the file is a sound store; it is not changed.

    Raises StoreCorrupt, StoreTooNew or sqlite3.Error.
    """
    with closing(connect_read_only(path)) as db:
        check_version(db, path, marked)
        check_sound(db, path)


def check_version(db: sqlite3.Connection, path: Path, marked: Marked | None) -> int:
    """Return the version of the schema. Raises StoreCorrupt, StoreTooNew.

    A later version in a file whose mark has a known one is damage.
    """
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise_corrupt(path, "another program made it, or it is empty")
    version, known = _pragma(db, "user_version"), len(schema.MIGRATIONS)
    if version > known:
        if marked is not None and marked.schema <= known:
            raise_corrupt(path, f"it claims to have schema {version}")
        raise StoreTooNew(
            f"{path} has schema {version}; this version supports {known} at most",
            advice="It was left as it is. Install the version that wrote it, or a later one."
            + _older_copy(path, known),
        )
    return version


def _older_copy(path: Path, version: int) -> str:
    """Name the copy that the migration from this version has made, if it is there."""
    copy = beside(path, f".v{version}")
    if not copy.exists():
        return ""
    return f" {copy} is the store as it was before: users who were removed since then are in it."


def check_sound(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreCorrupt for damage that SQLite detects."""
    with path.open("rb") as file:
        if file.read(20)[18:] not in _FORMATS:
            raise_corrupt(path, "its header is damaged")  # SQLite would take it for read-only
    # quick_check does not compare an index with its table, and a wrong index can restore a key.
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok" or db.execute("PRAGMA foreign_key_check").fetchone():
        raise_corrupt(
            path, str(verdict) if verdict != "ok" else "a row refers to a user who does not exist"
        )


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Migrate a file of an older version, after a copy was made as `<file>.v<version>`.

    Copies of earlier migrations are removed: they hold users who were removed long ago.
    """
    if (version := _pragma(db, "user_version")) < len(schema.MIGRATIONS):
        with draft(beside(path, f".v{version}")) as copy:
            db.backup(copy)
        upgrade(db, version)
        for number in range(version):
            for suffix in BESIDE:
                beside(path, f".v{number}{suffix}").unlink(missing_ok=True)


def upgrade(db: sqlite3.Connection, version: int) -> None:
    """Run the migrations from this version on, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    for step in schema.MIGRATIONS[version:]:
        for statement in step:
            db.execute(statement)
    if version < schema.SEALED_FROM:
        schema.seal_migrated(db.execute)
    db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    db.execute("COMMIT")
