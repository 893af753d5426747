"""What may become of the state: pure transitions, (state, actor, wish) → new state or IamError.

Whether the actor may make this *kind* of change at all is Access.decide's to say. Here stand the
rules that no policy can lift, all in `_change`, the one door every transition takes:

1. Nobody touches a user whose role ranks above their own.
2. Nobody raises anybody above themselves, neither in rank nor in time: who has access until Sunday
   gives none beyond it. A new key is a raise too, for it is given the user's rights.
3. A name and a key have one user.
4. There is room for so many users, and so many keys of each.
5. Once there is a lasting owner there always is one: role owner, a key, and no time limit (a
   board's clock may be wrong, so a limited owner is not counted on).

Where several rules refuse, the first in this order is told.

The actor is a Subject, or None for the console and the button: whoever stands at the board. What a
subject may do is read from the state as it is now, should it have changed since the subject was
made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import Final

from iam.builtin import GUEST, OWNER, UNPAIRED
from iam.errors import Denied, LastOwner, LimitReached, NotFound
from iam.model import Key, State, Subject, User
from iam.policy import Role


class Keep(Enum):
    """The value of an option that leaves a field of the user as it is (None is a value there)."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Rules:
    """What changes are measured by: the roles there are, and how much room there is."""

    roles: Mapping[str, Role]
    users: int = 256
    keys_per_user: int = 8

    def rank(self, role: str) -> int:
        """A role that is not defined ranks with the highest, so that only they repair it."""
        known = self.roles.get(role)
        return known.rank if known else max(r.rank for r in self.roles.values())


def has_owner(state: State) -> bool:
    """Has this device ever been taken? Counts owners whose time is over and those without a key."""
    return any(user.role == OWNER for user in state.users.values())


def default_role(state: State) -> str:
    """The role of a window whose opener names none: the first to pair owns the device."""
    return GUEST if has_owner(state) else OWNER


def _is_lasting_owner(user: User) -> bool:
    timeless = user.not_before is None and user.not_after is None
    return user.role == OWNER and bool(user.keys) and timeless


def check_grant(
    state: State,
    actor: Subject | None,
    role: str,
    *,
    not_after: float | None = None,
    rules: Rules,
) -> None:
    """May this actor hand out this role (by opening a window for it)? Raises NotFound or Denied."""
    _check_given(state, actor, User("anybody", role, not_after=not_after), rules)


def pair_user(
    state: State,
    actor: Subject | None,
    *,
    fingerprint: str,
    name: str,
    role: str,
    method: str,
    now: float,
    rules: Rules,
    verified: bool = True,
    key_name: str = "",
    not_after: float | None = None,
) -> State:
    """A new user with one key and the role of the window that `actor` opened.

    The same key under the same name again returns `state` itself, whatever the role.
    Raises KeyTaken, NameTaken, NotFound (role), Denied, LimitReached.
    """
    known = state.user_of(fingerprint)
    if known is not None and known.name == name:
        return state
    key = Key(fingerprint, key_name, method, verified, now)
    user = User(name, role, (key,), not_after=not_after, created=now)
    return _change(state, actor, None, user, rules)


def add_user(state: State, actor: Subject | None, user: User, *, rules: Rules) -> State:
    """Raises NameTaken, KeyTaken, NotFound (role), Denied, LimitReached."""
    return _change(state, actor, None, user, rules)


def set_user(
    state: State,
    actor: Subject | None,
    name: str,
    *,
    rules: Rules,
    role: str | Keep = KEEP,
    display_name: str | Keep = KEEP,
    not_before: float | Keep | None = KEEP,
    not_after: float | Keep | None = KEEP,
) -> State:
    """Raises NotFound (user or role), Denied, LastOwner, Malformed (time ends before it begins)."""
    before = state.user(name)
    after = replace(
        before,
        role=before.role if role is KEEP else role,
        display_name=before.display_name if display_name is KEEP else display_name,
        not_before=before.not_before if not_before is KEEP else not_before,
        not_after=before.not_after if not_after is KEEP else not_after,
    )
    return _change(state, actor, before, after, rules)


