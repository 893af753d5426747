"""Users that are made from their rows when they are asked for.

Of 100,000 users, a device serves a few at a time. A row takes half the time and two thirds of the
memory of the objects that are made of it. `iam.row_blocks` has checked the rows, so that a user can
be made of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from sys import intern
from typing import Any, Final, final

from iam.builtin import OWNER
from iam.errors import StoreCorrupt
from iam.limits import USERS_MADE_KEPT
from iam.model import State
from iam.values import Key, User, name_key

#: The columns of a user, and then those of each of its keys, without the user.
_Fields = tuple[Any, ...]
_USER_FIELDS: Final = 6
_KEY_FIELDS: Final = 7
_CREATED: Final = 5  # place of a user's `created`
_ADDED: Final = 4  # place of a key's `added`


@final
class LateUsers(Mapping[str, User]):
    """The users of a store by name. It never changes; a bounded number of users is kept."""

    __slots__ = ("_fields", "_made")

    def __init__(self, fields: dict[str, _Fields]) -> None:
        """Use this dict, which must not change any more."""
        self._fields = fields
        self._made: dict[str, User] = {}

    def __getitem__(self, name: str) -> User:
        """Return the user with this name. Raises KeyError."""
        if (user := self._made.get(name)) is None:
            user = _user(self._fields[name])
            if len(self._made) >= USERS_MADE_KEPT:
                self._made.clear()
            self._made[name] = user
        return user

    def __contains__(self, name: object) -> bool:
        """Return whether there is a user with this name."""
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._fields)


def _user(fields: _Fields) -> User:
    name, role, display_name, not_before, not_after, created = fields[:_USER_FIELDS]
    if len(fields) == _USER_FIELDS + _KEY_FIELDS:  # most users have one key
        keys: tuple[Key, ...] = (Key(*fields[_USER_FIELDS:]),)
    else:
        starts = range(_USER_FIELDS, len(fields), _KEY_FIELDS)
        keys = tuple([Key(*fields[start : start + _KEY_FIELDS]) for start in starts])
    return User(name, role, keys, display_name, not_before, not_after, created)


class FoundUsers:
    """Collects rows of users and keys, in any order, for a state of them."""

    def __init__(self) -> None:
        self._fields: dict[str, _Fields] = {}
        self._name_by_key: dict[str, str] = {}
        self._early: dict[str, list[_Fields]] = {}  # keys whose user was not added yet
        self._row_count = 0
        self._count_by_role: Counter[str] = Counter()
        self._owners: list[str] = []
        self._limited: dict[str, tuple[float, float]] = {}
        self._spellings: dict[str, tuple[str, ...]] = {}

    def add_users(self, block: Sequence[_Fields]) -> None:
        """Add rows of the table of users, which `iam.row_blocks.user_texts` has checked."""
        if not block:
            return
        names, roles, display_names, starts, ends, created = zip(*block, strict=True)
        self._row_count += len(block)
        shared = zip(names, map(intern, roles), display_names, starts, ends, created, strict=True)
        self._fields.update(zip(names, shared, strict=True))
        self._count_by_role.update(roles)
        if OWNER in roles:
            self._owners += [row[0] for row in block if row[1] == OWNER]
        if {*starts, *ends} != {None}:
            for name, start, end in zip(names, starts, ends, strict=True):
                if start is not None or end is not None:
                    begin, until = -inf if start is None else start, inf if end is None else end
                    self._limited[name] = begin, until
        if name_key(joined := "".join(names)) != joined or not joined.isascii():
            self._note_spellings(names)
        if self._early:
            for name in names:
                for key in self._early.pop(name, ()):
                    self._add_key(self._fields[name], key)

    def _note_spellings(self, names: Sequence[str]) -> None:
        for name in names:
            if (folded := name_key(name)) != name:
                self._spellings[folded] = (*self._spellings.get(folded, ()), name)

    def add_keys(self, block: Sequence[_Fields]) -> None:
        """Add rows of the table of keys, which `iam.row_blocks.key_texts` has checked."""
        for fingerprint, owner, name, method, verified, added, invite, receipt in block:
            self._row_count += 1
            key = (fingerprint, intern(name), intern(method), verified == 1, added, invite, receipt)
            if (fields := self._fields.get(owner)) is not None:
                self._add_key(fields, key)
            else:
                self._early.setdefault(owner, []).append(key)

    def _add_key(self, fields: _Fields, key: _Fields) -> None:
        name = fields[0]
        self._name_by_key[key[0]] = name
        if fields[_CREATED] == key[_ADDED]:  # one object: most users are created with a key
            fields = (*fields[:_CREATED], key[_ADDED], *fields[_USER_FIELDS:])
        self._fields[name] = fields + key

    def state(self) -> State:
        """Return a state of all rows. Raises StoreCorrupt if they contradict each other.

        Two users have one name, two keys one fingerprint, or a key has no user.
        """
        if len(self._fields) + len(self._name_by_key) != self._row_count:
            raise StoreCorrupt(
                "a row refers to a user who does not exist, or is there twice",
                advice="Restore a copy.",
            )
        return State.indexed(
            LateUsers(self._fields),
            self._name_by_key,
            self._count_by_role,
            owners=self._owners,
            limited=self._limited,
            spellings=self._spellings,
        )
