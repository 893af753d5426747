"""Import of Nabto's IAM files: what they decided is decided here, and never more than that."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Access, Key, Subject, User
from iam.builtin import LOWEST, POLICIES, RANKS, ROLES
from iam.config import load
from iam.nabto import Imported, read_config

FILES = Path(__file__).with_name("nabto")
CONFIGS = ("thermostat", "tunnel", "names")
APP = (
    *("Thermostat:Get", "Thermostat:Set"),
    *("TcpTunnel:ListServices", "TcpTunnel:GetService", "TcpTunnel:Connect"),
    *("Lamp:Get", "Lamp:Set", "Lamp:Dim", "Lamp:Wave"),
)
NAMES = ("anna", "bert", "zoe")


def text_of(name: str) -> str:
    return (FILES / f"{name}.json").read_text("utf-8")


# --------------------------------------------------------- an evaluator of their language, by hand


def theirs(config: Mapping[str, Any], role: str, action: str, known: Mapping[str, str]) -> bool:
    """Deny and error are final, wherever they stand; then some allow is needed."""
    policies = {one["Id"]: one for one in config["Policies"]}
    named: list[str] = next((one["Policies"] for one in config["Roles"] if one["Id"] == role), [])
    effects = set()
    for statement in (one for name in named for one in policies[name]["Statements"]):
        if action in statement["Actions"]:
            holds = all_hold(statement.get("Conditions", []), known)
            effects.add("Deny" if holds is None else statement["Effect"] if holds else "")
    return "Allow" in effects and "Deny" not in effects


def all_hold(conditions: list[dict[str, Any]], known: Mapping[str, str]) -> bool | None:
    """None is an error; conditions are looked at in their order."""
    for condition in conditions:
        ((operator, test),) = condition.items()
        ((name, values),) = test.items()
        if name not in known:
            return False
        found: bool | None = False
        for value in values:
            other = known.get(value[2:-1]) if value.startswith("${") else value
            found = other is not None and compared(operator, known[name], other)
            if found is not False:
                break
        if not found:
            return found
    return True


def compared(operator: str, left: str, right: str) -> bool | None:
    if operator == "Bool":
        return left == right if {left, right} <= {"true", "false"} else None
    if operator.startswith("String"):
        return (left == right) == (operator == "StringEquals")
    a, b = float(left), float(right)
    return {
        "Equals": a == b,
        "NotEquals": a != b,
        "LessThan": a < b,
        "LessThanEquals": a <= b,
        "GreaterThan": a > b,
        "GreaterThanEquals": a >= b,
    }[operator.removeprefix("Numeric")]


# What ours does, in theirs. The flags are what theirs tells of the target: u(ser), r(ole).
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
ABOUT_ANYBODY = {"Iam:ListUsers", "Iam:ListInvites", "Iam:RemoveInvite"}
ABOUT_NEW = {"Iam:AddUser", "Iam:CreateInvite", "Pairing:OpenWindow"}
EVERYBODY = {"Core:Discover", "Iam:GetMe"}


@dataclass(frozen=True)
class Case:
    role: str  # theirs; "" is a key that nobody has
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
        known = self.connection | ({"Connection:Username": "anna"} if self.role else {})
        if self.action not in MEANING:
            return theirs(config, role, self.action, {**known, **self.more})
        anybody = self.action in ABOUT_ANYBODY
        return all(
            theirs(config, role, f"IAM:{need}", known | self._told(target, flags))
            for target in (NAMES if anybody else (self.target,))
            for need, flags in MEANING[self.action].items()
        )

    def _told(self, target: str, flags: str) -> dict[str, str]:
        told = {"IAM:Username": target} if "u" in flags else {}
        return told | ({"IAM:RoleId": self.given} if "r" in flags else {})

    def ours(self, access: Access, *, names_new: bool = False) -> bool:
        key = Key("0" * 64)
        user = User("anna", renamed(self.role), (key,)) if self.role else None
        subject = Subject(key.fingerprint, user, user.role if user else "unpaired")
        told = dict(self.more)
        if self.action in MEANING and self.action not in ABOUT_ANYBODY:
            told["IAM:RoleId"] = renamed(self.given)
            if self.action not in ABOUT_NEW or names_new:
                told["IAM:Username"] = self.target
        return access.decide(subject, self.action, told | self.connection).allowed


def renamed(role: str) -> str:
    return f"nabto-{role}" if role in RANKS else role


def cases(
    config: Mapping[str, Any], apps: tuple[str, ...], more: list[dict[str, str]]
) -> Iterator[Case]:
    roles = [one["Id"] for one in config["Roles"]]
    for role, local, target, given_role in product(
        ["", *roles], (True, False), NAMES, [*roles, "admin", "owner"]
    ):
        for action in MEANING:
            yield Case(role, local, target, given_role, action, {})
    for role, local, action, told in product(["", *roles], (True, False), apps, more):
        yield Case(role, local, "", "", action, told)


def access_of(imported: Imported) -> Access:
    return load([("imported.toml", imported.rulebook_toml)]).access()


MORE: Mapping[str, list[dict[str, str]]] = {
    "thermostat": [
        {},
        *(
            {"Thermostat:Target": target, "Thermostat:ChildLock": lock}
            for target in ("4.9", "5", "27.49", "27.5", "-3")
            for lock in ("true", "false", "maybe", "")
        ),
    ],
    "tunnel": [
        {},
        *(
            {"TcpTunnel:ServiceType": kind, "TcpTunnel:ServiceId": name}
            for kind in ("http", "https", "ssh")
            for name in ("web", "router-admin")
        ),
    ],
    "names": [{}, {"Lamp:Room": "hall"}, {"Lamp:Room": "cellar"}, {"Lamp:Room": "attic"}],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_decides_here_as_it_did_there(name: str) -> None:
    config = json.loads(text_of(name))
    access = access_of(read_config(text_of(name), file=name))
    allowed = 0
    for case in cases(config, APP, MORE[name]):
        due = case.theirs(config)
        if not case.role and case.action != "Iam:RedeemInvite":
            due = False  # an unpaired key reaches nothing else here, whatever theirs says
        if case.action in ABOUT_NEW and case.target != "zoe":
            continue  # nobody new can have the name of somebody who is there
        assert case.ours(access) == due, case
        allowed += due
    assert allowed


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_is_allowed_that_has_no_counterpart(name: str) -> None:
    imported = read_config(text_of(name), file=name)
    access = access_of(imported)
    for role in (one.id for one in imported.roles if one.id != "unpaired"):
        user = User("anna", role, (Key("0" * 64),))
        mine = set(access.actions_of(Subject("0" * 64, user, role), known=LOWEST))
        assert mine <= MEANING.keys() | EVERYBODY
        assert mine >= EVERYBODY
    stranger = access.actions_of(Subject("0" * 64, None, "unpaired"))
    assert set(stranger) <= {"Core:Discover", "Iam:RedeemInvite"}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_built_in_stays_as_it_is(name: str) -> None:
    imported = read_config(text_of(name), file=name)
    access = access_of(imported)
    assert {one.id: one for one in ROLES if one.id != "unpaired"}.items() <= access.roles.items()
    assert {one.id: one for one in POLICIES}.items() <= access.policies.items()
    for role in imported.roles:
        assert access.roles[role.id] == role
        assert role.rank < RANKS["guest"]
    for policy in imported.policies:
        assert access.policies[policy.id] == policy


def test_a_condition_on_a_role_means_their_role_and_not_ours() -> None:
    """Their `guest` is `nabto-guest` here; whoever may invite it may not invite our guest."""
    needs = [f"IAM:{need}" for need in MEANING["Iam:CreateInvite"]]
    only = [{"StringEquals": {"IAM:RoleId": ["guest"]}}]
    statements = [
        {"Effect": "Allow", "Actions": [one for one in needs if one != "IAM:SetUserRole"]},
        {"Effect": "Allow", "Actions": ["IAM:SetUserRole"], "Conditions": only},
    ]
    policies = [{"Id": "invite", "Statements": statements}]
    roles = [{"Id": name, "Policies": ["invite"]} for name in ("chief", "guest")]
    config = {"Version": 1, "Config": {}, "Policies": policies, "Roles": roles}
    access = access_of(read_config(json.dumps(config), file="t"))
    subject = Subject("0" * 64, User("anna", "chief", (Key("0" * 64),)), "chief")
    for role, allowed in {"nabto-guest": True, "guest": False, "chief": False}.items():
        assert access.decide(subject, "Iam:CreateInvite", {"IAM:RoleId": role}).allowed == allowed


def test_who_may_do_more_ranks_higher() -> None:
    ranks = {one.id: one.rank for one in read_config(text_of("thermostat"), file="t").roles}
    assert ranks == {"unpaired": 0, "Unpaired": 6, "Guest": 7, "Standard": 8, "Administrator": 9}


NOTES = {
    "thermostat": [
        "t.json:16: Policies[0].Statements[0].Actions[0]: 'IAM:GetPairing' is left out: ",
        "t.json:31: Policies[2].Statements[0].Actions[0]: where Thermostat:Target is no number ",
        "t.json:7: Roles[2]: IAM:ListUsers does not become Iam:ListUsers, which does more and ",
        "t.json:4: Roles: roles have a rank here, ",
    ],
    "tunnel": [
        "t.json:62: Policies[4].Statements[3].Actions[0]: Iam:RemoveInvite is denied whoever ",
        "t.json:72: Roles[3]: IAM:CreateUser, IAM:SetUserPassword becomes only here and there ",
    ],
    "names": [
        "t.json:44: Comment: nothing is known of the field 'Comment'",
        "t.json:8: Policies[0].Statements[0].Actions[0]: 'Lamp:*' is left out: ",
        "t.json:8: Policies[0].Statements[0].Actions[2]: 'Blink' is left out: ",
        "t.json:8: Policies[0].Statements[0].Actions[3]: 'Hello:Get' is left out: the module ",
        "t.json:8: Policies[0].Statements[0].Actions[4]: 'IAM:Fly' is left out: Nabto's IAM has ",
        "t.json:8: Policies[0].Statements[0].Actions[5]: 'iam:GetUser' is left out: the module ",
        "t.json:12: Policies[0].Statements[1].Conditions[0]: in Nabto this holds where one value ",
        "t.json:22: Policies[1].Statements[0].Conditions[0]: this cannot be said here; 'Lamp:Set' ",
        "t.json:27: Policies[1].Statements[1].Conditions[0]: this cannot be said here; 'Lamp:Burn'",
        "t.json:30: Policies[1].Statements[3].Conditions[0]: this never holds for 'Lamp:Wave' ",
        "t.json:34: Policies[1].Statements[4].Conditions[0]: this never holds for 'IAM:ListRoles' ",
        "t.json:38: Policies[2]: nothing of this policy can be carried",
        "t.json:41: Roles[0]: handfast has a role owner; this one is called nabto-owner here",
        "t.json:3: Config: no role for unpaired keys is named",
    ],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_not_carried_is_said(name: str) -> None:
    notes = read_config(text_of(name), file="t.json").notes
    for due in NOTES[name]:
        assert any(note.startswith(due) for note in notes), due


def test_every_action_of_an_example_is_carried_or_said() -> None:
    for name in CONFIGS:
        imported = read_config(text_of(name), file="f")
        said = imported.rulebook_toml + "\n".join(imported.notes)
        for policy in json.loads(text_of(name))["Policies"]:
            for action in (a for one in policy["Statements"] for a in one["Actions"]):
                needed = any(action[4:] in needs for needs in MEANING.values())
                assert action in said or needed


# ------------------------------------------------------------------------ random configurations

IAM = sorted({f"IAM:{need}" for needs in MEANING.values() for need in needs})
condition = st.one_of(
    st.builds(
        lambda operator, name, values: {operator: {name: values}},
        st.sampled_from(["StringEquals", "StringNotEquals"]),
        st.sampled_from(
            ["IAM:Username", "IAM:RoleId", "Connection:Username", "Connection:RoleId", "Lamp:Room"]
        ),
        st.lists(
            st.sampled_from(
                ["anna", "A", "guest", "hall", "${Connection:Username}", "${Lamp:Room}"]
            ),
            max_size=2,
        ),
    ),
    st.builds(
        lambda name, values: {"Bool": {name: values}},
        st.sampled_from(["Connection:IsLocal", "Lamp:On", "Clock:Now", "lamp"]),
        st.lists(st.sampled_from(["true", "false", "${Lamp:Dark}"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda operator, value: {operator: {"Lamp:Level": [value]}},
        st.sampled_from(["NumericLessThan", "NumericNotEquals", "NumericGreaterThanEquals"]),
        st.sampled_from(["3", "4.5"]),
    ),
)
statement = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Allow", "Deny"]),
        "Actions": st.lists(st.sampled_from([*IAM, "Lamp:Get", "Lamp:Set", "Lamp:*", "Hello:Get"])),
    },
    optional={"Conditions": st.lists(condition, max_size=2)},
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    policies = [
        {"Id": f"p{number}", "Statements": draw(st.lists(statement, max_size=4))}
        for number in range(draw(st.integers(0, 3)))
    ]
    ids = [one["Id"] for one in policies]
    names = st.lists(st.sampled_from(ids), unique=True) if ids else st.just([])
    roles = [{"Id": name, "Policies": draw(names)} for name in ("A", "guest")]
    config = {"UnpairedRole": "A"} if draw(st.booleans()) else {}
    return {"Version": 1, "Config": config, "Policies": policies, "Roles": roles}


TOLD = [
    {},
    {"Lamp:Room": "hall", "Lamp:On": "true", "Lamp:Level": "3", "Lamp:Dark": "no"},
    {"Lamp:Room": "anna", "Lamp:On": "dim", "Lamp:Level": "4.50", "Lamp:Dark": "true"},
]


@settings(deadline=None, max_examples=60)
@given(configurations())
def test_no_configuration_allows_more_here_than_there(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    for case in cases(config, ("Lamp:Get", "Lamp:Set"), TOLD):
        for names_new in (False, True):
            if case.ours(access, names_new=names_new):
                assert case.theirs(config), case


def sayable(config: dict[str, Any]) -> bool:
    """No condition in it is left out here."""
    text = json.dumps(config)
    odd = ("Connection:RoleId", "Clock:", '"lamp"', "IAM:Username", "IAM:RoleId", "Lamp:Dark")
    return not any(one in text for one in odd)


@settings(deadline=None, max_examples=60)
@given(configurations().filter(sayable))
def test_what_can_be_said_is_decided_alike(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    for case in cases(config, ("Lamp:Get", "Lamp:Set"), TOLD):
        if case.role and (case.action not in MEANING or len(MEANING[case.action]) == 1):
            assert case.ours(access) == case.theirs(config), case


def test_the_file_is_plain_toml() -> None:
    for name in CONFIGS:
        made = tomllib.loads(read_config(text_of(name), file=name).rulebook_toml)
        assert set(made) == {"policy", "role"}
