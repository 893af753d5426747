"""The tables of a store: their history, what they hold, and how a change is written.

This module has SQL texts and values; `iam.openfile` and `iam.store` execute them. A released
migration never changes, because existing files were migrated by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from types import MappingProxyType
from typing import Final

from iam import audit, restored_rows, rights
from iam.model import State, differing, differing_invites
from iam.rights import Seal

APPLICATION_ID: Final = 0x48464E44  # "HFND"

Row = tuple[object, ...]
Query = Callable[[str], Iterable[Row]]
Execute = Callable[[str, Row], Iterable[Row]]

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
    (
        # No inviter: a person at the device.
        """CREATE TABLE invites (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, expires REAL NOT NULL,
            uses INTEGER NOT NULL, used INTEGER NOT NULL, created REAL NOT NULL,
            inviter TEXT REFERENCES users (name), key TEXT NOT NULL, not_after REAL) STRICT""",
        "CREATE INDEX invites_of_user ON invites (inviter)",
        "ALTER TABLE keys ADD COLUMN invite TEXT NOT NULL DEFAULT ''",
        # Apart from the keys, so that a moment of use touches nothing that rights depend on.
        "CREATE TABLE seen (fingerprint TEXT PRIMARY KEY, at REAL NOT NULL) STRICT",
        """CREATE TABLE clock (
            one INTEGER PRIMARY KEY CHECK (one = 1), floor REAL NOT NULL) STRICT""",
        "INSERT INTO clock VALUES (1, 0.0)",
    ),
    ("ALTER TABLE keys ADD COLUMN receipt BLOB NOT NULL DEFAULT x''",),
    (
        # Damage to what rights depend on is noticed by the seal; see `iam.rights`.
        """CREATE TABLE rights (
            one INTEGER PRIMARY KEY CHECK (one = 1), serial INTEGER NOT NULL,
            had_owner INTEGER NOT NULL, seal BLOB NOT NULL, recovery TEXT NOT NULL) STRICT""",
        "INSERT INTO rights VALUES (1, 0, 0, zeroblob(32), '')",
        "ALTER TABLE attempts ADD COLUMN digest BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE clock ADD COLUMN digest BLOB NOT NULL DEFAULT x''",
    ),
)
SEALED_FROM: Final = 4  # the first version with digests; `seal_migrated` writes those of older ones

WRITE_ATTEMPTS: Final = "UPDATE attempts SET body = ?, digest = ?"
WRITE_SEEN: Final = (
    "INSERT INTO seen (fingerprint, at) VALUES (?, ?)"
    " ON CONFLICT (fingerprint) DO UPDATE SET at = excluded.at"
)
CUT_SEEN: Final = "UPDATE seen SET at = ? WHERE at > ?"
FORGET_SEEN: Final = "DELETE FROM seen WHERE fingerprint = ?"

_WRITE_USER: Final = (
    "INSERT INTO users (name, role, display_name, not_before, not_after, created)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " role = excluded.role, display_name = excluded.display_name,"
    " not_before = excluded.not_before, not_after = excluded.not_after,"
    " created = excluded.created"
)
_WRITE_KEY: Final = (
    "INSERT INTO keys (fingerprint, user, name, method, verified, added, invite, receipt)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_WRITE_INVITE: Final = (
    "INSERT INTO invites (id, name, role, expires, uses, used, created, inviter, key, not_after)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """The contents of a store beside users, keys, invites and events; none of it is trusted yet.

    Attributes:
        serial: the number of the last commit that changed rights.
        had_owner: whether there has been an owner.
        seal: the digest of the rows with both (`iam.rights.Seal`).
        recovery: the record of what was wrong with the store, or empty.
        attempts: the counters, or None if they are damaged.
        seen: when each key was last in use.
        time_floor: seconds since 1970 that have certainly passed; 0 if it is damaged.
    """

    serial: int
    had_owner: bool
    seal: bytes
    recovery: str
    attempts: Mapping[str, object] | None
    seen: dict[str, float]
    time_floor: float


@dataclass(frozen=True, slots=True)
class Content(Beside):
    """All of a store except the audit trail, as the tables have it; none of it is trusted yet.

    Attributes:
        rows: users, keys, invites and the label's record (`iam.rights`).
        tables: the values of users, keys and invites.
        total: the total of the rows.
        is_sealed: the rows are those that were written with `serial` and `had_owner`.
    """

    rows: frozenset[str]
    tables: restored_rows.Tables
    total: int
    is_sealed: bool


def read_beside(query: Query) -> Beside:
    """Return what the other tables hold. Raises as `read`."""
    [(serial, had_owner, seal, recovery)] = query(
        "SELECT serial, had_owner, seal, recovery FROM rights"
    )
    if not (isinstance(serial, int) and isinstance(recovery, str) and isinstance(seal, bytes)):
        serial, had_owner, seal, recovery = 0, True, b"", ""
    rows = query("SELECT fingerprint, at FROM seen")
    seen = {key: at for key, at in rows if isinstance(key, str) and isinstance(at, float)}
    return Beside(
        serial, bool(had_owner), seal, recovery, _attempts(query), seen, _time_floor(query)
    )


def read(query: Query) -> Content:
    """Return what the tables hold.

    An invalid row is not an error here: the seal shows that something is wrong. Raises ValueError,
    TypeError or sqlite3.Error if the tables cannot be read.
    """
    beside, tables = read_beside(query), _tables(query)
    rows = frozenset([*_rows(tables), *rights.label_rows(beside.attempts or {})])
    found = Seal(rights.total_of(rows), beside.serial, beside.had_owner)
    return Content(
        beside.serial,
        beside.had_owner,
        beside.seal,
        beside.recovery,
        beside.attempts,
        beside.seen,
        beside.time_floor,
        rows=rows,
        tables=tables,
        total=found.total,
        is_sealed=found.digest == beside.seal,
    )


def _tables(query: Query) -> restored_rows.Tables:
    return {
        kind: list(query(f"SELECT {table.columns} FROM {table.name}"))  # noqa: S608 - constant names
        for kind, table in rights.TABLES.items()
    }


def _rows(tables: restored_rows.Tables) -> Iterator[str]:
    for kind, listed in tables.items():
        for values in listed:
            yield rights.row(kind, tuple(values))


def _attempts(query: Query) -> Mapping[str, object] | None:
    [(body, digest)] = query("SELECT body, digest FROM attempts")
    if not isinstance(body, str) or digest != _digest_of(body):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return MappingProxyType(found) if isinstance(found, dict) else None


def _time_floor(query: Query) -> float:
    [(time_floor, digest)] = query("SELECT floor, digest FROM clock")
    if not isinstance(time_floor, float) or digest != _digest_of(time_floor):
        return 0.0
    return time_floor if isfinite(time_floor) else 0.0


def as_stored(attempts: Mapping[str, object]) -> Mapping[str, object]:
    """Return the counters as they are read back. Raises ValueError as `write_attempts` does."""
    return MappingProxyType(json.loads(json.dumps(dict(attempts), allow_nan=False)))


def write_attempts(execute: Execute, attempts: Mapping[str, object]) -> None:
    """Replace the counters. Raises ValueError for what JSON cannot express."""
    body = json.dumps(dict(attempts), allow_nan=False)
    execute(WRITE_ATTEMPTS, (body, _digest_of(body)))


def write_time_floor(execute: Execute, time_floor: float) -> None:
    """Replace the time floor."""
    time_floor = float(time_floor)
    execute("UPDATE clock SET floor = ?, digest = ?", (time_floor, _digest_of(time_floor)))


def write_last_seen(
    execute: Execute, rows: Iterable[tuple[str, float]], time_floor: float | None
) -> None:
    """Write times of last use, and the time floor unless it is None."""
    for row in rows:
        execute(WRITE_SEEN, row)
    if time_floor is not None:
        write_time_floor(execute, time_floor)


def write_rights(execute: Execute, seal: Seal, recovery: str) -> None:
    """Replace the seal over the rows, and the record of what was wrong with the store."""
    statement = "UPDATE rights SET serial = ?, had_owner = ?, seal = ?, recovery = ?"
    execute(statement, (seal.serial, int(seal.had_owner), seal.digest, recovery))


def seal_migrated(execute: Execute) -> None:
    """Write the digests of a store from a version that had none."""

    def query(statement: str) -> Iterable[Row]:
        return execute(statement, ())

    [(body,)], [(time_floor,)] = (
        query("SELECT body FROM attempts"),
        query("SELECT floor FROM clock"),
    )
    if not isinstance(time_floor, float):
        raise TypeError("the time floor is not a number")
    execute(WRITE_ATTEMPTS, (body, _digest_of(body)))
    write_time_floor(execute, time_floor)
    rows = frozenset([*_rows(_tables(query)), *rights.label_rows(_attempts(query) or {})])
    has_users = any(True for _ in query("SELECT 1 FROM users"))
    write_rights(execute, Seal(rights.total_of(rows), 0, has_users), "")


def _digest_of(value: object) -> bytes:
    """The digest beside the attempts and the time floor, which reveals damage to them."""
    return sha256(repr(value).encode("utf-8", "surrogateescape")).digest()


def writes(old: State, new: State) -> Iterator[tuple[str, list[Row]]]:
    """Yield the statements, each with its rows, that turn the rows of `old` into those of `new`.

    Deletions come first, because a key or a name can go from one user to another in one commit; and
    no row ever refers to a user who does not exist.
    """
    users, invites = list(differing(old, new)), list(differing_invites(old, new))
    # Dicts, not sets: keys are written in the order of their users, as they are read again.
    old_keys = {(key, before.name): None for before, _ in users if before for key in before.keys}
    new_keys = {(key, after.name): None for _, after in users if after for key in after.keys}
    yield "DELETE FROM invites WHERE id = ?", [(before.id,) for before, _ in invites if before]
    yield (
        "DELETE FROM keys WHERE fingerprint = ?",
        [(one[0].fingerprint,) for one in old_keys if one not in new_keys],
    )
    yield (
        "DELETE FROM users WHERE name = ?",
        [(before.name,) for before, after in users if before and not after],
    )
    yield _WRITE_USER, [rights.user_values(after) for _, after in users if after]
    yield _WRITE_KEY, [rights.key_values(*one) for one in new_keys if one not in old_keys]
    yield _WRITE_INVITE, [rights.invite_values(after) for _, after in invites if after]
