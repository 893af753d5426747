"""Changes of users and keys: pure transitions from (state, actor, request) to a new state.

`iam.invites` has those of invites. All of them follow the rules of `iam.rules`, which no policy can
override. The actor is a Subject, or None for a person at the device (console and button).
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from math import inf
from typing import Final

from iam.builtin import GUEST, OWNER
from iam.invites import add_invite, redeem, remove_invite
from iam.model import Key, State, Subject, User
from iam.rules import (
    Rules,
    change,
    check_vouches,
    check_within_limit,
    completed,
    grant_limit_of,
)

__all__ = [
    "KEEP",
    "Keep",
    "Rules",
    "add_invite",
    "add_key",
    "add_user",
    "check_grant",
    "default_role",
    "has_owner",
    "pair_user",
    "redeem",
    "remove_invite",
    "remove_key",
    "remove_user",
    "rename",
    "set_user",
]


class Keep(Enum):
    """The value that leaves a field of the user unchanged, where None is a value."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


def has_owner(state: State) -> bool:
    """Return whether any user is an owner, even without a key or after the end of access."""
    return next(state.owners(), None) is not None


def default_role(state: State, *, had_owner: bool = False) -> str:
    """Return the role of a window whose opener names none.

    The first user who pairs becomes the owner, unless the device had an owner before and has lost
    the store.
    """
    return GUEST if had_owner or has_owner(state) else OWNER


def check_grant(
    state: State,
    actor: Subject | None,
    role: str,
    *,
    not_after: float | None = None,
    rules: Rules,
) -> None:
    """Check that the actor may grant this role, for example by a window.

    Raises NotFound or Denied.
    """
    end = inf if not_after is None else not_after
    check_within_limit(grant_limit_of(state, actor, rules), role, end, rules=rules)


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
    receipt: bytes = b"",
) -> State:
    """Add a user with one key, and with the role of the window that `actor` opened.

    If the same key pairs under the same name again, the result is `state` itself, whatever the
    role. But if the key was not verified and this pairing verifies it, it becomes verified, and the
    user gets this role if it ranks higher. `receipt` is stored with the key. A user of this name
    who has the same role and no key yet gets this one.

    Raises KeyTaken, NameTaken, NotFound (role), Denied, LimitReached.
    """
    known = state.user_of(fingerprint)
    if known is not None and state.find(name) == known:
        held = known.key(fingerprint)
        if held.verified or not verified:
            return state
        verified_key = replace(held, verified=True, method=method, receipt=receipt)
        proved = _with_key(known, verified_key)
        higher = max(known.role, role, key=rules.rank)
        return _change(state, actor, known, replace(proved, role=higher), rules)
    key = Key(fingerprint, key_name, method, verified, now, receipt=receipt)
    user = User(name, role, (key,), not_after=not_after, created=now)
    return _change(state, actor, *completed(state, user), rules)


def add_user(state: State, actor: Subject | None, user: User, *, rules: Rules) -> State:
    """Add a user, for whose keys the actor vouches.

    Raises NameTaken, KeyTaken, NotFound (role), Denied, LimitReached.
    """
    changed = _change(state, actor, None, user, rules)
    if user.keys:
        check_vouches(state, actor, *user.keys)
    return changed


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
    """Change fields of a user.

    Raises NotFound (user or role), Denied, LastOwner, Malformed (access ends before it begins).
    """
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
    """Change the name of a user; keys and rights stay. Raises NotFound, NameTaken, Denied."""
    before = state.user(name)
    return _change(state, actor, before, replace(before, name=new_name), rules)


def remove_user(state: State, actor: Subject | None, name: str, *, rules: Rules) -> State:
    """Remove a user with all keys and invites. Raises NotFound, Denied, LastOwner."""
    return _change(state, actor, state.user(name), None, rules)


def add_key(state: State, actor: Subject | None, name: str, key: Key, *, rules: Rules) -> State:
    """Add a key to a user, for which the actor vouches.

    If the user has the key already, it gets the new name, and becomes verified if `key` is.

    Raises NotFound, KeyTaken, Denied, LimitReached.
    """
    before = state.user(name)
    if key.fingerprint in before.fingerprints:
        held = before.key(key.fingerprint)
        key = replace(held, name=key.name, verified=held.verified or key.verified)
    changed = _change(state, actor, before, _with_key(before, key), rules)
    if changed is not state:
        check_vouches(state, actor, key)
    return changed


def _with_key(user: User, key: Key) -> User:
    others = tuple(one for one in user.keys if one.fingerprint != key.fingerprint)
    return replace(user, keys=(*others, key))


def remove_key(
    state: State, actor: Subject | None, name: str, fingerprint: str, *, rules: Rules
) -> State:
    """Remove a key of a user. Raises NotFound (user or key), Denied, LastOwner."""
    before = state.user(name)
    gone = before.key(fingerprint)
    kept = tuple(key for key in before.keys if key is not gone)
    return _change(state, actor, before, replace(before, keys=kept), rules)


def _change(
    state: State, actor: Subject | None, before: User | None, after: User | None, rules: Rules
) -> State:
    return change(state, grant_limit_of(state, actor, rules), before, after, rules=rules)
