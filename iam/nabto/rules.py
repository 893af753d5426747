"""What Nabto's IAM may do and what handfast may do: one table, and the way from one to the other.

Nabto has small actions (set a user's role, their name, their password …) where handfast has one
for the whole thing. So every action of ours that has a counterpart says which actions of theirs it
*needs*: whoever may do all of those may do no more with ours than before. A deny of one of them is
a deny of ours. That is the whole rule, and it never widens a right:

    ours is allowed  <=  every action it needs is allowed, under the conditions of all of them
    ours is denied   <=  some action it needs is denied; a condition on a target that ours does
                         not name is left out of the deny, which then denies more

`TARGETS` says what Nabto tells its policies about the target of each action. A condition on
anything else never holds there.

Nabto compares numbers as doubles, and an attribute that is compared as a number and is none is an
error, which denies whatever else allows. So where a role compares an attribute as a number, each
of its statements that allows the same action asks for a number as well (`guarded`), and a text that
is too long for a double to hold exactly is denied (`is_long`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from iam.builtin import LOWEST, RANKS
from iam.condition import Condition, Operator
from iam.policy import Effect, Statement

USERNAME: Final = "IAM:Username"
ROLE_ID: Final = "IAM:RoleId"
CALLER: Final = frozenset({"Connection:IsLocal", "Connection:Username"})  # with every action

_NONE: Final[frozenset[str]] = frozenset()
_USER: Final = frozenset({USERNAME})

TARGETS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(
        (
            "IAM:GetPairing",
            "IAM:PairingLocalInitial",
            "IAM:PairingLocalOpen",
            "IAM:PairingPasswordOpen",
            "IAM:PairingPasswordInvite",
            "IAM:ListUsers",
            "IAM:ListRoles",
            "IAM:CreateUser",
            "IAM:GetSettings",
            "IAM:SetSettings",
            "IAM:SetDeviceInfo",
            "IAM:ListNotificationCategories",
        ),
        _NONE,
    ),
    **dict.fromkeys(
        (
            "IAM:GetUser",
            "IAM:DeleteUser",
            "IAM:SetUserUsername",
            "IAM:SetUserDisplayName",
            "IAM:SetUserFingerprint",
            "IAM:SetUserPassword",
            "IAM:SetUserSct",
            "IAM:SetUserFcm",
            "IAM:SendUserFcmTest",
            "IAM:SetUserNotificationCategories",
            "IAM:SetUserOauthSubject",
        ),
        _USER,
    ),
    "IAM:SetUserRole": _USER | {ROLE_ID},
}
"""Every action of Nabto's IAM, with the attributes of its target."""

