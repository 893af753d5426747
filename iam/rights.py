"""The data on which rights depend, as rows of text: users, keys, invites, the label's record.

A row is a JSON array: its kind, then the columns of its table. The seal of the store is computed
over these rows, and the mark beside it lists them (`iam.mark`), so a store that is damaged or older
than its mark can be compared with it row by row. `iam.restored_rows` turns rows into a state.

The total of rows is the sum of their SHA-256 digests modulo 2^256: it does not depend on the order,
and a change updates it without reading the other rows. It detects damage, not an attacker: a person
who can write the file can recompute it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NamedTuple

from iam.model import Invite, Key, State, User, differing, differing_invites

LABEL: Final = "label"  # the entry of the attempts that grants access: the label's verifiers
_MODULUS: Final = 1 << 256
Values = tuple[object, ...]


class Table(NamedTuple):
    """The table of one kind of rows, and its columns in the order of the row."""

    name: str
    columns: str


#: Seals and marks of stores in the field are over these columns. A migration that adds one has to
#: leave it out here, or to seal again and let `iam.mark` add it to the rows of older marks.
TABLES: Final = {
    "user": Table("users", "name, role, display_name, not_before, not_after, created"),
    "key": Table("keys", "fingerprint, user, name, method, verified, added, invite, receipt"),
    "invite": Table(
        "invites", "id, name, role, expires, uses, used, created, inviter, key, not_after"
    ),
}


@dataclass(frozen=True, slots=True)
class Seal:
    """The rights of one commit.

    Attributes:
        total: the total of the rows.
        serial: the number of the commit among those that changed rights.
        had_owner: whether there has been an owner since the device was new.
    """

    total: int
    serial: int
    had_owner: bool

    @property
    def digest(self) -> bytes:
        """SHA-256 over all three."""
        return sha256(f"{self.total:064x} {self.serial} {self.had_owner:d}".encode()).digest()

    def after(self, added: Iterable[str], dropped: Iterable[str], *, had_owner: bool) -> Seal:
        """Return the seal of the next commit, which adds and drops these rows."""
        return Seal(total_after(self.total, added, dropped), self.serial + 1, had_owner)


def user_values(user: User) -> Values:
    """Return the columns of a user, without the keys."""
    return (
        user.name,
        user.role,
        user.display_name,
        _real(user.not_before),
        _real(user.not_after),
        float(user.created),
    )


def key_values(key: Key, user: str) -> Values:
    """Return the columns of a key."""
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
    """Return the columns of an invite. The inviter is None if it was made at the device."""
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
    """Return a row as JSON without spaces, bytes in hex. Equal values make equal text."""
    return f'["{kind}",{",".join([_ENCODERS.get(type(one), json.dumps)(one) for one in values])}]'


def _real_json(value: float) -> str:
    text = repr(value)
    return text if text[-1].isdigit() else json.dumps(value)  # an infinite number


#: The encoders of single columns: json.dumps builds one for each call, which takes longer.
_ENCODERS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring_ascii,
    float: _real_json,
    int: repr,
    bytes: lambda value: f'"{value.hex()}"',
    type(None): lambda _value: "null",
}


def rows_of(state: State, attempts: Mapping[str, object]) -> Iterator[str]:
    """Yield every row of a state and of the label's record."""
    for user in state.users.values():
        yield from _user_rows(user)
    for invite in state.invites.values():
        yield row("invite", invite_values(invite))
    yield from label_rows(attempts)


def label_rows(attempts: Mapping[str, object]) -> Iterator[str]:
    """Yield the digest of the label's record, if there is one."""
    if (record := attempts.get(LABEL)) is not None:
        text = json.dumps(record, sort_keys=True, default=repr)
        yield row(LABEL, (sha256(text.encode()).hexdigest(),))


def is_label(text: str) -> bool:
    """Return whether a row is the label's record."""
    return text.startswith(f'["{LABEL}"')


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
    """Return the rows that only `new` has, and those that only `old` has.

    Unchanged users are not looked at.
    """
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
    """Return the sum of the rows' digests."""
    return sum(int.from_bytes(sha256(text.encode()).digest(), "big") for text in rows) % _MODULUS


def total_after(total: int, added: Iterable[str], dropped: Iterable[str]) -> int:
    """Return a total after these rows were added and dropped."""
    return (total + total_of(added) - total_of(dropped)) % _MODULUS


def parsed(text: str) -> list[object]:
    """Return the kind and the columns of a row."""
    found: list[object] = json.loads(text)
    return found


def in_both(rows: Iterable[str], others: Iterable[str]) -> frozenset[str]:
    """Return those of `rows` that grant the same right as a row of `others`.

    That is the same user with the same role and times, the same key of the same user, the same
    invite or the same label.
    """
    known = set(map(_right, others))
    return frozenset(text for text in rows if _right(text) in known)


def _right(text: str) -> Values:
    """The right of a row, without the names and times that are only displayed."""
    kind, *values = json.loads(text)
    if kind == "user":
        name, role, _, not_before, not_after, _ = values
        return kind, name, role, not_before, not_after
    if kind == "key":
        fingerprint, user, _, _, verified, *_ = values
        return kind, fingerprint, user, verified
    return kind, *values
