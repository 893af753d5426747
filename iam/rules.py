"""The rules that every transition follows, and that no policy can override.

Whether the actor may make this *kind* of change at all is decided by Access.decide. These rules
are:

1. No one changes a user whose role ranks above their own.
2. No one grants more than they have, neither in rank nor in time: a user with access until Sunday
   grants none beyond it. A new key is a grant, too, because it gets the user's rights.
3. A name and a key belong to one user. A new name differs from those of all other users by more
   than case.
4. The numbers of users, and of keys of each, are limited.
5. Once there is a permanent owner, there always is one: role owner, a key, and no start or end of
   access (a board's clock can be wrong, so an owner with limited access does not count).
6. An invite never grants more than its inviter can: when a user is removed, so are the user's
   invites, and when one is demoted or limited, those that grant too much.
7. A right that was taken away cannot be regained: an invite with uses left ends when a user who
   redeemed it loses the key, because another key is easily made.
8. Only a person at the device, or a verified key, vouches for a key: adds it, names it, or makes an
   invite for it. No key vouches for itself. Verifying or naming a key is a grant, too, because
   policies can depend on both.

If several rules refuse, the first in this order is reported.

Of the actor, only the GrantLimit matters: a rank and an end of access. It is computed from the
state as it is now, even if that has changed since the actor asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Final

from iam.builtin import OWNER, UNPAIRED
from iam.errors import Denied, LastOwner, LimitReached, NameTaken, NotFound
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.model import Key, State, Subject, User
from iam.policy import Role


@dataclass(frozen=True, slots=True)
class Rules:
    """The defined roles and the limits, against which changes are checked."""

    roles: Mapping[str, Role]
    limits: IamLimits = DEFAULT_IAM_LIMITS

    def rank(self, role: str) -> int:
        """Return the rank of a role. An undefined role ranks highest, so only owners repair it."""
        known = self.roles.get(role)
        return known.rank if known else max(r.rank for r in self.roles.values())


@dataclass(frozen=True, slots=True)
class GrantLimit:
    """The most that an actor can grant: roles up to this rank, and access until this end."""

    rank: float
    end: float


UNLIMITED: Final = GrantLimit(inf, inf)  # a person at the device
_NOTHING: Final = GrantLimit(-inf, -inf)


def grant_limit_of(state: State, actor: Subject | None, rules: Rules) -> GrantLimit:
    """Return what this actor can grant: the lesser of its rights when it asked and now."""
    if actor is None:
        return UNLIMITED
    if actor.user is None or actor.role not in rules.roles:
        return _NOTHING
    then, now = actor.user, grant_limit_of_user(state.user_of(actor.fingerprint), rules)
    return GrantLimit(min(rules.rank(actor.role), now.rank), min(then.end, now.end))


def grant_limit_of_user(user: User | None, rules: Rules) -> GrantLimit:
    """Return what this user can grant. An undefined role can grant nothing."""
    if user is None or user.role not in rules.roles:
        return _NOTHING
    return GrantLimit(rules.rank(user.role), user.end)


def check_vouches(state: State, actor: Subject | None, *keys: Key) -> None:
    """Check that the actor may say whose keys these are and what they are called.

    Without keys, for keys that are still unknown, as an invite does. Raises Denied.
    """
    if actor is None:
        return
    user = state.user_of(actor.fingerprint)
    if user is None or not user.key(actor.fingerprint).verified:
        raise Denied(
            "your key is not verified, so it cannot vouch for a key",
            advice="Pair again by a method that proves your key, or ask an owner to add it.",
        )
    if any(key.fingerprint == actor.fingerprint for key in keys):
        raise Denied(
            "a key cannot verify or name itself",
            advice="Use another of your keys, or ask an owner.",
        )


def change(
    state: State, limit: GrantLimit, before: User | None, after: User | None, *, rules: Rules
) -> State:
    """Return the state with `after` in the place of `before` (None: no user), by every rule."""
    if before is not None and rules.rank(before.role) > limit.rank:
        raise Denied(f"{before.name!r} ranks above you", advice="Ask an owner.")
    if after == before:
        return state
    if after is not None and _rises(before, after):
        check_within_limit(limit, after.role, after.end, rules=rules)
    changed = state.replaced(before, after)
    if after is not None:
        _check_room(state, before, after, rules)
    was_lasting = before is not None and _is_lasting_owner(before)
    if was_lasting and not any(map(_is_lasting_owner, changed.owners())):
        raise LastOwner(
            "this is the last owner, and a device must keep one",
            advice="Make another user an owner first, with a key and without a time limit.",
        )
    return changed if before is None else _cut_invites(changed, before, after, rules)


def check_within_limit(limit: GrantLimit, role: str, end: float, *, rules: Rules) -> None:
    """Check that this role until `end` is within the limit. Raises NotFound or Denied."""
    if role not in rules.roles or role == UNPAIRED:
        raise NotFound(
            f"there is no role {role!r} that a user can have",
            advice="List the roles to see their names.",
        )
    if rules.rank(role) > limit.rank:
        raise Denied(f"the role {role!r} ranks above yours", advice="Ask an owner.")
    if end > limit.end:
        raise Denied(
            "access would last longer than your own",
            advice="Give it an end no later than yours, or ask an owner.",
        )


def completed(state: State, user: User) -> tuple[User | None, User]:
    """Return the user whom this name means if without a key, and that user with these keys.

    The creator of the user decided about role and access, so these stay; the access ends at the
    earlier of both ends. Without such a user, the result is None and `user`.

    Raises NameTaken if the user without a key has another role than `user`.
    """
    held = state.find(user.name)
    if held is None or held.keys:
        return None, user
    if held.role != user.role:
        raise NameTaken(
            f"the user {held.name!r} has no key yet, and the role {held.role!r}, not {user.role!r}",
            advice=f"Use the role {held.role!r} to add the key, or choose another name.",
        )
    end = min(held.end, user.end)
    return held, replace(held, keys=user.keys, not_after=end if isfinite(end) else None)


def _is_lasting_owner(user: User) -> bool:
    return user.role == OWNER and bool(user.keys) and not user.is_limited


def _rises(before: User | None, after: User) -> bool:
    """True if the change grants anything. Another role does, even one that ranks lower."""
    if before is None or after.role != before.role:
        return True
    more_keys = not _vouched(after) <= _vouched(before)
    return more_keys or after.end > before.end or after.start < before.start


def _vouched(user: User) -> set[tuple[str, str, bool]]:
    """The facts about a user's keys that policies can depend on."""
    return {(key.fingerprint, key.name, key.verified) for key in user.keys}


def _check_room(state: State, before: User | None, after: User, rules: Rules) -> None:
    if before is None and len(state.users) >= rules.limits.users:
        raise LimitReached(
            f"there are {rules.limits.users} users, and no room for more",
            advice="Remove one first.",
        )
    had = len(before.keys) if before else 0
    if len(after.keys) > max(had, rules.limits.keys_per_user):
        raise LimitReached(
            f"{after.name!r} may have {rules.limits.keys_per_user} keys", advice="Remove one first."
        )


def _cut_invites(state: State, before: User, after: User | None, rules: Rules) -> State:
    """Remove the invites that this user may no longer offer, and those of lost keys."""
    lost = before.fingerprints - (after.fingerprints if after else frozenset())
    ended = {key.invite for key in before.keys if key.fingerprint in lost}
    if after is not None and (before.role, before.end) != (after.role, after.end):
        limit = grant_limit_of_user(after, rules)
        ended |= {
            invite.id
            for invite in state.invites.values()
            if invite.inviter == after.name
            and (rules.rank(invite.role) > limit.rank or invite.end > limit.end)
        }
    return state.without_invites(ended)