def rename(state: State, actor: Subject | None, name: str, new_name: str, *, rules: Rules) -> State:
    """Another name, the same keys and rights. Raises NotFound, NameTaken, Denied."""
    before = state.user(name)
    return _change(state, actor, before, replace(before, name=new_name), rules)


def remove_user(state: State, actor: Subject | None, name: str, *, rules: Rules) -> State:
    """Raises NotFound, Denied, LastOwner."""
    return _change(state, actor, state.user(name), None, rules)


def add_key(state: State, actor: Subject | None, name: str, key: Key, *, rules: Rules) -> State:
    """One more key for this user; one the user has already takes the new name, and nothing else.

    Raises NotFound, KeyTaken, Denied, LimitReached.
    """
    before = state.user(name)
    if key.fingerprint in before.fingerprints:
        key = replace(before.key(key.fingerprint), name=key.name)
    others = tuple(k for k in before.keys if k.fingerprint != key.fingerprint)
    return _change(state, actor, before, replace(before, keys=(*others, key)), rules)


def remove_key(
    state: State, actor: Subject | None, name: str, fingerprint: str, *, rules: Rules
) -> State:
    """Raises NotFound (user or key), Denied, LastOwner."""
    before = state.user(name)
    gone = before.key(fingerprint)
    kept = tuple(key for key in before.keys if key is not gone)
    return _change(state, actor, before, replace(before, keys=kept), rules)


def _change(
    state: State, actor: Subject | None, before: User | None, after: User | None, rules: Rules
) -> State:
    """The one door: every rule of this module, then the new state."""
    if before is not None and rules.rank(before.role) > _power(state, actor, rules)[0]:
        raise Denied(f"{before.name!r} ranks above you", advice="Ask an owner.")
    if after == before:
        return state
    if after is not None and _rises(before, after):
        _check_given(state, actor, after, rules)
    changed = state.replaced(before, after)
    if after is not None:
        _check_room(state, before, after, rules)
    was_lasting = before is not None and _is_lasting_owner(before)
    if was_lasting and not any(map(_is_lasting_owner, changed.users.values())):
        raise LastOwner(
            "this is the last owner, and a device must keep one",
            advice="Make somebody else an owner first, with a key and without a time limit.",
        )
    return changed


def _power(state: State, actor: Subject | None, rules: Rules) -> tuple[float, float]:
    """How high and how long this actor reaches: (rank, end of access)."""
    if actor is None:
        return inf, inf
    user = state.user_of(actor.fingerprint)
    if user is None or actor.user is None or not {user.role, actor.role} <= rules.roles.keys():
        return -inf, -inf
    return min(rules.rank(user.role), rules.rank(actor.role)), min(user.end, actor.user.end)


def _rises(before: User | None, after: User) -> bool:
    """Is something given? Another role counts, even a lower one: it is another set of rights."""
    if before is None or after.role != before.role:
        return True
    more_keys = not after.fingerprints <= before.fingerprints
    return more_keys or after.end > before.end or after.start < before.start


def _check_given(state: State, actor: Subject | None, user: User, rules: Rules) -> None:
    if user.role not in rules.roles or user.role == UNPAIRED:
        raise NotFound(f"there is no role {user.role!r} to give", advice="List the roles.")
    rank, end = _power(state, actor, rules)
    if rules.rank(user.role) > rank:
        raise Denied(f"the role {user.role!r} ranks above yours", advice="Ask an owner.")
    if user.end > end:
        raise Denied(
            "access would last longer than your own",
            advice="Give it an end no later than yours, or ask an owner.",
        )


def _check_room(state: State, before: User | None, after: User, rules: Rules) -> None:
    if before is None and len(state.users) >= rules.users:
        raise LimitReached(
            f"there are {rules.users} users, and no room for more", advice="Remove one first."
        )
    had = len(before.keys) if before else 0
    if len(after.keys) > max(had, rules.keys_per_user):
        raise LimitReached(
            f"{after.name!r} may have {rules.keys_per_user} keys", advice="Remove one first."
        )
