"""A store from a backup: made complete under another name, then put in place of the present one.

`stage` checks and migrates the copy, and writes a mark for it, so that the next start finds both in
agreement. `put` moves both into place; it can be repeated after a power cut at any step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from iam import database, files, mark, openfile, restored_rows, salvage, schema
from iam.audit import AuditTrail
from iam.database import beside
from iam.errors import StoreError
from iam.mark import Mark
from iam.model import State
from iam.rights import Seal


@dataclass(frozen=True, slots=True)
class Present:
    """The store that is to be replaced, as far as it can be read.

    Attributes:
        state: users and invites.
        attempts: the counters, or None if they are damaged.
        time_floor: the latest time that has certainly passed.
    """

    state: State
    attempts: Mapping[str, object] | None
    time_floor: float


def present(path: Path) -> Present:
    """Read the store that is to be replaced; it is not changed.

    Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    content = salvage.read_copy(path)
    state = restored_rows.state_of_content(content.tables, content.rows)
    return Present(state, content.attempts, content.time_floor)


def bytes_of(path: Path) -> bytes:
    """Return a copy of a store, with what is still in its log, as one file.

    Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    copy = sqlite3.connect(":memory:", uri=False, isolation_level=None)
    with database.explained(path), closing(copy):
        with closing(database.connect_read_only(path)) as db:
            database.check_version(db, path, None)
            database.check_sound(db, path)
            db.backup(copy)
        return copy.serialize()


def stage(path: Path, data: bytes, *, before: Path | None) -> tuple[int, str]:
    """Create a store at `path` from a copy, of this or an earlier version, and its mark.

    Args:
        path: the new store; its folder is private.
        data: the copy.
        before: the store that the same device had. If its audit trail continues that of the copy,
            the new store gets it, so that no event is lost.

    Returns:
        Number and hex digest of the newest event in the copy.

    Raises StoreCorrupt, StoreTooNew, StoreError.
    """
    with database.explained(path):
        files.atomic_write(path, data)
        database.examine(path, None)
        with closing(database.connect_for_writing(path)) as db:
            if (version := database.check_version(db, path, None)) < len(schema.MIGRATIONS):
                database.upgrade(db, version)
            db.execute("DROP TABLE IF EXISTS backup")  # the note of its maker
            trail = AuditTrail(db, keep=0)
            head = trail.head
            if before is not None and _continues(before, *head):
                with closing(database.connect_read_only(before)) as old:
                    db.execute("BEGIN")
                    salvage.copy_audit(old, db)
                    db.execute("COMMIT")
            content = schema.read(db.execute)
            if not content.is_sealed:
                database.raise_corrupt(path, "its users and keys are not those that were written")
            seal = Seal(content.total, content.serial, content.had_owner)
            mark_of_it = Mark(path, schema=len(schema.MIGRATIONS))
            mark_of_it.write(content.rows, seal, trail.head, content.time_floor)
        return head


def _continues(path: Path, seq: int, digest: str) -> bool:
    """Return whether the audit trail of a store continues after this event of a copy."""
    try:
        with openfile.read_audit(path) as trail:
            last, _ = trail.head
            return seq <= last and trail.holds(seq, digest) and trail.verify() is None
    except StoreError:
        return False


def keep_present(path: Path) -> Path | None:
    """Copy the present store, its log and its mark to `<file>.before-restore`.

    An earlier copy of that name is replaced. Returns its path, or None if there is no store. Raises
    StoreError.
    """
    with database.explained(path):
        if not path.exists():
            return None
        salvage.remove(path, salvage.BEFORE_RESTORE)
        salvage.keep(path, salvage.BEFORE_RESTORE)
    return beside(path, salvage.BEFORE_RESTORE)


def put(staged: Path, path: Path) -> None:
    """Move a staged store and its mark into place; a second call finishes the first.

    The caller holds the lock of `path`. Raises OSError.
    """
    if not staged.exists():
        return
    for suffix in database.BESIDE[1:]:  # SQLite would apply the log of the old file to the new one
        beside(path, suffix).unlink(missing_ok=True)
    if mark.path_of(staged).exists():
        mark.path_of(staged).replace(mark.path_of(path))
    staged.replace(path)
    files.sync(path.parent)