_PUSH: Final = "handfast sends no push messages; let an application do it"
INSTEAD: Final[Mapping[str, str]] = {
    "IAM:GetPairing": "a client sees by discovery whether the device can be paired",
    "IAM:PairingLocalInitial": "the first user pairs as owner while the window is open",
    "IAM:PairingLocalOpen": "open a window: `handfast-device open`",
    "IAM:PairingPasswordOpen": "open a window with the method `code`",
    "IAM:GetSettings": "whoever may open a window sees it",
    "IAM:SetDeviceInfo": "the device's name stands in device.toml",
    "IAM:SetUserSct": "handfast has no server connect tokens",
    "IAM:SetUserFcm": _PUSH,
    "IAM:SendUserFcmTest": _PUSH,
    "IAM:SetUserNotificationCategories": _PUSH,
    "IAM:ListNotificationCategories": _PUSH,
    "IAM:SetUserOauthSubject": "a user of handfast is known by keys; add one",
}
"""Actions that nothing of ours needs, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """An action of ours: what it needs, what a request for it says of its target, and which of its
    needs are good for nothing else: somebody may miss what those did."""

    action: str
    needs: tuple[str, ...]
    target: frozenset[str] = _NONE
    about: tuple[str, ...] = ()


_LIST = ("IAM:ListUsers", "IAM:GetUser")  # our lists show roles and keys, not names alone
_INVITE = ("IAM:CreateUser", "IAM:SetUserRole", "IAM:SetUserPassword")
_ADD = ("IAM:CreateUser", "IAM:SetUserRole", "IAM:SetUserDisplayName", "IAM:SetUserFingerprint")
_SET = ("IAM:SetUserRole", "IAM:SetUserUsername", "IAM:SetUserDisplayName")
_OPEN = ("IAM:SetSettings", "IAM:SetUserRole")  # our windows name the role they give

COUNTERPARTS: Final = (
    Counterpart("Iam:GetUser", ("IAM:GetUser",), _USER),
    Counterpart("Iam:RemoveUser", ("IAM:DeleteUser",), _USER),
    Counterpart("Iam:RemoveInvite", ("IAM:DeleteUser",)),
    Counterpart("Iam:AddKey", ("IAM:SetUserFingerprint",), _USER),
    Counterpart("Iam:RemoveKey", ("IAM:SetUserFingerprint",), _USER),
    Counterpart("Iam:ListRoles", ("IAM:ListRoles",)),
    Counterpart("Iam:RedeemInvite", ("IAM:PairingPasswordInvite",)),
    Counterpart("Iam:ListUsers", _LIST, about=_LIST[:1]),
    Counterpart("Iam:ListInvites", _LIST),
    Counterpart("Iam:AddUser", _ADD, frozenset({ROLE_ID}), about=_ADD[:1]),
    Counterpart(
        "Iam:CreateInvite",
        _INVITE,
        frozenset({ROLE_ID}),
        about=("IAM:CreateUser", "IAM:SetUserPassword"),
    ),
    Counterpart("Iam:SetUser", _SET, _USER | {ROLE_ID}, about=_SET),
    Counterpart("Pairing:OpenWindow", _OPEN, frozenset({ROLE_ID}), about=_OPEN[:1]),
)

_NEEDED: Final = frozenset(need for one in COUNTERPARTS for need in one.needs)
_OWN_MODULES: Final = frozenset(action.partition(":")[0].lower() for action in LOWEST)
_POLICY_PREFIXES: Final = ("core-", "app-", "nabto-")


def is_carried(action: str) -> bool:
    """Does something of ours need this action of Nabto's IAM?"""
    return action in _NEEDED


def is_ours(action: str) -> bool:
    """Would an application's action of this name be taken for one of handfast's own?"""
    return action.partition(":")[0].lower() in _OWN_MODULES


def role_id(name: str) -> str:
    """The role of ours that stands for a role of theirs. A name that is built in here is given
    another one: theirs says nothing about ours, and ours may do more."""
    return f"nabto-{name}" if name in RANKS else name


def policy_id(name: str) -> str:
    """The policy of ours that stands for a policy of theirs."""
    return f"nabto-{name}" if name.lower().startswith(_POLICY_PREFIXES) else name


NUMBER_MAX: Final = 15  # characters: two numbers of so many digits are never one double


def is_number(name: str) -> Condition:
    """Holds if the attribute is a number: only a number equals itself as one."""
    return Condition(Operator.NUMERIC_EQUALS, name, (f"${{{name}}}",))


def is_long(name: str) -> Condition:
    """Holds if the attribute has more characters than a number may have."""
    return Condition(Operator.STRING_LIKE, name, ("?" * (NUMBER_MAX + 1) + "*",))


@dataclass(frozen=True, slots=True)
class NumberNeeded:
    """Some statement about this action compares this attribute as a number."""

    action: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One action of Nabto's that a statement allows or denies, under all of these conditions."""

    effect: Effect
    action: str
    conditions: tuple[Condition, ...] = ()

    @property
    def is_iam(self) -> bool:
        """Is this an action of Nabto's IAM, and not of an application?"""
        return self.action in TARGETS


def guarded(grants: Iterable[Grant], needed: Collection[NumberNeeded]) -> tuple[Grant, ...]:
    """The grants of a role, where each that allows an action asks for the numbers that the role's
    other statements about it need."""
    return tuple(_guarded(grant, needed) if needed else grant for grant in grants)


