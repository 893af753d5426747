"""Open a store that agrees with its mark in everything, in one pass over its rows.

That is what every start finds but the one after a fault. Rows are checked in blocks and none is
kept as text, so that it takes a fraction of the time, and the memory of the state alone. If there
is any doubt, nothing is decided here: `iam.openfile` compares store and mark row by row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import zip_longest
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from iam import database, mark, restored_rows, rights, row_blocks, schema
from iam.audit import AuditTrail
from iam.changes import has_owner
from iam.late_users import FoundUsers
from iam.limits import USERS_READ_AT_ONCE
from iam.mark import End
from iam.model import Invite, State
from iam.recovery import AcceptedState
from iam.rights import Seal
from iam.schema import Beside, Row

_DOUBTFUL: Final = (*database.NOT_SOUND, *database.DISK_ERRORS)


class Sound(NamedTuple):
    """An open store: the connection, and the parts of `iam.openfile.Opened`."""

    db: sqlite3.Connection
    beside: Beside
    accepted: AcceptedState
    time_floor: float
    end: End


class _Doubt(Exception):
    """Something is not as this version would have written it."""


def open_sound(path: Path) -> Sound | None:
    """Open a store for writing if it and its mark agree, or return None."""
    try:
        if (said := _said(path)) is None:
            return None
        examination = _Examination(path)
        examination.start()
        try:
            with closing(database.connect_read_only(path)) as db:
                found = _read(db, path, said)
        finally:
            examination.join()
        if found is None or not examination.is_sound:
            return None
        return Sound(database.connect_for_writing(path), *found)
    except (_Doubt, *_DOUBTFUL):
        return None


def state_of_copy(db: sqlite3.Connection, path: Path) -> State | None:
    """Return the state of a copy of a store if it and the store's mark agree, or None.

    Args:
        db: a connection to the copy, which was examined.
        path: the store.
    """
    try:
        found = _read(db, path, said) if (said := _said(path)) is not None else None
        return None if found is None else found[1].state
    except (_Doubt, *_DOUBTFUL):
        return None
    finally:
        database.accept_any_text(db)


def _said(path: Path) -> mark.Summary | None:
    """Return the summary in the mark of a store, if this version wrote it."""
    said = mark.summary_untrusted(mark.path_of(path))
    return said if said is not None and said.schema == len(schema.MIGRATIONS) else None


class _Examination(Thread):
    """Has SQLite check the file, without the interpreter, while the rows are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="examine")
        self.is_sound = False
        self._path = path

    def run(self) -> None:
        with suppress(*_DOUBTFUL):
            database.examine(self._path, None)
            self.is_sound = True


def _read(
    db: sqlite3.Connection, path: Path, said: mark.Summary
) -> tuple[Beside, AcceptedState, float, End] | None:
    if database.check_version(db, path, None) != said.schema:
        return None
    beside = schema.read_beside(db.execute)
    db.text_factory = str  # text that is not UTF-8 raises an error
    rows = _Rows(db)
    state = _state(rows)
    if beside.attempts is None:
        return None
    label = [*rights.label_rows(beside.attempts)]
    total = rights.total_after(rows.total, label, ())
    digest = Seal(total, beside.serial, beside.had_owner).digest
    is_sealed = digest == beside.seal and digest.hex() == said.seal
    if not is_sealed or not AuditTrail(db, keep=0).holds(*said.head):
        return None
    owned = beside.had_owner or has_owner(state)
    return (
        beside,
        AcceptedState(state, frozenset(), Seal(total, beside.serial, owned)),
        max(beside.time_floor, said.time_floor),
        End(said.last, rows.characters + sum(map(len, label))),
    )


class _Rows:
    """Reads the rows of a store block by block, and adds them up."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.total = self.characters = 0
        self._db = db

    def keys(self) -> Iterator[list[Row]]:
        """Yield the rows of keys."""
        for block in self._blocks("key"):
            self._add(row_blocks.key_texts(block))
            yield block

    def users(self) -> Iterator[list[Row]]:
        """Yield the rows of users."""
        for block in self._blocks("user"):
            self._add(row_blocks.user_texts(block))
            yield block

    def invites(self) -> Iterator[Invite]:
        """Yield the invites."""
        for block in self._blocks("invite"):
            for values in block:
                if (invite := restored_rows.exact_invite(values)) is None:
                    raise _Doubt
                self._add([rights.row("invite", values)])
                yield invite

    def _blocks(self, kind: str) -> Iterator[list[Row]]:
        table = rights.TABLES[kind]
        found = self._db.execute(f"SELECT {table.columns} FROM {table.name}")  # noqa: S608 - constants
        while block := found.fetchmany(USERS_READ_AT_ONCE):
            yield block

    def _add(self, texts: list[str]) -> None:
        self.total += rights.total_of(texts)
        self.characters += sum(map(len, texts))


def _state(rows: _Rows) -> State:
    found = FoundUsers()
    # A user and its first key are mostly written together, so they are about as far down.
    for users, keys in zip_longest(rows.users(), rows.keys(), fillvalue=()):
        found.add_users(users)
        found.add_keys(keys)
    state = found.state()
    for invite in rows.invites():
        state = state.with_invite(invite)
    return state
