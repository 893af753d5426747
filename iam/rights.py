"""What rights depend on, as rows of text: users, keys, invites and the label's record.

A row is a JSON array: its kind, then the columns of its table. The same rows are what the store's
seal is computed over and what the mark beside it lists (`iam.mark`), so a store that is damaged or
older than its mark can be compared with it row by row.

The total of rows is the sum of their SHA-256 digests modulo 2^256: it does not depend on the order,
and a change costs what it changes. It finds damage; whoever may write the file can compute it too.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from iam.errors import IamError
from iam.model import Invite, Key, State, User, differing, differing_invites

LABEL: Final = "label"  # the entry of the attempts that lets somebody in: the label's verifiers
_MODULUS: Final = 1 << 256
#: What a row raises whose columns are of other kinds than the table's, as in a damaged file.
_SENSELESS: Final = (IamError, TypeError, ValueError, AttributeError, OverflowError)
Values = tuple[object, ...]


class Table(NamedTuple):
    """Where rows of a kind are: a table and its columns, in the order of the row."""

    name: str
    columns: str


#: Seals and marks of stores in the field are over these columns. A migration that adds one has to
#: leave it out here, or to seal anew and let `iam.mark` add it to the rows of older marks.
TABLES: Final = {
    "user": Table("users", "name, role, display_name, not_before, not_after, created"),
    "key": Table("keys", "fingerprint, user, name, method, verified, added, invite, receipt"),
    "invite": Table(
        "invites", "id, name, role, expires, uses, used, created, inviter, key, not_after"
    ),
}


@dataclass(frozen=True, slots=True)
class Seal:
    """The rights of one commit: the total of the rows, the commit's number among those that changed
    rights, and whether there has been an owner since the device was new."""

    total: int
    serial: int
    had_owner: bool

    @property
    def digest(self) -> bytes:
        """SHA-256 over all three."""
        return sha256(f"{self.total:064x} {self.serial} {self.had_owner:d}".encode()).digest()


# -- values to rows -------------------------------------------------------------------------------


def user_values(user: User) -> Values:
    """The columns of a user, without the keys."""
    return (
        user.name,
        user.role,
        user.display_name,
        _real(user.not_before),
        _real(user.not_after),
        float(user.created),
    )


def key_values(key: Key, user: str) -> Values:
    """The columns of a key."""
    return (
        key.fingerprint,
        user,
        key.name,
        key.method,
        int(key.verified),
        float(key.added),
        key.invite,
        key.receipt,
    )


def invite_values(invite: Invite) -> Values:
    """The columns of an invite. No inviter: whoever stood at the board."""
    return (
        invite.id,
        invite.name,
        invite.role,
        float(invite.expires),
        invite.uses,
        invite.used,
        float(invite.created),
        invite.inviter or None,
        invite.key,
        _real(invite.not_after),
    )


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def row(kind: str, values: Values) -> str:
    """One row as text, bytes in hex. Equal values make equal text."""
    return json.dumps([kind, *values], separators=(",", ":"), default=bytes.hex)


def rows_of(state: State, attempts: Mapping[str, object]) -> Iterator[str]:
    """Every row."""
    for user in state.users.values():
        yield from _user_rows(user)
    for invite in state.invites.values():
        yield row("invite", invite_values(invite))
    yield from label_rows(attempts)


def label_rows(attempts: Mapping[str, object]) -> Iterator[str]:
    """The label's record as a digest, if there is one."""
    if (record := attempts.get(LABEL)) is not None:
        text = json.dumps(record, sort_keys=True, default=repr)
        yield row(LABEL, (sha256(text.encode()).hexdigest(),))


def _user_rows(user: User) -> Iterator[str]:
    yield row("user", user_values(user))
    for key in user.keys:
        yield row("key", key_values(key, user.name))


