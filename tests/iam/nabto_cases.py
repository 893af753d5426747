"""Nabto configurations, and requests that both Nabto's rules and the imported rules decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from iam import Access, Key, Subject, User
from iam.builtin import RANKS
from iam.config import load
from iam.nabto import Imported
from tests.iam.nabto_evaluator import has_role, is_allowed

FILES = Path(__file__).with_name("nabto")
CONFIGS = ("thermostat", "tunnel", "names")
NAMES = ("anna", "guest", "nabto-guest", "zoe")
# Roles that are not in the file: built-in roles, and a role of another file.
OTHERS = ("admin", "owner", "nabto-admin", "kiosk")
KIOSK = """
[[role]]
id = "kiosk"
rank = 1
policies = []
"""


def text_of(name: str) -> str:
    return (FILES / f"{name}.json").read_text("utf-8")


# Nabto's actions for one of handfast's. The flags are its attributes of the target: u(ser), r(ole).
MEANING: Mapping[str, Mapping[str, str]] = {
    "Iam:GetUser": {"GetUser": "u"},
    "Iam:RemoveUser": {"DeleteUser": "u"},
    "Iam:AddKey": {"SetUserFingerprint": "u"},
    "Iam:RemoveKey": {"SetUserFingerprint": "u"},
    "Iam:SetUser": {"SetUserRole": "ur", "SetUserUsername": "u", "SetUserDisplayName": "u"},
    "Iam:AddUser": {
        "CreateUser": "",
        "SetUserRole": "ur",
        "SetUserFingerprint": "u",
        "SetUserDisplayName": "u",
    },
    "Iam:CreateInvite": {"CreateUser": "", "SetUserRole": "ur", "SetUserPassword": "u"},
    "Pairing:OpenWindow": {"SetSettings": "", "SetUserRole": "ur"},
    "Iam:ListUsers": {"ListUsers": "", "GetUser": "u"},
    "Iam:ListInvites": {"ListUsers": "", "GetUser": "u"},
    "Iam:RemoveInvite": {"DeleteUser": "u"},
    "Iam:ListRoles": {"ListRoles": ""},
    "Iam:RedeemInvite": {"PairingPasswordInvite": ""},
}
ABOUT_ANY_USER = {"Iam:ListUsers", "Iam:ListInvites", "Iam:RemoveInvite"}
ABOUT_NEW = {"Iam:AddUser", "Iam:CreateInvite", "Pairing:OpenWindow"}


@dataclass(frozen=True)
class Case:
    role: str  # theirs; "" is a key without a user
    caller: str
    local: bool
    target: str  # a user's name
    given: str  # a role of theirs
    action: str  # ours
    more: Mapping[str, str]

    @property
    def connection(self) -> dict[str, str]:
        return {"Connection:IsLocal": str(self.local).lower()}

    def theirs(self, config: Mapping[str, Any]) -> bool:
        role = self.role or config["Config"].get("UnpairedRole", "")
        known = self.connection | ({"Connection:Username": self.caller} if self.role else {})
        if self.action not in MEANING:
            return is_allowed(config, role, self.action, {**known, **self.more})
        needs = MEANING[self.action].items()
        if any("r" in flags for _, flags in needs) and not has_role(config, self.given):
            return False
        any_user = self.action in ABOUT_ANY_USER
        return all(
            is_allowed(config, role, f"IAM:{need}", known | self._target_attributes(target, flags))
            for target in (NAMES if any_user else (self.target,))
            for need, flags in needs
        )

    def _target_attributes(self, target: str, flags: str) -> dict[str, str]:
        attributes = {"IAM:Username": target} if "u" in flags else {}
        return attributes | ({"IAM:RoleId": self.given} if "r" in flags else {})

    def ours(self, config: Mapping[str, Any], access: Access, *, names_new: bool = False) -> bool:
        key = Key("0" * 64)
        user = User(self.caller, renamed(config, self.role), (key,)) if self.role else None
        subject = Subject(key.fingerprint, user, user.role if user else "unpaired")
        attributes = dict(self.more)
        if self.action in MEANING and self.action not in ABOUT_ANY_USER:
            attributes["IAM:RoleId"] = renamed(config, self.given)
            if self.action not in ABOUT_NEW or names_new:
                attributes["IAM:Username"] = self.target
        return access.decide(subject, self.action, attributes | self.connection).allowed


def renamed(config: Mapping[str, Any], role: str) -> str:
    """A role of the file by its name here; any other is what it is here."""
    return f"nabto-{role}" if role in RANKS and has_role(config, role) else role


def cases(
    config: Mapping[str, Any], apps: tuple[str, ...], more: list[dict[str, str]]
) -> Iterator[Case]:
    roles = [one["Id"] for one in config["Roles"]]
    given = dict.fromkeys([*roles, *OTHERS])
    text = json.dumps(config)
    callers = NAMES[:3] if "Connection:Username" in text else NAMES[:1]
    for role, caller, local, target, given_role, action in product(
        ["", *roles], callers, (True, False), NAMES, given, MEANING
    ):
        yield Case(role, caller, local, target, given_role, action, {})
    for role, local, action, attributes in product(["", *roles], (True, False), apps, more):
        yield Case(role, "anna", local, "", "", action, attributes)


def access_of(imported: Imported) -> Access:
    return load([("imported.toml", imported.policy_toml), ("kiosk.toml", KIOSK)]).access()


# Attributes from an application: ordinary texts, and texts that two readers take for different
# numbers.
APPLICATION_ATTRIBUTES = [
    {},
    {"Lamp:Room": "hall", "Lamp:On": "true", "Lamp:Level": "3", "Lamp:Dark": "no"},
    {"Lamp:Room": "anna", "Lamp:On": "dim", "Lamp:Level": "4.50", "Lamp:Dark": "true"},
    {"Lamp:Room": "hall", "Lamp:On": "true", "Lamp:Level": "3", "lamp": "dim"},
    {"Lamp:On": "true", "Lamp:Level": "4.5000000000000000001", "lamp": "true"},
    {"Lamp:On": "true", "Lamp:Level": "2.9999999999999999999", "Lamp:Limit": "3"},
    *(
        {"Lamp:On": "true", "Lamp:Level": text, "Lamp:Limit": other}
        for text, other in (("1e3", "3"), ("", "0"), ("warm", "3"), ("0x10", "16"), ("nan", "inf"))
    ),
]


# ------------------------------------------------------------------------ random configurations

IAM = sorted({f"IAM:{need}" for needs in MEANING.values() for need in needs})
