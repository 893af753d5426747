"""Invites: leave to become a user, given beforehand and from afar.

An invite is a promise of its inviter, and is never worth more than the inviter. It is measured when
it is made and again when it is redeemed, by what the inviter is then; `iam.rules` ends it with the
inviter's name, rank or time. Whoever redeems it needs no right and has no say: name, role and end
are those of the invite.

That a token is genuine is shown before it comes here. What comes here is the id in it, and only an
invite that the state still holds is worth anything: used up or withdrawn is unknown.
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
    CONSOLE,
    Power,
    Rules,
    change,
    check_given,
    check_vouches,
    power_of,
    power_of_user,
)

_ASK = "Ask for a new invite."


def add_invite(
    state: State, actor: Subject | None, invite: Invite, *, now: float, rules: Rules
) -> State:
    """This invite, in the actor's name and cut to the actor's time; expired ones make room for it.

    Raises NotFound (role), Denied, NameTaken (for an invite of one use), LimitReached, Malformed
    (over before it begins).
    """
    power = power_of(state, actor, rules)
    not_after = invite.not_after
    if not_after is None and isfinite(power.end):
        not_after = power.end
    end = inf if not_after is None else not_after
    check_given(power, invite.role, end, rules=rules)
    check_vouches(state, actor)
    expires = min(invite.expires, end)
    if expires <= now:
        raise Malformed("the invite would be over already", advice="Give a later end.")
    if not invite.is_shared and invite.name in state.users:
        raise NameTaken(f"the name {invite.name!r} is taken", advice="Choose another name.")
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


def names_of(invite: Invite) -> tuple[str, ...]:
    """The names that its uses give, if nobody has one of them by then."""
    return tuple(islice(_numbered(invite.name), invite.uses if invite.is_shared else 1))


def remove_invite(state: State, actor: Subject | None, invite_id: str, *, rules: Rules) -> State:
    """Raises NotFound, Denied (it is for a role above the actor's own)."""
    invite = state.invite(invite_id)
    if rules.rank(invite.role) > power_of(state, actor, rules).rank:
        raise Denied(f"the role {invite.role!r} ranks above yours", advice="Ask an owner.")
    return state.without_invites((invite_id,))


def without_expired(state: State, now: float) -> State:
    """The state without the invites whose time is over."""
    return state.without_invites(one.id for one in state.invites.values() if one.expires <= now)


def redeem(
    state: State, invite_id: str, *, fingerprint: str, now: float, rules: Rules, key_name: str = ""
) -> tuple[State, User]:
    """The new user with this key, and the state with one use less; the last use ends the invite.

    A key that has the invite behind it already gets the same `state` and its user, and takes no
    use, even when the invite is gone by then: an answer may have been lost on its way.

    Raises InviteRefused, KeyTaken, NameTaken (somebody came by the name another way), LimitReached.
    """
    known = state.user_of(fingerprint)
    if known is not None and known.key(fingerprint).invite == invite_id:
        return state, known
    invite = _usable(state, invite_id, fingerprint, now)
    if known is not None:
        if known.name == invite.name:
            return state, known
        raise KeyTaken(
            "this key belongs to a user already", advice="You are paired; no invite is needed."
        )
    power = _power_behind(state, invite, now, rules)
    verified = _is_vouched(state, invite)
    key = Key(fingerprint, key_name, "invite", verified, now, invite_id)
    user = User(_free_name(state, invite), invite.role, (key,), "", None, invite.not_after, now)
    try:
        changed = change(state, power, None, user, rules=rules)
    except (Denied, NotFound) as error:
        raise InviteRefused(
            "whoever invited you may not give this role any more", advice=_ASK
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


def _power_behind(state: State, invite: Invite, now: float, rules: Rules) -> Power:
    """What the inviter could give at this time."""
    if not invite.inviter:
        return CONSOLE
    inviter = state.user(invite.inviter)
    if not inviter.start <= now < inviter.end:
        raise InviteRefused("whoever invited you has no access now", advice=_ASK)
    return power_of_user(inviter, rules)


def _is_vouched(state: State, invite: Invite) -> bool:
    """An invite vouches for whoever redeems it as far as its inviter does by then."""
    return not invite.inviter or any(key.verified for key in state.user(invite.inviter).keys)


def _free_name(state: State, invite: Invite) -> str:
    """The invite's name; for one of several uses the first that is free of NAME, NAME-2 …"""
    if not invite.is_shared:
        return invite.name
    return next(name for name in _numbered(invite.name) if name not in state.users)


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