def changed_rows(
    old: State,
    new: State,
    old_attempts: Mapping[str, object],
    new_attempts: Mapping[str, object],
) -> tuple[set[str], set[str]]:
    """Rows that only `new` has, and rows that only `old` has, without looking at all the others."""
    before, after = set[str](), set[str]()
    for was, now in differing(old, new):
        before.update(_user_rows(was) if was else ())
        after.update(_user_rows(now) if now else ())
    for had, has in differing_invites(old, new):
        before.update([row("invite", invite_values(had))] if had else ())
        after.update([row("invite", invite_values(has))] if has else ())
    if old_attempts.get(LABEL) != new_attempts.get(LABEL):
        before.update(label_rows(old_attempts))
        after.update(label_rows(new_attempts))
    return after - before, before - after


def total_of(rows: Iterable[str]) -> int:
    """The sum of the rows' digests."""
    return sum(map(_number, rows)) % _MODULUS


def total_after(total: int, added: Iterable[str], dropped: Iterable[str]) -> int:
    """What a total becomes by these."""
    return (total + sum(map(_number, added)) - sum(map(_number, dropped))) % _MODULUS


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest(), "big")


def parsed(text: str) -> list[Any]:
    """The kind and the columns of a row."""
    found: list[Any] = json.loads(text)
    return found


# -- rows to values -------------------------------------------------------------------------------


def in_both(rows: Iterable[str], others: Iterable[str]) -> frozenset[str]:
    """Those of `rows` that give no other right than a row of `others` does: the same user with the
    same role and times, the same key of the same user, the same invite, the same label."""
    known = set(map(_right, others))
    return frozenset(text for text in rows if _right(text) in known)


def _right(text: str) -> Values:
    """What a row gives, without the names and times that are only for people to read."""
    kind, *values = json.loads(text)
    if kind == "user":
        name, role, _, not_before, not_after, _ = values
        return kind, name, role, not_before, not_after
    if kind == "key":
        fingerprint, user, _, _, verified, *_ = values
        return kind, fingerprint, user, verified
    return kind, *values


def state_of(rows: Iterable[str]) -> State:
    """The state that rows make. A row that makes no sense is left out: values that cannot be, a
    name that could not have been given, a key or an invite of a user who is not there."""
    found: dict[str, list[list[Any]]] = {kind: [] for kind in (*TABLES, LABEL)}
    for text in sorted(rows):
        kind, *values = json.loads(text)
        found[kind].append(values)
    keys: dict[str, list[Key]] = {}
    for key, owner in filter(None, map(_key, found["key"])):
        keys.setdefault(owner, []).append(key)
    users = {one.name: one for one in filter(None, (_user(each, keys) for each in found["user"]))}
    invites = filter(None, map(_invite, found["invite"]))
    return State.of(users.values(), (one for one in invites if one.inviter in {"", *users}))


def _key(values: list[Any]) -> tuple[Key, str] | None:
    fingerprint, user, name, method, verified, added, invite, receipt = values
    try:
        _check_shown(name, method)
        proof = bytes.fromhex(receipt)
        return Key(fingerprint, name, method, bool(verified), float(added), invite, proof), user
    except _SENSELESS:
        return None


def _user(values: list[Any], keys: Mapping[str, list[Key]]) -> User | None:
    name, role, display_name, not_before, not_after, created = values
    try:
        _check_shown(role, display_name)
        _check_name(name)
        own = tuple(keys.get(name, ()))
        return User(name, role, own, display_name, not_before, not_after, float(created))
    except _SENSELESS:
        return None


def _invite(values: list[Any]) -> Invite | None:
    one, name, role, expires, uses, used, created, inviter, key, not_after = values
    try:
        _check_shown(role)
        _check_name(name)
        times = float(expires), int(uses), float(created)
        return Invite(one, name, role, *times, inviter or "", key, not_after, int(used))
    except _SENSELESS:
        return None


def _check_name(text: str) -> None:
    """Raise ValueError unless it is made of letters, their marks, digits, `-` and `_`: what the
    device takes for a name, and neither a path nor an order to a terminal."""
    if not all(one.isalnum() or one in "-_" or unicodedata.category(one)[0] == "M" for one in text):
        raise ValueError("no user could be given this name")


def _check_shown(*texts: str) -> None:
    if not all(text.isprintable() for text in texts):
        raise ValueError("a text holds what a terminal would obey")
