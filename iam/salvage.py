"""Reading what is sound from a damaged store, and replacing its file.

The replaced file is kept as `<file>.aside`, with its log and its mark, until a person decides about
it. A second replacement before that keeps the first copy, which is more complete.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from iam import audit, database, files, mark, rights, schema
from iam.audit import AuditTrail
from iam.database import beside
from iam.errors import StoreError
from iam.mark import Marked
from iam.model import State
from iam.recovery import AcceptedState
from iam.schema import Content

ASIDE: Final = ".aside"
REPLACED: Final = ".replaced"  # what was in force before a copy was restored
INCOMING: Final = ".incoming"  # a copy that is about to be restored
BEFORE_RESTORE: Final = ".before-restore"  # what was in force before a whole store was restored
_log = logging.getLogger(__name__)


def aside_of(path: Path) -> Path:
    """Return the path of the copy of a store that was not sound."""
    return beside(path, ASIDE)


def replaced_of(path: Path) -> Path:
    """Return the path of the store that was in force before a copy was restored."""
    return beside(path, REPLACED)


def incoming_of(path: Path) -> Path:
    """Return the path of a copy that is about to be restored."""
    return beside(path, INCOMING)


def salvaged(path: Path) -> Content | None:
    """Return what can still be read of a file that is not sound, or None.

    None of it is trusted: only what the mark confirms is used.
    """
    with suppress(*database.NOT_SOUND, OSError), closing(database.connect_read_only(path)) as db:
        return schema.read(db.execute)
    return None


def read_copy(path: Path) -> Content:
    """Return what a copy of a store holds, of this or an earlier version; it is not changed.

    Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    if not path.exists():
        raise StoreError(f"there is no file {path}", advice="Give the path of a copy.")
    copy = sqlite3.connect(":memory:", uri=False, isolation_level=None)
    with database.explained(path), closing(copy):
        with closing(database.connect_read_only(path)) as db:
            version = database.check_version(db, path, None)
            database.check_sound(db, path)
            db.backup(copy)
        database.accept_any_text(copy)
        if version < len(schema.MIGRATIONS):
            database.upgrade(copy, version)
        return schema.read(copy.execute)


def replace(
    path: Path, content: Content | None, marked: Marked | None, accepted: AcceptedState
) -> None:
    """Replace the file by a new one that holds the accepted state.

    Raises OSError, sqlite3.Error; then the old file is there, or its copy and its mark are.
    """
    keep(path, ASIDE)
    with database.draft(path) as db:
        database.begin(db)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("BEGIN")
        _fill(db, content, marked, accepted)
        _fill_audit(db, path, marked)
        db.execute("COMMIT")
        # The log of the old file must not be there when the new one is: SQLite would apply it.
        for suffix in database.BESIDE[1:]:
            beside(path, suffix).unlink(missing_ok=True)


def keep(path: Path, suffix: str) -> None:
    """Copy the file, its log and its mark to names with this suffix, unless there is a copy."""
    kept = beside(path, suffix)
    if kept.exists():
        return
    for found, to in (
        (beside(path, "-wal"), beside(kept, "-wal")),
        (mark.path_of(path), mark.path_of(kept)),
        (path, kept),  # last: it shows that the copy is complete
    ):
        with suppress(FileNotFoundError):
            data = files.read_own(found)
            if data or found == path:
                files.atomic_write(to, data)


def remove(path: Path, *suffixes: str) -> None:
    """Remove copies that `keep` has made."""
    for suffix in suffixes:
        kept = beside(path, suffix)
        for one in (mark.path_of(kept), *(beside(kept, each) for each in database.BESIDE)):
            one.unlink(missing_ok=True)


def remove_copies(path: Path) -> None:
    """Remove every copy of the store that this module or a migration has left beside it."""
    older = [f".v{number}" for number in range(len(schema.MIGRATIONS))]
    remove(path, ASIDE, REPLACED, INCOMING, BEFORE_RESTORE, *older)


def _fill(
    db: sqlite3.Connection, content: Content | None, marked: Marked | None, accepted: AcceptedState
) -> None:
    for statement, rows in schema.writes(State.of(()), accepted.state):
        db.executemany(statement, rows)
    label = rights.label_rows((content.attempts if content else None) or {})
    if content is None or content.attempts is None:
        db.execute(schema.WRITE_ATTEMPTS, ("", b""))  # lost: see `schema.Content.attempts`
    else:
        kept = dict(content.attempts)
        if not set(label) <= accepted.rows:
            kept.pop(rights.LABEL, None)
        schema.write_attempts(db.execute, kept)
    time_floors = [content.time_floor if content else 0.0, marked.time_floor if marked else 0.0]
    schema.write_time_floor(db.execute, max(time_floors))
    if content is not None:
        known = accepted.state.user_name_by_key
        seen = [(key, at) for key, at in content.seen.items() if key in known]
        db.executemany(schema.WRITE_SEEN, seen)
    recovery = accepted.recovery.record() if accepted.recovery else ""
    schema.write_rights(db.execute, accepted.seal, recovery)


def _fill_audit(db: sqlite3.Connection, path: Path, marked: Marked | None) -> None:
    """Copy the events of the old file as far as they can be read, with their numbers.

    A broken chain stays broken, so that `verify` finds the break.
    """
    trail = AuditTrail(db, keep=0)
    try:
        with closing(database.connect_read_only(path)) as old:
            copy_audit(old, db)
        trail.holds(*trail.head)
        return
    except (*database.NOT_SOUND, OSError) as error:
        if path.exists():  # a missing store is reported as a whole
            _log.warning("the audit trail of the damaged store cannot be read: %s", error)
    trail.clear()
    if marked is not None:
        trail.begin_at(*marked.head)


def copy_audit(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy the tables of the audit trail into another database, as of one moment."""
    old.execute("BEGIN")
    for name in audit.TABLES:
        new.execute(f"DELETE FROM {name}")  # noqa: S608 - constant names
        rows: Iterable[tuple[object, ...]] = old.execute(f"SELECT * FROM {name}")  # noqa: S608
        new.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)  # noqa: S608
    old.execute("ROLLBACK")
