"""State: the users and invites of a device. Subject: the author of a request.

A State never changes. A change is a new State that shares all but the touched parts with the old
one: the maps are persistent, so adding a user among 100,000 costs what it costs among ten. Each
State remembers the last `STATE_STEPS_KEPT` changes that led to it. `differing` compares two states
by what was touched between them, and looks at all users only if they have no common step among
those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from rpds import HashTrieMap, HashTrieSet

from iam.builtin import OWNER
from iam.errors import KeyTaken, Malformed, NameTaken, NotFound
from iam.limits import STATE_STEPS_KEPT
from iam.persistent_map import PersistentMap
from iam.values import FINGERPRINT, INVITE_ID, Invite, Key, User, name_key

__all__ = [
    "FINGERPRINT",
    "INVITE_ID",
    "Inactive",
    "Invite",
    "Key",
    "State",
    "Subject",
    "User",
    "changed_keys",
    "differing",
    "differing_invites",
    "lost_keys",
]

_NO_NAMES: Final[HashTrieSet[str]] = HashTrieSet()


class Step:
    """One change, known by its identity: the names of the users it touched."""

    __slots__ = ("touched",)

    def __init__(self, *touched: str) -> None:
        self.touched = touched


@dataclass(frozen=True, slots=True)
class State:
    """All users and invites. Create one with `of`; each change returns another."""

    users: PersistentMap[str, User] = field(default_factory=PersistentMap)
    invites: HashTrieMap[str, Invite] = field(default_factory=HashTrieMap)
    user_name_by_key: PersistentMap[str, str] = field(
        default_factory=PersistentMap, compare=False, repr=False
    )
    _count_by_role: HashTrieMap[str, int] = field(
        default_factory=HashTrieMap, compare=False, repr=False
    )
    _owners: HashTrieSet[str] = field(default=_NO_NAMES, compare=False, repr=False)
    # When the access of users begins and ends, if it does.
    _limited: HashTrieMap[str, tuple[float, float]] = field(
        default_factory=HashTrieMap, compare=False, repr=False
    )
    # The names that are not their own `name_key`, by that key: most names are.
    _spellings: HashTrieMap[str, tuple[str, ...]] = field(
        default_factory=HashTrieMap, compare=False, repr=False
    )
    steps: tuple[Step, ...] = field(default_factory=lambda: (Step(),), compare=False, repr=False)

    @classmethod
    def of(cls, users: Iterable[User], invites: Iterable[Invite] = ()) -> State:
        """Return a state of these users and invites.

        Two names may differ only in case, as older versions allowed it.

        Raises NameTaken or KeyTaken if two users have the same, Malformed for two invites with one
        ID and for one whose inviter does not exist.
        """
        by_name: dict[str, User] = {}
        by_key: dict[str, str] = {}
        by_role: Counter[str] = Counter()
        spellings: dict[str, tuple[str, ...]] = {}
        for user in users:
            _check_free(user, by_name, by_key)
            by_name[user.name] = user
            if (folded := name_key(user.name)) != user.name:
                spellings[folded] = (*spellings.get(folded, ()), user.name)
            for key in user.keys:
                by_key[key.fingerprint] = user.name
            by_role[user.role] += 1
        state = cls.indexed(
            by_name,
            by_key,
            by_role,
            owners=(user.name for user in by_name.values() if user.role == OWNER),
            limited={
                user.name: (user.start, user.end) for user in by_name.values() if user.is_limited
            },
            spellings=spellings,
        )
        for invite in invites:
            state = state.with_invite(invite)
        return state

    @classmethod
    def indexed(
        cls,
        users: Mapping[str, User],
        user_name_by_key: Mapping[str, str],
        count_by_role: Mapping[str, int],
        *,
        owners: Iterable[str],
        limited: Mapping[str, tuple[float, float]],
        spellings: Mapping[str, tuple[str, ...]],
    ) -> State:
        """Return a state of what `of` finds out about its users, without invites and unchecked.

        Args:
            users: the users by name; this map and the next one must not change any more.
            user_name_by_key: the name of the user who has a key, by fingerprint.
            count_by_role: the number of users of each role.
            owners: the names of the owners.
            limited: the start and end of the access of the users who have either, by name.
            spellings: the names that are not their own `name_key`, by that key.
        """
        return cls(
            PersistentMap(users),
            HashTrieMap(),
            PersistentMap(user_name_by_key),
            HashTrieMap(count_by_role),
            HashTrieSet(owners),
            HashTrieMap(limited),
            HashTrieMap(spellings),
        )

    def replaced(self, before: User | None, after: User | None) -> State:
        """Return this state with `after` in the place of `before` (None: no user).

        The invites of a removed user are removed; those of a renamed one follow. Raises NameTaken
        (also for a new name that differs from another user's only in case), KeyTaken.
        """
        users, keys, limited = self.users, self.user_name_by_key, self._limited
        spellings = self._spellings
        roles, owners, invites = self._count_by_role, self._owners, self.invites
        if before is not None:
            users, limited = users.remove(before.name), limited.discard(before.name)
            for key in before.keys:
                keys = keys.remove(key.fingerprint)
            left = roles[before.role] - 1
            roles = roles.insert(before.role, left) if left else roles.remove(before.role)
            owners = owners.discard(before.name)
            invites = _follow(invites, before, after)
            spellings = _without_spelling(spellings, before.name)
        if after is not None:
            if before is None or after.name != before.name:
                _check_unlike(after.name, users, spellings)
            _check_free(after, users, keys)
            spellings = _with_spelling(spellings, after.name)
            users = users.insert(after.name, after)
            for key in after.keys:
                keys = keys.insert(key.fingerprint, after.name)
            roles = roles.insert(after.role, (roles.get(after.role) or 0) + 1)
            owners = owners.insert(after.name) if after.role == OWNER else owners
            if after.is_limited:
                limited = limited.insert(after.name, (after.start, after.end))
        step = Step(*(user.name for user in (before, after) if user is not None))
        steps = (*self.steps[1 - STATE_STEPS_KEPT :], step)
        return State(users, invites, keys, roles, owners, limited, spellings, steps)

    def with_invite(self, invite: Invite) -> State:
        """Add an invite. Raises Malformed if its ID exists, or its inviter does not."""
        if invite.id in self.invites:
            raise Malformed("an invite with this ID exists already", advice="Choose another ID.")
        if invite.inviter and invite.inviter not in self.users:
            raise Malformed(f"the inviter {invite.inviter!r} is not a user", advice="Name a user.")
        return self._inviting(self.invites.insert(invite.id, invite))

    def without_invites(self, ids: Iterable[str]) -> State:
        """Remove these invites; unknown IDs are ignored."""
        kept = self.invites
        for one in ids:
            kept = kept.discard(one)
        return self if len(kept) == len(self.invites) else self._inviting(kept)

    def _inviting(self, invites: HashTrieMap[str, Invite]) -> State:
        return replace(self, invites=invites)

    def user(self, name: str) -> User:
        """Return the user whom this name means, as `find` does. Raises NotFound."""
        if (user := self.find(name)) is None:
            raise NotFound(
                f"there is no user {name!r}", advice="List the users to see their names."
            )
        return user

    def find(self, name: str) -> User | None:
        """Return the user with this name, else the only one whose name differs only in case."""
        if (user := self.users.get(name)) is not None:
            return user
        alike = _alike(name, self.users, self._spellings)
        return self.users[alike[0]] if len(alike) == 1 else None

    def is_free(self, name: str) -> bool:
        """Return whether no user has this name, in whatever case."""
        return not _alike(name, self.users, self._spellings)

    def invite(self, invite_id: str) -> Invite:
        """Return the invite with this ID. Raises NotFound."""
        if (invite := self.invites.get(invite_id)) is None:
            raise NotFound(
                "there is no such invite",
                advice="List the invites; it may be used, withdrawn or expired.",
            )
        return invite

    def user_of(self, fingerprint: str) -> User | None:
        """Return the user who has this key, whatever the time."""
        name = self.user_name_by_key.get(fingerprint)
        return None if name is None else self.users[name]

    def owners(self) -> Iterator[User]:
        """Yield the owners without looking at the other users."""
        return (self.users[name] for name in self._owners)

    @property
    def roles(self) -> frozenset[str]:
        """The roles that users have, without looking at each."""
        return frozenset(self._count_by_role)

    def count_in(self, role: str) -> int:
        """Count the users with this role without looking at each."""
        return self._count_by_role.get(role) or 0

    @property
    def key_count(self) -> int:
        """The number of keys of all users, without looking at each."""
        return len(self.user_name_by_key)

    def limited_users(self) -> Iterator[User]:
        """Yield the users whose access has a start or an end, without looking at the others."""
        return (self.users[name] for name in self._limited)

    def access_periods(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Yield each user whose access has a start or an end, by name, with both."""
        return iter(self._limited.items())

    @property
    def limited_count(self) -> int:
        """The number of users whose access has a start or an end, without looking at each."""
        return len(self._limited)


def _check_free(user: User, by_name: Mapping[str, User], by_key: Mapping[str, str]) -> None:
    if user.name in by_name:
        raise NameTaken(f"the name {user.name!r} is taken", advice="Choose another name.")
    for key in user.keys:
        if key.fingerprint in by_key:
            raise KeyTaken(
                "this key belongs to a user already",
                advice="Remove it there first, or use the name it is known by.",
            )


def _alike(
    name: str, users: Mapping[str, User], spellings: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The names of users that differ from this one at most in case."""
    folded = name_key(name)
    others = spellings.get(folded, ())
    return (folded, *others) if folded in users and name_key(folded) == folded else others


def _check_unlike(
    name: str, users: Mapping[str, User], spellings: Mapping[str, tuple[str, ...]]
) -> None:
    if name not in users and (alike := _alike(name, users, spellings)):
        raise NameTaken(
            f"the name {name!r} differs only in case from that of the user {alike[0]!r}",
            advice="Choose another name.",
        )


def _with_spelling(
    spellings: HashTrieMap[str, tuple[str, ...]], name: str
) -> HashTrieMap[str, tuple[str, ...]]:
    if (folded := name_key(name)) == name:
        return spellings
    return spellings.insert(folded, (*(spellings.get(folded) or ()), name))


def _without_spelling(
    spellings: HashTrieMap[str, tuple[str, ...]], name: str
) -> HashTrieMap[str, tuple[str, ...]]:
    if (folded := name_key(name)) == name:
        return spellings
    left = tuple(one for one in spellings[folded] if one != name)
    return spellings.insert(folded, left) if left else spellings.remove(folded)


def _follow(
    invites: HashTrieMap[str, Invite], before: User, after: User | None
) -> HashTrieMap[str, Invite]:
    """The invites after their inviter was removed or renamed."""
    if after is not None and after.name == before.name:
        return invites
    for invite in invites.values():
        if invite.inviter == before.name:
            invites = (
                invites.remove(invite.id)
                if after is None
                else invites.insert(invite.id, replace(invite, inviter=after.name))
            )
    return invites


def differing(old: State, new: State) -> Iterator[tuple[User | None, User | None]]:
    """Yield each user that differs, as (before, after)."""
    names = _touched_between(old, new)
    if names is None:
        names = old.users.keys_apart(new.users)
    for name in names:
        before, after = old.users.get(name), new.users.get(name)
        if before is not after and before != after:
            yield before, after


def _touched_between(old: State, new: State) -> Iterable[str] | None:
    """Names of users that may differ, or None if the states have no known common step."""
    place = {step: number for number, step in enumerate(old.steps, 1)}
    for number in range(len(new.steps), 0, -1):
        if (common := place.get(new.steps[number - 1])) is not None:
            since = (*old.steps[common:], *new.steps[number:])
            return {name for step in since for name in step.touched}
    return None


def differing_invites(old: State, new: State) -> Iterator[tuple[Invite | None, Invite | None]]:
    """Yield each invite that differs, as (before, after)."""
    if old.invites is new.invites:
        return
    for one, before in old.invites.items():
        if before != (after := new.invites.get(one)):
            yield before, after
    for one, after in new.invites.items():
        if one not in old.invites:
            yield None, after


def changed_keys(old: State, new: State) -> frozenset[str]:
    """Return the keys that have lost their user or have other rights: their sessions end.

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


def lost_keys(old: State, new: State) -> frozenset[str]:
    """Return the keys that a user had in `old` and none has in `new`."""
    touched = (key for before, _ in differing(old, new) if before for key in before.keys)
    return frozenset(k.fingerprint for k in touched if k.fingerprint not in new.user_name_by_key)


class Inactive(StrEnum):
    """Why the owner of a known key is an unpaired subject now; empty if there is no reason."""

    NONE = ""
    EXPIRED = "expired"
    NOT_YET = "not-yet-valid"


@dataclass(frozen=True, slots=True)
class Subject:
    """The author of a request. `user` is None for an unknown key and for a user without access."""

    fingerprint: str
    user: User | None
    role: str
    inactive: Inactive = Inactive.NONE
