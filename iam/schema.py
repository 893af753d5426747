"""The tables of a store: how they came to be, a state as their rows, and their rows as a state.

Only texts and values: `iam.openfile` and `iam.store` run them. A migration never changes once it
is released, for files in the field have passed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

from iam import audit
from iam.model import Invite, Key, State, User, differing, differing_invites

APPLICATION_ID: Final = 0x48464E44  # "HFND"

Row = tuple[object, ...]
Query = Callable[[str], Iterable[tuple[Any, ...]]]

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
        # No inviter: whoever stood at the board.
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
)

WRITE_ATTEMPTS: Final = "UPDATE attempts SET body = ?"
WRITE_CLOCK: Final = "UPDATE clock SET floor = ?"
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
class Content:
    """All of a store but the trail. `floor`: seconds since 1970 that have passed for certain."""

    state: State
    attempts: Mapping[str, object]
    seen: dict[str, float]
    floor: float


def read(query: Query) -> Content:
    """What the tables hold; raises ValueError, TypeError or IamError if that makes no sense."""
    state = State.of(_users(query), _invites(query))
    [(body,)] = query("SELECT body FROM attempts")
    [(floor,)] = query("SELECT floor FROM clock")
    if not isfinite(floor):
        raise ValueError("the clock's floor is no time")
    seen = {
        fingerprint: at
        for fingerprint, at in query("SELECT fingerprint, at FROM seen")
        if fingerprint in state.owner_of_key
    }
    return Content(state, MappingProxyType(dict(json.loads(body))), seen, floor)


def _users(query: Query) -> Iterator[User]:
    keys: dict[str, list[Key]] = {}
    for user, fingerprint, name, method, verified, *rest in query(
        "SELECT user, fingerprint, name, method, verified, added, invite, receipt FROM keys"
    ):
        key = Key(fingerprint, name, method, bool(verified), *rest)
        keys.setdefault(user, []).append(key)
    for name, role, *rest in query(
        "SELECT name, role, display_name, not_before, not_after, created FROM users"
    ):
        yield User(name, role, tuple(keys.get(name, ())), *rest)


def _invites(query: Query) -> Iterator[Invite]:
    for one, name, role, expires, uses, used, created, inviter, key, not_after in query(
        "SELECT id, name, role, expires, uses, used, created, inviter, key, not_after FROM invites"
    ):
        yield Invite(one, name, role, expires, uses, created, inviter or "", key, not_after, used)


def writes(old: State, new: State) -> Iterator[tuple[str, list[Row]]]:
    """What makes the rows of `old` those of `new`: statements with the rows to run each on.

    Deletions first, for a key or a name may go from one user to another in one commit; and nothing
    ever refers to a user who is not there.
    """
    users, invites = list(differing(old, new)), list(differing_invites(old, new))
    old_keys = {(key, before.name) for before, _ in users if before for key in before.keys}
    new_keys = {(key, after.name) for _, after in users if after for key in after.keys}
    yield "DELETE FROM invites WHERE id = ?", [(before.id,) for before, _ in invites if before]
    yield (
        "DELETE FROM keys WHERE fingerprint = ?",
        [(key.fingerprint,) for key, _ in old_keys - new_keys],
    )
    yield (
        "DELETE FROM users WHERE name = ?",
        [(before.name,) for before, after in users if before and not after],
    )
    yield _WRITE_USER, [_user_row(after) for _, after in users if after]
    yield _WRITE_KEY, [_key_row(key, user) for key, user in new_keys - old_keys]
    yield _WRITE_INVITE, [_invite_row(after) for _, after in invites if after]


def _user_row(user: User) -> Row:
    return (
        user.name,
        user.role,
        user.display_name,
        user.not_before,
        user.not_after,
        user.created,
    )


def _key_row(key: Key, user: str) -> Row:
    return (
        key.fingerprint,
        user,
        key.name,
        key.method,
        int(key.verified),
        key.added,
        key.invite,
        key.receipt,
    )


def _invite_row(invite: Invite) -> Row:
    return (
        invite.id,
        invite.name,
        invite.role,
        invite.expires,
        invite.uses,
        invite.used,
        invite.created,
        invite.inviter or None,
        invite.key,
        invite.not_after,
    )
