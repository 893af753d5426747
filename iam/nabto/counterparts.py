"""The actions of Nabto's IAM, and what each action of handfast needs of them.

Nabto has small actions (set a user's role, their name, their password …) where handfast has one
for all of them. So every action of handfast that has a counterpart lists the actions of Nabto that
it *needs*: a user who may do all of those gains nothing by handfast's action. Denying one of them
denies handfast's action. This rule never widens a right:

    it is allowed  <=  every action it needs is allowed, under the conditions of all of them
    it is denied   <=  some action it needs is denied; a condition on a target that it does not
                       name is left out of the deny, which then denies more

`TARGETS` lists what Nabto tells its policies about the target of each action. A condition on
anything else never holds there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iam.builtin import LOWEST, RANKS
from iam.condition import Condition

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
    "IAM:PairingLocalOpen": "open a pairing window at the device",
    "IAM:PairingPasswordOpen": "open a window with the method `code`",
    "IAM:GetSettings": "a user who may open a window sees it",
    "IAM:SetDeviceInfo": "the device's name is in device.toml",
    "IAM:SetUserSct": "handfast has no server connect tokens",
    "IAM:SetUserFcm": _PUSH,
    "IAM:SendUserFcmTest": _PUSH,
    "IAM:SetUserNotificationCategories": _PUSH,
    "IAM:ListNotificationCategories": _PUSH,
    "IAM:SetUserOauthSubject": "a user of handfast is known by keys; add one",
}
"""Actions that no action of handfast needs, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """An action of handfast, and the actions of Nabto that it needs.

    `target` lists what a request for it says of its target. `about` lists those needs that serve
    nothing else, so that their loss is noted.
    """

    action: str
    needs: tuple[str, ...]
    target: frozenset[str] = _NONE
    about: tuple[str, ...] = ()


_LIST = ("IAM:ListUsers", "IAM:GetUser")  # handfast's lists show roles and keys, too
_INVITE = ("IAM:CreateUser", "IAM:SetUserRole", "IAM:SetUserPassword")
_ADD = ("IAM:CreateUser", "IAM:SetUserRole", "IAM:SetUserDisplayName", "IAM:SetUserFingerprint")
_SET = ("IAM:SetUserRole", "IAM:SetUserUsername", "IAM:SetUserDisplayName")
_OPEN = ("IAM:SetSettings", "IAM:SetUserRole")  # handfast's windows name the role that they grant

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
    """Return whether an action of handfast needs this action of Nabto's IAM."""
    return action in _NEEDED


def is_reserved(action: str) -> bool:
    """Return whether an application's action of this name would be in a reserved module."""
    return action.partition(":")[0].lower() in _OWN_MODULES


def role_id(name: str) -> str:
    """Return the role of handfast that stands for a role of Nabto.

    A built-in name is replaced: Nabto's says nothing about handfast's, which may do more.
    """
    return f"nabto-{name}" if name in RANKS else name


def policy_id(name: str) -> str:
    """Return the policy of handfast that stands for a policy of Nabto."""
    return f"nabto-{name}" if name.lower().startswith(_POLICY_PREFIXES) else name


def is_known(condition: Condition, counterpart: Counterpart) -> bool:
    """Return whether a request for our action has what this condition says of the target."""
    return all(name in counterpart.target for name in condition.names if name.startswith("IAM:"))