def _guarded(grant: Grant, needed: Collection[NumberNeeded]) -> Grant:
    if grant.effect is Effect.DENY:
        return grant
    asked = {one.attribute for one in grant.conditions if one.operator.startswith("Numeric")}
    due = {one.attribute for one in needed if one.action == grant.action} - asked
    return replace(grant, conditions=(*grant.conditions, *map(is_number, sorted(due))))


def simple(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """What a policy of ours says: all that one grant decides by itself."""
    return written(one for grant in grants for one in _one_by_one(grant))


def combined(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """What the grants of a role allow together and none of them alone."""
    return written(
        Grant(Effect.ALLOW, counterpart.action, conditions)
        for counterpart, conditions in _together(tuple(grants))
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """An action of ours that does not come about although `allowed`, which it is about, is: it
    would need `lacking` too. `partly`: under some conditions it does come about."""

    action: str
    allowed: tuple[str, ...]
    lacking: tuple[str, ...]
    partly: bool


def losses(grants: Iterable[Grant]) -> Iterable[Loss]:
    """What a role is left without. One for each action of ours."""
    grants = tuple(grants)
    reached = [(one.action, frozenset(conditions)) for one, conditions in _together(grants)]
    found: dict[str, Loss] = {}
    for conditions, allowed in _allowed(grants).items():
        for one in COUNTERPARTS:
            about = tuple(need for need in one.about if need in allowed)
            lacking = tuple(need for need in one.needs if need not in allowed)
            mine = [smaller for action, smaller in reached if action == one.action]
            if about and not any(smaller <= {*conditions} for smaller in mine):
                found.setdefault(one.action, Loss(one.action, about, lacking, bool(mine)))
    return found.values()


def _one_by_one(grant: Grant) -> Iterable[Grant]:
    if not grant.is_iam:
        yield grant
        return
    for one in COUNTERPARTS:
        if grant.action not in one.needs:
            continue
        known = tuple(c for c in grant.conditions if is_known(c, one))
        if grant.effect is Effect.DENY:
            yield Grant(Effect.DENY, one.action, known)
        elif len(one.needs) == 1 and known == grant.conditions:
            yield Grant(Effect.ALLOW, one.action, known)


def _together(
    grants: tuple[Grant, ...],
) -> Iterable[tuple[Counterpart, tuple[Condition, ...]]]:
    groups = _allowed(grants)
    for one in COUNTERPARTS:
        if len(one.needs) == 1:
            continue
        met = [c for c, allowed in groups.items() if allowed.issuperset(one.needs)]
        for conditions in met:
            wider = any(frozenset(other) < frozenset(conditions) for other in met)
            if not wider and all(is_known(c, one) for c in conditions):
                yield one, conditions


def _allowed(grants: tuple[Grant, ...]) -> dict[tuple[Condition, ...], frozenset[str]]:
    """For each set of conditions: what is allowed where they hold. So what is allowed under fewer
    conditions is in there too."""
    groups: dict[frozenset[Condition], tuple[tuple[Condition, ...], set[str]]] = {}
    for grant in grants:
        if grant.effect is Effect.ALLOW and grant.is_iam:
            key = frozenset(grant.conditions)
            groups.setdefault(key, (grant.conditions, set()))[1].add(grant.action)
    return {
        conditions: frozenset().union(
            *(actions for other, (_, actions) in groups.items() if other <= key)
        )
        for key, (conditions, _) in groups.items()
    }


def is_known(condition: Condition, counterpart: Counterpart) -> bool:
    """Does a request for our action carry what this condition says of the target?"""
    return all(name in counterpart.target for name in condition.names if name.startswith("IAM:"))


def written(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """Statements that say this, one for each effect and set of conditions, in their order."""
    groups: dict[tuple[Effect, tuple[Condition, ...]], dict[str, None]] = {}
    for grant in grants:
        groups.setdefault((grant.effect, grant.conditions), {})[grant.action] = None
    return tuple(
        Statement(effect, tuple(actions), conditions)
        for (effect, conditions), actions in groups.items()
    )
