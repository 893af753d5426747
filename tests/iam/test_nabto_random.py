"""Random Nabto configurations decide alike after their import."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iam.nabto import read_config
from tests.iam.nabto_cases import (
    APPLICATION_ATTRIBUTES,
    CONFIGS,
    IAM,
    MEANING,
    access_of,
    cases,
    text_of,
)

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


@settings(max_examples=100)
@given(configurations())
def test_no_imported_configuration_allows_more_than_nabto(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    for case in cases(config, ("Lamp:Get", "Lamp:Set"), APPLICATION_ATTRIBUTES):
        for names_new in (False, True):
            if case.ours(config, access, names_new=names_new):
                assert case.theirs(config), case


def sayable(config: dict[str, Any]) -> bool:
    """Whether the import omits no condition of the configuration."""
    text = json.dumps(config)
    odd = ("Connection:", "Clock:", "lamp", "IAM:Username", "IAM:RoleId", "Lamp:Dark", "Lamp:Limit")
    return not any(one in text for one in odd)


@settings(max_examples=60)
@given(configurations().filter(sayable))
def test_a_configuration_imported_completely_decides_alike(config: dict[str, Any]) -> None:
    access = access_of(read_config(json.dumps(config), file="random"))
    numbers = "Numeric" in json.dumps(config)
    for case in cases(
        config,
        ("Lamp:Get", "Lamp:Set"),
        APPLICATION_ATTRIBUTES[1:3] if numbers else APPLICATION_ATTRIBUTES[:3],
    ):
        if case.role and (case.action not in MEANING or len(MEANING[case.action]) == 1):
            assert case.ours(config, access) == case.theirs(config), case


def test_the_imported_rules_are_valid_toml() -> None:
    for name in CONFIGS:
        made = tomllib.loads(read_config(text_of(name), file=name).policy_toml)
        assert set(made) == {"policy", "role"}
