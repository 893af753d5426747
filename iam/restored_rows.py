"""The state that rows of `iam.rights` make, with the invalid rows of a damaged file left out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from iam.errors import IamError
from iam.model import Invite, Key, State, User
from iam.rights import LABEL, TABLES, Values, invite_values, key_values, user_values

Tables = Mapping[str, Sequence[Sequence[object]]]  # rows by kind, each without its kind
_INVALID: Final = (IamError, TypeError, ValueError, OverflowError)  # raised by an invalid row
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?: [A-Za-z0-9_-]+)*")
_NULL: Final = type(None)
_Types = frozenset[type]
_TEXT: Final[_Types] = frozenset({str})
_REAL: Final[_Types] = frozenset({float})
_INTEGER: Final[_Types] = frozenset({int})
_BLOB: Final[_Types] = frozenset({bytes})
_TEXT_OR_NULL: Final[_Types] = _TEXT | {_NULL}
_REAL_OR_NULL: Final[_Types] = _REAL | {_NULL}
#: The types that each column may have: STRICT tables hold no others, damaged ones may.
COLUMN_TYPES: Final[Mapping[str, tuple[_Types, ...]]] = {
    "user": (_TEXT, _TEXT, _TEXT, _REAL_OR_NULL, _REAL_OR_NULL, _REAL),
    "key": (_TEXT, _TEXT, _TEXT, _TEXT, _INTEGER, _REAL, _TEXT, _BLOB),
    "invite": (
        *(_TEXT, _TEXT, _TEXT, _REAL, _INTEGER, _INTEGER, _REAL),
        *(_TEXT_OR_NULL, _TEXT, _REAL_OR_NULL),
    ),
}
_ROW_TYPES: Final = {kind: frozenset(product(*types)) for kind, types in COLUMN_TYPES.items()}


def state_of(rows: Iterable[str]) -> State:
    """Return the state that the rows make.

    Invalid rows are left out: values that cannot exist, a name that could not have been given, a
    key or an invite of a user who does not exist.
    """
    tables: dict[str, list[Sequence[object]]] = {kind: [] for kind in (*TABLES, LABEL)}
    for kind, *values in json.loads(f"[{','.join(sorted(rows))}]"):
        tables[kind].append(values)
    return state_of_tables(tables)[0]


def state_of_content(tables: Tables, rows: Iterable[str]) -> State:
    """Return the state that the rows make, from the tables they were read from, which is faster."""
    state, is_exact = state_of_tables(tables)
    return state if is_exact else state_of(rows)


def state_of_tables(tables: Tables) -> tuple[State, bool]:
    """Return the state that the tables make, as `state_of` does, and whether it is exact.

    It is exact if it has every row and every value as they are.
    """
    keys: dict[str, list[Key]] = {}
    users: dict[str, User] = {}
    invites: list[Invite] = []
    is_exact = True
    for values in tables["key"]:
        if (found := _key(values)) is None:
            is_exact = False
            continue
        key, owner = found
        keys.setdefault(owner, []).append(key)
        is_exact = is_exact and _is_same("key", values, key_values(key, owner))
    for values in tables["user"]:
        if (user := _user(values, keys)) is not None:
            users[user.name] = user
        is_exact = is_exact and user is not None and _is_same("user", values, user_values(user))
    for values in tables["invite"]:
        invite = _invite(values)
        if invite is not None and (not invite.inviter or invite.inviter in users):
            invites.append(invite)
            is_exact = is_exact and _is_same("invite", values, invite_values(invite))
        else:
            is_exact = False
    is_exact = is_exact and keys.keys() <= users.keys() and len(users) == len(tables["user"])
    return State.of(users.values(), invites), is_exact


def _is_same(kind: str, values: Sequence[object], taken: Values) -> bool:
    """Whether the values of a row were taken as they are, and are of the types of their columns."""
    return values == taken and tuple(map(type, values)) in _ROW_TYPES[kind]


def _key(values: Sequence[object]) -> tuple[Key, str] | None:
    fingerprint, user, name, method, verified, added, invite, receipt = values
    try:
        key = Key(
            _text(fingerprint),
            _repeated(name),
            _repeated(method),
            bool(verified),
            _time(added),
            _text(invite),
            receipt if isinstance(receipt, bytes) else bytes.fromhex(_text(receipt)),
        )
        return key, _text(user)
    except _INVALID:
        return None


def _user(values: Sequence[object], keys: Mapping[str, list[Key]]) -> User | None:
    name, role, display_name, not_before, not_after, created = values
    try:
        valid_name = check_name(_text(name))
        return User(
            valid_name,
            _repeated(role),
            tuple(keys.get(valid_name, ())),
            _shown(display_name),
            _time_or_none(not_before),
            _time_or_none(not_after),
            _time(created),
        )
    except _INVALID:
        return None


def exact_invite(values: Sequence[object]) -> Invite | None:
    """Return the invite of a row if it is valid and has every value as it is."""
    invite = _invite(values)
    is_exact = invite is not None and _is_same("invite", values, invite_values(invite))
    return invite if is_exact else None


def _invite(values: Sequence[object]) -> Invite | None:
    one, name, role, expires, uses, used, created, inviter, key, not_after = values
    try:
        return Invite(
            _text(one),
            check_name(_text(name)),
            _shown(role),
            _time(expires),
            _count(uses),
            _time(created),
            "" if inviter is None else _text(inviter),
            _text(key),
            _time_or_none(not_after),
            _count(used),
        )
    except _INVALID:
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a column is not text")
    return value


def _time(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a column is not a time")
    return float(value)


def _time_or_none(value: object) -> float | None:
    return None if value is None else _time(value)


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a column is not a whole number")
    return value


def check_name(text: str) -> str:
    """Return a text of letters, their marks, digits, `-` and `_`, with single spaces inside.

    Every name that a user can be given is such a text; none is a path or an escape sequence. Raises
    ValueError for any other.
    """
    if _PLAIN_NAME.fullmatch(text):
        return text
    words = text.split(" ")
    if not all(words) or not all(_is_of_name(one) for word in words for one in word):
        raise ValueError("no user could be given this name")
    return text


def _is_of_name(symbol: str) -> bool:
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return symbol.isalnum() or symbol in "-_" or unicodedata.category(symbol)[0] == "M"


def _repeated(value: object) -> str:
    """A text that a terminal shows, which many rows have: one object for all of them."""
    return sys.intern(_shown(value))


def _shown(value: object) -> str:
    """A text that a terminal shows as it is."""
    text = _text(value)
    if not text.isprintable():
        raise ValueError("a text contains a control character")
    return text
