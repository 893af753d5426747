"""Import of Nabto's IAM files: what they decided is decided here, and never more than that."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Access, Key, Subject, User
from iam.builtin import LOWEST, POLICIES, RANKS, ROLES
from iam.config import load
from iam.errors import PolicyFileError
from iam.nabto import Imported, read_config
from tests.iam.nabto_evaluator import has_role, is_allowed

FILES = Path(__file__).with_name("nabto")
CONFIGS = ("thermostat", "tunnel", "names")
APP = (
    *("Thermostat:Get", "Thermostat:Set"),
    *("TcpTunnel:ListServices", "TcpTunnel:GetService", "TcpTunnel:Connect"),
    *("Lamp:Get", "Lamp:Set", "Lamp:Dim", "Lamp:Wave"),
)
NAMES = ("anna", "guest", "nabto-guest", "zoe")
# Roles that are not in the file: built-in ones, and one of another file of the same device.
OTHERS = ("admin", "owner", "nabto-admin", "kiosk")
KIOSK = """
[[role]]
id = "kiosk"
rank = 1
policies = []
"""


def text_of(name: str) -> str:
    return (FILES / f"{name}.json").read_text("utf-8")


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
        anybody = self.action in ABOUT_ANYBODY
        return all(
            is_allowed(config, role, f"IAM:{need}", known | self._told(target, flags))
            for target in (NAMES if anybody else (self.target,))
            for need, flags in needs
        )

    def _told(self, target: str, flags: str) -> dict[str, str]:
        told = {"IAM:Username": target} if "u" in flags else {}
        return told | ({"IAM:RoleId": self.given} if "r" in flags else {})

    def ours(self, config: Mapping[str, Any], access: Access, *, names_new: bool = False) -> bool:
        key = Key("0" * 64)
        user = User(self.caller, renamed(config, self.role), (key,)) if self.role else None
        subject = Subject(key.fingerprint, user, user.role if user else "unpaired")
        told = dict(self.more)
        if self.action in MEANING and self.action not in ABOUT_ANYBODY:
            told["IAM:RoleId"] = renamed(config, self.given)
            if self.action not in ABOUT_NEW or names_new:
                told["IAM:Username"] = self.target
        return access.decide(subject, self.action, told | self.connection).allowed


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
    for role, local, action, told in product(["", *roles], (True, False), apps, more):
        yield Case(role, "anna", local, "", "", action, told)


def access_of(imported: Imported) -> Access:
    return load([("imported.toml", imported.rulebook_toml), ("kiosk.toml", KIOSK)]).access()


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
            continue  # no new user can have the name of an existing one
        assert case.ours(config, access) == due, case
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
    """Their `guest` is `nabto-guest` here; a user who may invite it may not invite our guest."""
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
        "t.json:31: Policies[2].Statements[0].Actions[0]: 'Thermostat:Set' is denied where Therm",
        "t.json:7: Roles[2]: IAM:ListUsers does not become Iam:ListUsers, which does more and ",
        "t.json:4: Roles: roles have a rank here, ",
    ],
    "tunnel": [
        "t.json:62: Policies[4].Statements[3].Actions[0]: Iam:RemoveInvite is denied ",
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


# ------------------------------------------------------------- what two languages differ about


def config_of(
    *policies: list[dict[str, Any]], roles: tuple[str, ...] = ("A", "guest")
) -> dict[str, Any]:
    """Roles that all have all of these policies."""
    named = [{"Id": f"p{number}", "Statements": one} for number, one in enumerate(policies)]
    mine = [{"Id": role, "Policies": [one["Id"] for one in named]} for role in roles]
    return {"Version": 1, "Config": {}, "Policies": named, "Roles": mine}


def allow(*actions: str, when: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"Effect": "Allow", "Actions": list(actions), "Conditions": when or []}


def deny(*actions: str, when: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {**allow(*actions, when=when), "Effect": "Deny"}


def check(operator: str, name: str, *values: str) -> dict[str, Any]:
    return {operator: {name: list(values)}}


# What an application tells: ordinary texts, and such as two readers take for different numbers.
TOLD = [
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


INVITING = ["IAM:CreateUser", "IAM:SetUserPassword"]
IS_ME, IS_NOT_ME = (check(f"String{word}Equals", "IAM:RoleId", "${Connection:Username}")
                    for word in ("", "Not"))  # fmt: skip
LEVEL = "Lamp:Level"
KINDS = {
    "a role that the file lacks is given": config_of([allow(*INVITING, "IAM:SetUserRole")]),
    "a role that the file lacks is named": config_of(
        [
            allow(*INVITING),
            allow("IAM:SetUserRole", when=[check("StringEquals", "IAM:RoleId", "kiosk", "admin")]),
        ],
        roles=("A", "nabto-admin"),
    ),
    "a role is compared with a name": config_of(
        [allow(*INVITING), allow("IAM:SetUserRole", when=[IS_ME])]
    ),
    "a role is compared with another name": config_of(
        [allow(*INVITING), allow("IAM:SetUserRole", when=[IS_NOT_ME])]
    ),
    "a deny compares a role with a name": config_of(
        [allow(*INVITING, "IAM:SetUserRole"), deny("IAM:SetUserRole", when=[IS_ME])]
    ),
    "a name is compared with a role": config_of(
        [
            allow("IAM:SetUserRole", "IAM:SetUserUsername", "IAM:SetUserDisplayName"),
            deny("IAM:SetUserRole", when=[check("StringEquals", "IAM:Username", "${IAM:RoleId}")]),
        ]
    ),
    "doubles that are equal": config_of(
        [allow("Lamp:Set", when=[check("NumericGreaterThan", LEVEL, "4.5")])]
    ),
    "doubles that differ by nothing": config_of(
        [allow("Lamp:Set", when=[check("NumericNotEquals", LEVEL, "4.5", "3")])]
    ),
    "a deny of equal doubles": config_of(
        [allow("Lamp:Set"), deny("Lamp:Set", when=[check("NumericEquals", LEVEL, "4.5")])]
    ),
    "a deny of a bound": config_of(
        [allow("Lamp:Set"), deny("Lamp:Set", when=[check("NumericGreaterThanEquals", LEVEL, "3")])]
    ),
    "numbers of two attributes": config_of(
        [allow("Lamp:Set", when=[check("NumericLessThan", LEVEL, "${Lamp:Limit}")])]
    ),
    "a number that is none, and another policy": config_of(
        [allow("Lamp:Set", when=[check("NumericLessThan", LEVEL, "3")])], [allow("Lamp:Set")]
    ),
    "an allow left out, with a Bool of its own": config_of(
        [allow("Lamp:Set", when=[check("Bool", "lamp", "true")]), allow("Lamp:Set")]
    ),
    "an allow left out, with a number of its own": config_of(
        [allow("Lamp:Set", when=[check("NumericEquals", "lamp", "3")]), allow("Lamp:Set")]
    ),
    "an allow left out, with a number before": config_of(
        [
            allow(
                "Lamp:Set",
                when=[check("NumericEquals", LEVEL, "3"), check("StringEquals", "lamp", "on")],
            ),
            allow("Lamp:Set"),
        ]
    ),
    "a deny that loses a Bool, and what comes after it": config_of(
        [
            allow("Lamp:Set"),
            deny(
                "Lamp:Set",
                when=[check("Bool", "lamp", "true"), check("StringEquals", "Lamp:Room", "attic")],
            ),
        ]
    ),
    "one value of a deny is never told": config_of(
        [
            allow("IAM:DeleteUser"),
            deny(
                "IAM:DeleteUser",
                when=[check("StringEquals", "IAM:Username", "${Connection:UserId}", "zoe")],
            ),
        ]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_languages_differ_nothing_more_is_allowed(kind: str) -> None:
    config = KINDS[kind]
    access = access_of(read_config(json.dumps(config), file="t"))
    for case in cases(config, ("Lamp:Set",), TOLD):
        for names_new in (False, True):
            if case.ours(config, access, names_new=names_new):
                assert case.theirs(config), case


def test_a_role_of_another_file_is_not_given() -> None:
    """Theirs could not exist there; without the rule of the import only the rank would count."""
    config = KINDS["a role that the file lacks is given"]
    access = access_of(read_config(json.dumps(config), file="t"))
    may = Case("A", "anna", True, "zoe", "A", "Iam:CreateInvite", {})
    assert may.ours(config, access)
    assert not replace(may, given="kiosk").ours(config, access)


def test_a_text_that_ends_early_is_refused() -> None:
    text = json.dumps(config_of([deny("Lamp:Set\0not")]))
    with pytest.raises(PolicyFileError, match="a text holds a zero byte"):
        read_config(text, file="t")


def test_a_number_that_no_double_holds_is_refused() -> None:
    config = config_of([deny("Lamp:Set", when=[check("NumericEquals", LEVEL, "4.50000000000000")])])
    with pytest.raises(PolicyFileError, match="does not compare so long a number"):
        read_config(json.dumps(config), file="t")


# ------------------------------------------------------------------------ random configurations

IAM = sorted({f"IAM:{need}" for needs in MEANING.values() for need in needs})
NUMBERS = ("3", "4.5", "-0.0", "${Lamp:Limit}")
condition = st.one_of(
    st.builds(
        lambda operator, name, values: {operator: {name: values}},
        st.sampled_from(["StringEquals", "StringNotEquals"]),
        st.sampled_from(
            ["IAM:Username", "IAM:RoleId", "Connection:Username", "Connection:RoleId", "Lamp:Room"]
        ),
        st.lists(
            st.sampled_from(
                [
                    *("anna", "A", "guest", "nabto-guest", "admin", "kiosk", "hall"),
                    *("${Connection:Username}", "${IAM:RoleId}", "${IAM:Username}"),
                    *("${Lamp:Room}", "${Connection:UserId}"),
                ]
            ),
            max_size=2,
        ),
    ),
    st.builds(
        lambda name, values: {"Bool": {name: values}},
        st.sampled_from(["Connection:IsLocal", "Lamp:On", "Clock:Now", "lamp", "IAM:Username"]),
        st.lists(
            st.sampled_from(["true", "false", "${Lamp:Dark}", "${lamp}"]), min_size=1, max_size=2
        ),
    ),
    st.builds(
        lambda operator, name, values: {operator: {name: values}},
        st.sampled_from(
            ["NumericLessThan", "NumericNotEquals", "NumericGreaterThanEquals", "NumericEquals"]
        ),
        st.sampled_from(["Lamp:Level", "Lamp:Level", "lamp", "Connection:Username"]),
        st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=2),
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


@settings(deadline=None, max_examples=100)
@given(configurations())
def test_no_configuration_allows_more_here_than_there(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    for case in cases(config, ("Lamp:Get", "Lamp:Set"), TOLD):
        for names_new in (False, True):
            if case.ours(config, access, names_new=names_new):
                assert case.theirs(config), case


def sayable(config: dict[str, Any]) -> bool:
    """No condition in it is left out here."""
    text = json.dumps(config)
    odd = ("Connection:", "Clock:", "lamp", "IAM:Username", "IAM:RoleId", "Lamp:Dark", "Lamp:Limit")
    return not any(one in text for one in odd)


@settings(deadline=None, max_examples=60)
@given(configurations().filter(sayable))
def test_what_can_be_said_is_decided_alike(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    numbers = "Numeric" in json.dumps(config)
    for case in cases(config, ("Lamp:Get", "Lamp:Set"), TOLD[1:3] if numbers else TOLD[:3]):
        if case.role and (case.action not in MEANING or len(MEANING[case.action]) == 1):
            assert case.ours(config, access) == case.theirs(config), case


def test_the_file_is_plain_toml() -> None:
    for name in CONFIGS:
        made = tomllib.loads(read_config(text_of(name), file=name).rulebook_toml)
        assert set(made) == {"policy", "role"}
