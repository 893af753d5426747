"""A backup of a store: a consistent copy as one SQLite file, with a note of its maker.

SQLite copies all pages as of one moment, also while another process writes, with what is still in
that process's log. The copy is checked as a start would check it, and compared with the mark beside
the store (`iam.mark`): a backup holds nothing that the next start would not accept.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from iam import database, files, mark, restored_rows, schema, sound_store
from iam.errors import StoreError, StoreTooNew
from iam.limits import BACKUP_NOTE_CHARACTERS_MAX
from iam.model import State

_TABLE: Final = (
    "CREATE TABLE backup (one INTEGER PRIMARY KEY CHECK (one = 1), note TEXT NOT NULL) STRICT"
)


class ChangesNow(StoreError):
    """The store and its mark differ, as for a moment while a change is written."""


def copy_of(path: Path, note: str) -> tuple[bytes, State]:
    """Return the content of a backup file, and its users and invites.

    Args:
        path: the store, which another process may have open; it is not changed.
        note: what its maker says about it.

    Raises:
        ChangesNow: try again; if that does not help, the store is not sound.
        StoreError: it cannot be read, is damaged, or a later version wrote it.
    """
    with database.explained(path), files.acting_as_owner_of(path.parent):
        copy = sqlite3.connect(":memory:", uri=False, isolation_level=None)
        with closing(copy):
            with closing(database.connect_read_only(path)) as db:
                _check_version(db, path)
                db.backup(copy)
            database.accept_any_text(copy)
            if copy.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                database.raise_corrupt(path, "SQLite finds damage")
            if (state := sound_store.state_of_copy(copy, path)) is None:
                state = _compared(copy, path)
            copy.execute(_TABLE)
            copy.execute("INSERT INTO backup VALUES (1, ?)", (note,))
            copy.execute("VACUUM")  # leaves out free pages
            return copy.serialize(), state


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    try:
        database.check_version(db, path, None)
    except StoreTooNew:  # unless the mark says that this is damage
        database.check_version(db, path, mark.load_untrusted(mark.path_of(path)))


def _compared(copy: sqlite3.Connection, path: Path) -> State:
    """The state of a copy that is compared with the mark row by row. Raises ChangesNow."""
    content, marked = schema.read(copy.execute), mark.load_untrusted(mark.path_of(path))
    if not content.is_sealed or marked is None or marked.rows != content.rows:
        raise ChangesNow(
            f"{path} and its mark differ",
            advice="Start the device: it uses what both confirm. Then make the backup.",
        )
    return restored_rows.state_of_content(content.tables, content.rows)


def note_untrusted(path: Path) -> str | None:
    """Return the note in a copy of a store; None if it has none that can be read."""
    query = "SELECT substr(note, 1, ?) FROM backup WHERE typeof(note) = 'text'"
    with suppress(*database.NOT_SOUND, OSError), closing(database.connect_read_only(path)) as db:
        found = db.execute(query, (BACKUP_NOTE_CHARACTERS_MAX + 1,)).fetchone()
        if found is not None and len(found[0]) <= BACKUP_NOTE_CHARACTERS_MAX:
            return str(found[0])
    return None
