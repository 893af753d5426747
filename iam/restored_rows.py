"""The state that rows of `iam.rights` make, with the invalid rows of a damaged file left out."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Final

from iam.errors import IamError
from iam.model import Invite, Key, State, User
from iam.rights import LABEL, TABLES, Values, invite_values, key_values, user_values

Tables = Mapping[str, Sequence[Sequence[Any]]]  # rows by kind, each without its kind
#: What a row raises whose columns are of other kinds than the table's, as in a damaged file.
_SENSELESS: Final = (IamError, TypeError, ValueError, AttributeError, OverflowError)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]*")
_NULL: Final = type(None)
#: The types that the columns of a row may have: STRICT tables hold no others, damaged ones may.
_TYPES: Final = {
    "user": frozenset(product([str], [str], [str], [float, _NULL], [float, _NULL], [float])),
    "key": frozenset({(str, str, str, str, int, float, str, bytes)}),
    "invite": frozenset(
        product(
            *([str], [str], [str], [float], [int], [int], [float]),
            *([str, _NULL], [str], [float, _NULL]),
        )
    ),
}


def state_of(rows: Iterable[str]) -> State:
    """Return the state that the rows make.

    Invalid rows are left out: values that cannot exist, a name that could not have been given, a
    key or an invite of a user who does not exist.
    """
    tables: dict[str, list[Sequence[Any]]] = {kind: [] for kind in (*TABLES, LABEL)}
    for kind, *values in json.loads(f"[{','.join(sorted(rows))}]"):
        tables[kind].append(values)
    return state_of_tables(tables)[0]


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
        if (invite := _invite(values)) is not None and invite.inviter in {"", *users}:
            invites.append(invite)
            is_exact = is_exact and _is_same("invite", values, invite_values(invite))
        else:
            is_exact = False
    is_exact = is_exact and keys.keys() <= users.keys() and len(users) == len(tables["user"])
    return State.of(users.values(), invites), is_exact


def _is_same(kind: str, values: Sequence[Any], taken: Values) -> bool:
    """Whether the values of a row were taken as they are, and are of the types of their columns."""
    return values == taken and tuple(map(type, values)) in _TYPES[kind]


def _key(values: Sequence[Any]) -> tuple[Key, str] | None:
    fingerprint, user, name, method, verified, added, invite, receipt = values
    try:
        _check_shown(name, method)
        proof = receipt if isinstance(receipt, bytes) else bytes.fromhex(receipt)
        return Key(fingerprint, name, method, bool(verified), float(added), invite, proof), user
    except _SENSELESS:
        return None


def _user(values: Sequence[Any], keys: Mapping[str, list[Key]]) -> User | None:
    name, role, display_name, not_before, not_after, created = values
    try:
        _check_shown(role, display_name)
        _check_name(name)
        own = tuple(keys.get(name, ()))
        return User(name, role, own, display_name, not_before, not_after, float(created))
    except _SENSELESS:
        return None


def _invite(values: Sequence[Any]) -> Invite | None:
    one, name, role, expires, uses, used, created, inviter, key, not_after = values
    try:
        _check_shown(role)
        _check_name(name)
        times = float(expires), int(uses), float(created)
        return Invite(one, name, role, *times, inviter or "", key, not_after, int(used))
    except _SENSELESS:
        return None


def _check_name(text: str) -> None:
    """Raise ValueError unless the text consists of letters, their marks, digits, `-` and `_`.

    Those are valid in a name, and are neither a path nor an escape sequence of a terminal.
    """
    if _PLAIN_NAME.fullmatch(text):
        return
    if not all(one.isalnum() or one in "-_" or unicodedata.category(one)[0] == "M" for one in text):
        raise ValueError("no user could be given this name")


def _check_shown(*texts: str) -> None:
    for text in texts:
        if not text.isprintable():
            raise ValueError("a text holds what a terminal would obey")
