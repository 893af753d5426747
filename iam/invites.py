"""Invites: the right to become a user, granted in advance and remotely.

An invite never grants more than its inviter can. That is checked when it is made and again when it
is redeemed, by the inviter's rights at that time; `iam.rules` ends it when the inviter is removed
or loses rights. Redeeming an invite needs no right and offers no choice: name, role and end are
those of the invite.

The caller has verified the token. This module gets the ID in it, and accepts only an invite that is
in the state: a used or withdrawn one is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from math import inf, isfinite

from iam.errors import Denied, InviteRefused, KeyTaken, LimitReached, Malformed, NameTaken, NotFound
from iam.limits import NAME_CHARACTERS_MAX
from iam.model import Invite, Key, State, Subject, User
from iam.rules import (
    UNLIMITED,
    GrantLimit,
    Rules,
    change,
    check_vouches,
    check_within_limit,
    completed,
    grant_limit_of,
    grant_limit_of_user,
)

_ASK = "Ask for a new invite."


def add_invite(
    state: State, actor: Subject | None, invite: Invite, *, now: float, rules: Rules
) -> State:
    """Add an invite in the actor's name, with an end no later than the actor's.

    Expired invites are removed to make room. Raises NotFound (role), Denied, NameTaken (for an
    invite of one use), LimitReached, Malformed (it would have ended already).
    """
    limit = grant_limit_of(state, actor, rules)
    not_after = invite.not_after
    if not_after is None and isfinite(limit.end):
        not_after = limit.end
    end = inf if not_after is None else not_after
    check_within_limit(limit, invite.role, end, rules=rules)
    check_vouches(state, actor)
    expires = min(invite.expires, end)
    if expires <= now:
        raise Malformed("the invite would have expired already", advice="Give a later end.")
    if not invite.is_shared and not state.is_free(invite.name):
        held = state.find(invite.name)
        if held is None or held.keys:
            raise NameTaken(f"the name {invite.name!r} is taken", advice="Choose another name.")
        completed(state, User(held.name, invite.role))  # refuses another role
        invite = replace(invite, name=held.name)
    state = without_expired(state, now)
    if len(state.invites) >= rules.limits.invites:
        raise LimitReached(
            f"there are {rules.limits.invites} invites, and no room for more",
            advice="Withdraw one first.",
        )
    inviter = state.user_of(actor.fingerprint) if actor is not None else None
    name = inviter.name if inviter is not None else ""
    own = replace(invite, inviter=name, expires=expires, not_after=not_after, used=0)
    return state.with_invite(own)


def names_of(state: State, invite: Invite) -> tuple[str, ...]:
    """Return the names that its uses give, if all of them are free by then.

    The name of a user who has no key yet is in the spelling of that user.
    """
    if invite.is_shared:
        return tuple(islice(_numbered(invite.name), invite.uses))
    held = state.find(invite.name)
    return (invite.name if held is None else held.name,)


def remove_invite(state: State, actor: Subject | None, invite_id: str, *, rules: Rules) -> State:
    """Remove an invite. Raises NotFound, Denied (its role ranks above the actor's)."""
    invite = state.invite(invite_id)
    if rules.rank(invite.role) > grant_limit_of(state, actor, rules).rank:
        raise Denied(f"the role {invite.role!r} ranks above yours", advice="Ask an owner.")
    return state.without_invites((invite_id,))


def without_expired(state: State, now: float) -> State:
    """Return the state without the invites that have expired."""
    return state.without_invites(one.id for one in state.invites.values() if one.expires <= now)


def redeem(
    state: State, invite_id: str, *, fingerprint: str, now: float, rules: Rules, key_name: str = ""
) -> tuple[State, User]:
    """Return the state with one use less, and the new user with this key; the last use ends it.

    A key that has redeemed the invite before gets the same `state` and its user and consumes no
    use, even if the invite has ended since: the first answer may have been lost.

    Raises InviteRefused, KeyTaken, NameTaken (another user has the name by now), LimitReached.
    """
    known = state.user_of(fingerprint)
    if known is not None and known.key(fingerprint).invite == invite_id:
        return state, known
    invite = _usable(state, invite_id, fingerprint, now)
    if known is not None:
        if state.find(invite.name) == known:
            return state, known
        raise KeyTaken(
            "this key belongs to a user already", advice="You are paired; no invite is needed."
        )
    limit = _limit_of_inviter(state, invite, now, rules)
    verified = _is_vouched(state, invite)
    key = Key(fingerprint, key_name, "invite", verified, now, invite_id)
    user = User(_free_name(state, invite), invite.role, (key,), "", None, invite.not_after, now)
    try:
        before, user = (None, user) if invite.is_shared else completed(state, user)
        changed = change(state, limit, before, user, rules=rules)
    except (Denied, NotFound) as error:
        raise InviteRefused(
            "the user who invited you may no longer grant this role", advice=_ASK
        ) from error
    return _used_once(changed, invite), user


def _usable(state: State, invite_id: str, fingerprint: str, now: float) -> Invite:
    if (invite := state.invites.get(invite_id)) is None:
        raise InviteRefused("this invite was used or withdrawn", advice=_ASK)
    if now >= invite.expires:
        raise InviteRefused("this invite has expired", advice=_ASK)
    if invite.key not in ("", fingerprint):
        raise InviteRefused(
            "this invite is for another key", advice="Redeem it with the client it was made for."
        )
    return invite


def _limit_of_inviter(state: State, invite: Invite, now: float, rules: Rules) -> GrantLimit:
    """The rights that the inviter can grant at this time."""
    if not invite.inviter:
        return UNLIMITED
    inviter = state.user(invite.inviter)
    if not inviter.start <= now < inviter.end:
        raise InviteRefused("the user who invited you has no access now", advice=_ASK)
    return grant_limit_of_user(inviter, rules)


def _is_vouched(state: State, invite: Invite) -> bool:
    """True if the inviter has a verified key now, or was at the device."""
    return not invite.inviter or any(key.verified for key in state.user(invite.inviter).keys)


def _free_name(state: State, invite: Invite) -> str:
    """The invite's name; with several uses the first free one of NAME, NAME-2 and so on."""
    if not invite.is_shared:
        return invite.name
    return next(name for name in _numbered(invite.name) if state.is_free(name))


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        ending = f"-{number}"
        yield name[: NAME_CHARACTERS_MAX - len(ending)] + ending


def _used_once(state: State, invite: Invite) -> State:
    state = state.without_invites((invite.id,))
    if invite.uses == 1:
        return state
    return state.with_invite(replace(invite, uses=invite.uses - 1, used=invite.used + 1))
