"""Open a store that agrees with its mark in everything, in one pass over its rows.

That is what every start finds but the one after a fault. No row is kept as text, so that it takes
half the time, and the memory of the state alone. If there is any doubt, nothing is decided here:
`iam.openfile` compares store and mark row by row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from sys import intern
from threading import Thread
from typing import Final, NamedTuple, cast

from iam import database, mark, restored_rows, rights, schema
from iam.audit import AuditTrail
from iam.changes import has_owner
from iam.mark import End
from iam.model import Invite, Key, State, User
from iam.recovery import AcceptedState
from iam.rights import Seal
from iam.schema import Beside

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
        said = mark.summary_untrusted(mark.path_of(path))
        if said is None or said.schema != len(schema.MIGRATIONS):
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
    state = State.of(_users(rows), _invites(rows))
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
    """Reads rows of exactly the types of their columns, and adds them up."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.total = self.characters = 0
        self._db = db

    def of(self, kind: str, order: str = "") -> Iterator[tuple[object, ...]]:
        """Yield the rows of one kind."""
        table, types = rights.TABLES[kind], restored_rows.TYPES[kind]
        row, number_of = rights.row, rights.number_of
        for values in self._db.execute(f"SELECT {table.columns} FROM {table.name}{order}"):  # noqa: S608 - constants
            if tuple(map(type, values)) not in types:
                raise _Doubt
            text = row(kind, values)
            self.total += number_of(text)
            self.characters += len(text)
            yield values


def _users(rows: _Rows) -> Iterator[User]:
    """The users with their keys, by name."""
    keys: dict[str, tuple[Key, ...]] = {}
    for values in rows.of("key"):
        owner, key = _key(cast("_KeyRow", values))
        keys[owner] = (*keys[owner], key) if owner in keys else (key,)
    for values in rows.of("user", " ORDER BY name"):
        name, role, display_name, not_before, not_after, created = cast("_UserRow", values)
        restored_rows.check_name(name)
        _check_shown(role, display_name)
        mine = keys.pop(name, ())
        if mine and mine[0].added == created:
            created = mine[0].added  # one object: most users are created with their first key
        yield User(name, intern(role), mine, display_name, not_before, not_after, created)
    if keys:
        raise _Doubt  # keys of users who do not exist


def _key(values: _KeyRow) -> tuple[str, Key]:
    fingerprint, owner, name, method, verified, added, invite, receipt = values
    _check_shown(name, method)
    if verified not in {0, 1}:
        raise _Doubt
    key = Key(fingerprint, intern(name), intern(method), verified == 1, added, invite, receipt)
    return owner, key


def _invites(rows: _Rows) -> Iterator[Invite]:
    for values in rows.of("invite"):
        if (invite := restored_rows.exact_invite(values)) is None:
            raise _Doubt
        yield invite


def _check_shown(*texts: str) -> None:
    if not all(map(str.isprintable, texts)):
        raise _Doubt


_KeyRow = tuple[str, str, str, str, int, float, str, bytes]
_UserRow = tuple[str, str, str, float | None, float | None, float]
