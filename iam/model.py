"""Who there is: User, Key, State, and Subject, whoever asks now. What they may do: `iam.policy`.

All are frozen; a wrong one cannot be built. A key is known by its fingerprint, 64 lower-case hex
digits; other spellings are normalised before they come here. Times are wall-clock seconds since
1970 and never read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf, isfinite
from types import MappingProxyType

from iam.errors import KeyTaken, Malformed, NameTaken, NotFound

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
TEXT_MAX = 64  # characters of a name; what makes a good one is for those who take it from a person


def _check_text(**texts: str) -> None:
    for what, text in texts.items():
        if len(text) > TEXT_MAX or any("\ud800" <= symbol <= "\udfff" for symbol in text):
            raise Malformed(
                f"{what} is not a text of at most {TEXT_MAX} characters", advice="Shorten it."
            )


def _check_time(value: float | None, what: str) -> None:
    if value is not None and not isfinite(value):
        raise Malformed(f"{what} is not a point in time", advice="Give seconds since 1970.")


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of a user. `name` tells a user's keys apart ("laptop"); `method` is how it was
    paired; `verified` is False while nobody has compared fingerprints."""

    fingerprint: str
    name: str = ""
    method: str = ""
    verified: bool = True
    added: float = 0.0

    def __post_init__(self) -> None:
        if not FINGERPRINT.fullmatch(self.fingerprint):
            raise Malformed(
                "a key's fingerprint must be 64 hex digits",
                advice="Copy the whole fingerprint from the client.",
            )
        _check_text(name=self.name, method=self.method)
        _check_time(self.added, "added")


@dataclass(frozen=True, slots=True)
class User:
    """A person or a script: one role, any number of keys (kept oldest first).

    `not_before` (inclusive) and `not_after` (exclusive) bound when the user is one; None is no
    bound.
    """

    name: str
    role: str
    keys: tuple[Key, ...] = ()
    display_name: str = ""
    not_before: float | None = None
    not_after: float | None = None
    created: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not self.role:
            raise Malformed("a user needs a name and a role", advice="Give both.")
        _check_text(name=self.name, role=self.role, display_name=self.display_name)
        for what in ("not_before", "not_after", "created"):
            _check_time(getattr(self, what), what)
        if self.start >= self.end:
            raise Malformed("the user's time ends before it begins", advice="Give a later end.")
        if len({key.fingerprint for key in self.keys}) != len(self.keys):
            raise KeyTaken(f"user {self.name!r} has one key twice", advice="Name each key once.")
        by_age = sorted(self.keys, key=lambda key: (key.added, key.fingerprint))
        object.__setattr__(self, "keys", tuple(by_age))

    @property
    def start(self) -> float:
        return -inf if self.not_before is None else self.not_before

    @property
    def end(self) -> float:
        return inf if self.not_after is None else self.not_after

    @property
    def fingerprints(self) -> frozenset[str]:
        return frozenset(key.fingerprint for key in self.keys)

    def key(self, fingerprint: str) -> Key:
        for key in self.keys:
            if key.fingerprint == fingerprint:
                return key
        raise NotFound(f"user {self.name!r} has no such key", advice="List the user's keys.")


@dataclass(frozen=True, slots=True)
class State:
    """Everybody the device knows. A change is a new State that shares the unchanged users."""

    users: Mapping[str, User] = field(default_factory=lambda: MappingProxyType({}))
    owner_of_key: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    @classmethod
    def of(cls, users: Iterable[User]) -> State:
        """A state of these users; raises NameTaken or KeyTaken if two claim the same."""
        by_name: dict[str, User] = {}
        by_key: dict[str, str] = {}
        for user in users:
            _enter(user, by_name, by_key)
        return cls(MappingProxyType(by_name), MappingProxyType(by_key))

    def replaced(self, before: User | None, after: User | None) -> State:
        """This state with `after` in the place of `before` (None: nobody)."""
        by_name, by_key = dict(self.users), dict(self.owner_of_key)
        if before is not None:
            del by_name[before.name]
            for key in before.keys:
                del by_key[key.fingerprint]
        if after is not None:
            _enter(after, by_name, by_key)
        return State(MappingProxyType(by_name), MappingProxyType(by_key))

    def user(self, name: str) -> User:
        if (user := self.users.get(name)) is None:
            raise NotFound(
                f"there is no user {name!r}", advice="List the users to see their names."
            )
        return user

    def user_of(self, fingerprint: str) -> User | None:
        """The user who has this key, whatever the time."""
        name = self.owner_of_key.get(fingerprint)
        return None if name is None else self.users[name]

    def next_turn(self, now: float) -> float | None:
        """When somebody's time next begins or ends, and sessions have to be looked at again."""
        turns = (turn for user in self.users.values() for turn in (user.start, user.end))
        return min((turn for turn in turns if now < turn < inf), default=None)


def _enter(user: User, by_name: dict[str, User], by_key: dict[str, str]) -> None:
    if user.name in by_name:
        raise NameTaken(f"the name {user.name!r} is taken", advice="Choose another name.")
    for key in user.keys:
        if key.fingerprint in by_key:
            raise KeyTaken(
                "this key belongs to a user already",
                advice="Remove it there first, or use the name it is known by.",
            )
        by_key[key.fingerprint] = user.name
    by_name[user.name] = user


def differing(old: State, new: State) -> Iterator[tuple[User | None, User | None]]:
    """Every user that is not the same in both, by name, as (before, after)."""
    for name, before in old.users.items():
        after = new.users.get(name)
        if after is not before and after != before:
            yield before, after
    for name, after in new.users.items():
        if name not in old.users:
            yield None, after


def changed_keys(old: State, new: State) -> frozenset[str]:
    """Keys that have lost their user or have other rights than in `old`: the sessions to end.

    A rename and a new display name change no rights.
    """

    def rights(user: User | None) -> object:
        return user and (user.role, user.not_before, user.not_after)

    return frozenset(
        key.fingerprint
        for before, _ in differing(old, new)
        for key in (before.keys if before else ())
        if rights(before) != rights(new.user_of(key.fingerprint))
    )


class Lapse(StrEnum):
    """Why the owner of a known key is an unpaired subject now."""

    NONE = ""
    EXPIRED = "expired"
    NOT_YET = "not-yet-valid"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks. `user` is None for a key that nobody has and for a user whose time is not now."""

    fingerprint: str
    user: User | None
    role: str
    lapse: Lapse = Lapse.NONE
