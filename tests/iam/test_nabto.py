"""Import of Nabto's IAM files: the imported rules decide alike, and never allow more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from iam import Key, Subject, User
from iam.builtin import LOWEST, POLICIES, RANKS, ROLES
from iam.errors import PolicyFileError
from iam.nabto import read_config
from tests.iam.nabto_cases import (
    ABOUT_NEW,
    APPLICATION_ATTRIBUTES,
    CONFIGS,
    MEANING,
    Case,
    access_of,
    cases,
    text_of,
)

APP = (
    *("Thermostat:Get", "Thermostat:Set"),
    *("TcpTunnel:ListServices", "TcpTunnel:GetService", "TcpTunnel:Connect"),
    *("Lamp:Get", "Lamp:Set", "Lamp:Dim", "Lamp:Wave"),
)
WITHOUT_A_ROLE = {"Core:Discover", "Iam:GetMe"}


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
def test_an_imported_example_decides_as_in_nabto(name: str) -> None:
    config = json.loads(text_of(name))
    access = access_of(read_config(text_of(name), file=name))
    allowed = 0
    for case in cases(config, APP, MORE[name]):
        due = case.theirs(config)
        if not case.role and case.action != "Iam:RedeemInvite":
            due = False  # an unpaired key is allowed nothing else here
        if case.action in ABOUT_NEW and case.target != "zoe":
            continue  # no new user can have the name of an existing one
        assert case.ours(config, access) == due, case
        allowed += due
    assert allowed


@pytest.mark.parametrize("name", CONFIGS)
def test_only_actions_with_a_counterpart_are_allowed(name: str) -> None:
    imported = read_config(text_of(name), file=name)
    access = access_of(imported)
    for role in (one.id for one in imported.roles if one.id != "unpaired"):
        user = User("anna", role, (Key("0" * 64),))
        mine = set(access.actions_of(Subject("0" * 64, user, role), known=LOWEST))
        assert mine <= MEANING.keys() | WITHOUT_A_ROLE
        assert mine >= WITHOUT_A_ROLE
    unpaired = access.actions_of(Subject("0" * 64, None, "unpaired"))
    assert set(unpaired) <= {"Core:Discover", "Iam:RedeemInvite"}


@pytest.mark.parametrize("name", CONFIGS)
def test_built_in_roles_and_policies_are_not_changed(name: str) -> None:
    imported = read_config(text_of(name), file=name)
    access = access_of(imported)
    assert {one.id: one for one in ROLES if one.id != "unpaired"}.items() <= access.roles.items()
    assert {one.id: one for one in POLICIES}.items() <= access.policies.items()
    for role in imported.roles:
        assert access.roles[role.id] == role
        assert role.rank < RANKS["guest"]
    for policy in imported.policies:
        assert access.policies[policy.id] == policy


def test_a_condition_on_a_role_refers_to_the_imported_role() -> None:
    """Nabto's `guest` becomes `nabto-guest`; a right to invite it does not include `guest`."""
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


def test_a_role_with_more_rights_has_a_higher_rank() -> None:
    ranks = {one.id: one.rank for one in read_config(text_of("thermostat"), file="t").roles}
    assert ranks == {"unpaired": 0, "Unpaired": 6, "Guest": 7, "Standard": 8, "Administrator": 9}


