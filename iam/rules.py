"""The one door that every transition takes, and the rules that no policy can lift.

Whether the actor may make this *kind* of change at all is Access.decide's to say. Here stands:

1. Nobody touches a user whose role ranks above their own.
2. Nobody raises anybody above themselves, neither in rank nor in time: who has access until Sunday
   gives none beyond it. A new key is a raise too, for it is given the user's rights.
3. A name and a key have one user.
4. There is room for so many users, and so many keys of each.
5. Once there is a lasting owner there always is one: role owner, a key, and no time limit (a
   board's clock may be wrong, so a limited owner is not counted on).
6. Nobody's invites give more than they could give themselves: when a user goes, so do the invites,
   and when one falls or is limited, those that are too much by then.
7. What was taken away is not to be had again: an invite that has uses left ends when somebody who
   came by it loses the key, for another key is soon made.
8. Only the console, or a verified key, vouches for a key: gives it to a user, names it, or makes an
   invite for it. No key vouches for itself. To verify or to name a key is a raise as a new key is,
   for policies may go by both.

Where several rules refuse, the first in this order is told.

Who acts counts here only as a Power, how high and how long they reach. It is always measured by the
state as it is now, should it have changed since somebody was seen last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from iam.builtin import OWNER, UNPAIRED
from iam.errors import Denied, LastOwner, LimitReached, NotFound
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.model import Key, State, Subject, User
from iam.policy import Role


@dataclass(frozen=True, slots=True)
class Rules:
    """What changes are measured by: the roles there are, and how much room there is."""

    roles: Mapping[str, Role]
    limits: IamLimits = DEFAULT_IAM_LIMITS

    def rank(self, role: str) -> int:
        """A role that is not defined ranks with the highest, so that only they repair it."""
        known = self.roles.get(role)
        return known.rank if known else max(r.rank for r in self.roles.values())


@dataclass(frozen=True, slots=True)
class Power:
    """How high somebody reaches (`rank` of their role) and how long (`end` of their access)."""

    rank: float
    end: float


CONSOLE: Final = Power(inf, inf)  # whoever stands at the board
_NONE: Final = Power(-inf, -inf)


def power_of(state: State, actor: Subject | None, rules: Rules) -> Power:
    """What this actor can give: the less of what they were when they asked and what they are."""
    if actor is None:
        return CONSOLE
    if actor.user is None or actor.role not in rules.roles:
        return _NONE
    then, now = actor.user, power_of_user(state.user_of(actor.fingerprint), rules)
    return Power(min(rules.rank(actor.role), now.rank), min(then.end, now.end))


def power_of_user(user: User | None, rules: Rules) -> Power:
    """What this user could give. A role that is not defined has no power at all."""
    if user is None or user.role not in rules.roles:
        return _NONE
    return Power(rules.rank(user.role), user.end)


def check_vouches(state: State, actor: Subject | None, *keys: Key) -> None:
    """May this actor say whose keys these are and what they are called? Without keys: whose they
    will be, as an invite does. Raises Denied."""
    if actor is None:
        return
    user = state.user_of(actor.fingerprint)
    if user is None or not user.key(actor.fingerprint).verified:
        raise Denied(
            "your key is not verified, so it vouches for no key",
            advice="Pair again by a method that proves your key, or ask an owner to add it.",
        )
    if any(key.fingerprint == actor.fingerprint for key in keys):
        raise Denied(
            "a key neither verifies nor names itself",
            advice="Use another of your keys, or ask an owner.",
        )


def change(
    state: State, power: Power, before: User | None, after: User | None, *, rules: Rules
) -> State:
    """`after` in the place of `before` (None: nobody) by every rule of this module."""
    if before is not None and rules.rank(before.role) > power.rank:
        raise Denied(f"{before.name!r} ranks above you", advice="Ask an owner.")
    if after == before:
        return state
    if after is not None and _rises(before, after):
        check_given(power, after.role, after.end, rules=rules)
    changed = state.replaced(before, after)
    if after is not None:
        _check_room(state, before, after, rules)
    was_lasting = before is not None and _is_lasting_owner(before)
    if was_lasting and not any(map(_is_lasting_owner, changed.users_in(OWNER))):
        raise LastOwner(
            "this is the last owner, and a device must keep one",
            advice="Make somebody else an owner first, with a key and without a time limit.",
        )
    return changed if before is None else _cut_invites(changed, before, after, rules)


def check_given(power: Power, role: str, end: float, *, rules: Rules) -> None:
    """May this role until then be given by that power? Raises NotFound or Denied."""
    if role not in rules.roles or role == UNPAIRED:
        raise NotFound(f"there is no role {role!r} to give", advice="List the roles.")
    if rules.rank(role) > power.rank:
        raise Denied(f"the role {role!r} ranks above yours", advice="Ask an owner.")
    if end > power.end:
        raise Denied(
            "access would last longer than your own",
            advice="Give it an end no later than yours, or ask an owner.",
        )


def _is_lasting_owner(user: User) -> bool:
    return user.role == OWNER and bool(user.keys) and not user.is_limited


def _rises(before: User | None, after: User) -> bool:
    """Is something given? Another role counts, even a lower one: it is another set of rights."""
    if before is None or after.role != before.role:
        return True
    more_keys = not _vouched(after) <= _vouched(before)
    return more_keys or after.end > before.end or after.start < before.start


def _vouched(user: User) -> set[tuple[str, str, bool]]:
    """What is known of a user's keys, as far as policies may go by it."""
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
    """End what this user has offered and may not give any more, and what let a lost key in."""
    lost = before.fingerprints - (after.fingerprints if after else frozenset())
    ended = {key.invite for key in before.keys if key.fingerprint in lost}
    if after is not None and (before.role, before.end) != (after.role, after.end):
        power = power_of_user(after, rules)
        ended |= {
            invite.id
            for invite in state.invites.values()
            if invite.inviter == after.name
            and (rules.rank(invite.role) > power.rank or invite.end > power.end)
        }
    return state.without_invites(ended)