NOTES = {
    "thermostat": [
        "t.json:16: Policies[0].Statements[0].Actions[0]: 'IAM:GetPairing' is left out: ",
        "t.json:31: Policies[2].Statements[0].Actions[0]: 'Thermostat:Set' is denied where Therm",
        "t.json:7: Roles[2]: IAM:ListUsers cannot be imported: Iam:ListUsers needs ",
        "t.json:4: Roles: roles have a rank in handfast, ",
    ],
    "tunnel": [
        "t.json:62: Policies[4].Statements[3].Actions[0]: Iam:RemoveInvite is denied ",
        "t.json:72: Roles[3]: IAM:CreateUser, IAM:SetUserPassword can be imported only under ",
    ],
    "names": [
        "t.json:44: Comment: the field 'Comment' is unknown",
        "t.json:8: Policies[0].Statements[0].Actions[0]: 'Lamp:*' is left out: ",
        "t.json:8: Policies[0].Statements[0].Actions[2]: 'Blink' is left out: ",
        "t.json:8: Policies[0].Statements[0].Actions[3]: 'Hello:Get' is left out: the module ",
        "t.json:8: Policies[0].Statements[0].Actions[4]: 'IAM:Fly' is left out: Nabto's IAM has ",
        "t.json:8: Policies[0].Statements[0].Actions[5]: 'iam:GetUser' is left out: the module ",
        "t.json:12: Policies[0].Statements[1].Conditions[0]: in Nabto this holds if one value ",
        "t.json:22: Policies[1].Statements[0].Conditions[0]: handfast cannot express this; 'Lamp:S",
        "t.json:27: Policies[1].Statements[1].Conditions[0]: handfast cannot express this; 'Lamp:B",
        "t.json:30: Policies[1].Statements[3].Conditions[0]: this never holds for 'Lamp:Wave' ",
        "t.json:34: Policies[1].Statements[4].Conditions[0]: this never holds for 'IAM:ListRoles' ",
        "t.json:38: Policies[2]: nothing of this policy can be imported",
        "t.json:41: Roles[0]: handfast has a role owner; the imported one is nabto-owner",
        "t.json:3: Config: no role for unpaired keys is named",
    ],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_omission_has_a_note(name: str) -> None:
    notes = read_config(text_of(name), file="t.json").notes
    for due in NOTES[name]:
        assert any(note.startswith(due) for note in notes), due


def test_every_action_of_an_example_is_imported_or_noted() -> None:
    for name in CONFIGS:
        imported = read_config(text_of(name), file="f")
        output = imported.policy_toml + "\n".join(imported.notes)
        for policy in json.loads(text_of(name))["Policies"]:
            for action in (a for one in policy["Statements"] for a in one["Actions"]):
                needed = any(action[4:] in needs for needs in MEANING.values())
                assert action in output or needed


# ------------------------------------------------------------- what two languages differ about


def config_of(
    *policies: list[dict[str, Any]], roles: tuple[str, ...] = ("A", "guest")
) -> dict[str, Any]:
    """A configuration whose roles all have these policies."""
    named = [{"Id": f"p{number}", "Statements": one} for number, one in enumerate(policies)]
    mine = [{"Id": role, "Policies": [one["Id"] for one in named]} for role in roles]
    return {"Version": 1, "Config": {}, "Policies": named, "Roles": mine}


def allow(*actions: str, when: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"Effect": "Allow", "Actions": list(actions), "Conditions": when or []}


def deny(*actions: str, when: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {**allow(*actions, when=when), "Effect": "Deny"}


def check(operator: str, name: str, *values: str) -> dict[str, Any]:
    return {operator: {name: list(values)}}


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
def test_differences_of_the_languages_never_allow_more(kind: str) -> None:
    config = KINDS[kind]
    access = access_of(read_config(json.dumps(config), file="t"))
    for case in cases(config, ("Lamp:Set",), APPLICATION_ATTRIBUTES):
        for names_new in (False, True):
            if case.ours(config, access, names_new=names_new):
                assert case.theirs(config), case


def test_a_role_of_another_file_cannot_be_granted() -> None:
    """Nabto has no such role; without this rule of the import, only the rank would decide."""
    config = KINDS["a role that the file lacks is given"]
    access = access_of(read_config(json.dumps(config), file="t"))
    may = Case("A", "anna", True, "zoe", "A", "Iam:CreateInvite", {})
    assert may.ours(config, access)
    assert not replace(may, given="kiosk").ours(config, access)


def test_a_text_with_a_zero_byte_is_refused() -> None:
    text = json.dumps(config_of([deny("Lamp:Set\0not")]))
    with pytest.raises(PolicyFileError, match="a text has a zero byte"):
        read_config(text, file="t")


def test_a_number_with_too_many_digits_is_refused() -> None:
    config = config_of([deny("Lamp:Set", when=[check("NumericEquals", LEVEL, "4.50000000000000")])])
    with pytest.raises(PolicyFileError, match="does not compare so long a number"):
        read_config(json.dumps(config), file="t")
