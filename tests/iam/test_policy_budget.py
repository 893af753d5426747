"""Bounds on the content of all policy files and on the work of one decision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from iam import Key, Subject, User, limits, policy_budget
from iam.config import load
from iam.errors import PolicyFileError

KEY = Key("0" * 64)
SUBJECT = Subject(KEY.fingerprint, User("anna", "tester", (KEY,)), "tester")


def policy(name: str, *statements: str) -> str:
    return f'[[policy]]\nid = "{name}"\n' + "\n".join(statements)


def statement(*conditions: str, actions: str = '"Lamp:Set"', effect: str = "Allow") -> str:
    listed = ",\n".join(conditions)
    return f'[[policy.statement]]\neffect = "{effect}"\nactions = [{actions}]\n' + (
        f"conditions = [\n{listed}\n]\n" if conditions else ""
    )


def condition(operator: str, *values: str, name: str = "Lamp:Room") -> str:
    listed = ",\n".join(f'"{value}"' for value in values)
    return f'{{ {operator} = {{ "{name}" = [{listed}] }} }}'


def role(*policies: str, name: str = "tester") -> str:
    listed = ",\n".join(f'"{one}"' for one in policies)
    return f'[[role]]\nid = "{name}"\nrank = 5\npolicies = [\n{listed}\n]\n'


def many(count: int, text: str = "v") -> list[str]:
    return [f"{text}{number}" for number in range(count)]


def refusal(*files: str) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load([(f"f{number}.toml", text) for number, text in enumerate(files)])
    assert caught.value.advice
    return str(caught.value)


def searching(number: int) -> str:
    """A condition whose values each search the whole attribute without a match."""
    return condition("StringLike", *(f"*{'a' * 240}{number}b{one}" for one in range(256)))


def test_a_policy_that_takes_a_second_for_a_decision_is_refused() -> None:
    """It is within the bounds of one statement: 32 conditions with 256 patterns each."""
    text = role("p") + policy("p", statement(*map(searching, range(32))))
    assert refusal(text).startswith("f0.toml:2: a decision about Lamp:Set for role 'tester' may")


@pytest.mark.parametrize("actions", ['"Lamp:Set"', '"Lamp:*"', '"Lamp:Set", "Lamp:*"'])
def test_the_work_of_a_decision_includes_all_policies_of_the_role(actions: str) -> None:
    """Each policy alone is within the bound; statements of `Module:*` count as well."""
    one = statement(condition("StringEquals", *many(250)), actions=actions)
    texts = [policy(f"p{number}", one) for number in range(40)]
    assert "for role 'tester' may take" in refusal(*texts, role(*many(40, "p")))
    load([(str(number), text) for number, text in enumerate([*texts, role(*many(7, "p"))])])


@pytest.mark.parametrize(
    ("values", "attribute"),
    [
        (many(200), {"Lamp:Room": "hall"}),
        (["a*", "b*"], {"Lamp:Room": "hall"}),
        (["*hall*", "*b*c*"], {"Lamp:Room": "a" * 1024}),
        (["${Lamp:Other}"], {"Lamp:Room": "a" * 1024, "Lamp:Other": "b"}),
    ],
)
def test_the_work_of_the_worst_accepted_decision_is_bounded_by_its_steps(
    values: list[str], attribute: dict[str, str]
) -> None:
    """Loads the highest accepted number of statements and counts every function call."""
    one = statement(condition("StringLike", *values))
    [(_, steps)] = policy_budget.costed(load([("f", policy("p", one))]).policies[-1])
    most = limits.DECISION_STEPS_MAX // steps
    refusal(policy("p", *[one] * (most + 1)) + role("p"))
    access = load([("f", policy("p", *[one] * most) + role("p"))]).access()
    calls = 0

    def tick(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        decision = access.decide(SUBJECT, "Lamp:Set", attribute)
    finally:
        sys.setprofile(None)
    assert not decision.allowed
    assert calls < 10 * limits.DECISION_STEPS_MAX


def test_the_work_of_decisions_about_all_actions_is_bounded() -> None:
    """`/iam/me` decides about every action."""
    actions = ",\n".join(f'"Lamp:Set{number}"' for number in range(250))
    one = statement(condition("StringEquals", *many(100)), actions=actions)
    load([("f", policy("p", *[one] * 3) + role("p"))])
    output = refusal(policy("p", *[one] * 4) + role("p"))
    assert "the decisions about all actions for role 'tester' may take more than 100000" in output


def test_a_file_with_too_many_entries_is_refused_before_parsing() -> None:
    line = "x = [" + "1," * 1900 + "]\n"
    assert refusal(line * 110).startswith("f0.toml:1: the file has more than 200000 entries")


def test_a_replaced_built_in_role_is_bounded_as_well() -> None:
    text = policy("p", statement(*map(searching, range(32)), actions='"Hello:Get"'))
    text += '[[role]]\nid = "guest"\npolicies = ["core-unpaired", "p"]\n'
    assert "a decision about Hello:Get for role 'guest'" in refusal(text)


def test_the_totals_over_all_files_are_bounded() -> None:
    half = {name: most // 2 + 1 for name, most in limits.POLICY_TOTALS.items()}
    per = 200
    files: dict[str, Callable[[int], str]] = {
        "roles": lambda at: "\n".join(
            role(name=f"r{at}x{number}") for number in range(half["roles"])
        ),
        "policies": lambda at: "\n".join(
            policy(f"p{at}x{number}", statement()) for number in range(half["policies"])
        ),
        "statements": lambda at: policy(f"p{at}", *[statement()] * half["statements"]),
        "actions": lambda at: policy(
            f"p{at}",
            *[
                statement(actions=", \n".join(f'"M{number}:A"' for number in range(per)))
                for _ in range(half["actions"] // per + 1)
            ],
        ),
        "values": lambda at: policy(
            f"p{at}",
            *[
                statement(condition("StringEquals", *many(per)))
                for _ in range(half["values"] // per + 1)
            ],
        ),
    }
    assert files.keys() == limits.POLICY_TOTALS.keys() - {"policies of roles", "actions of roles"}
    for what, text in files.items():
        load([("a", text(0))])
        assert "f1.toml:" in (output := refusal(text(0), text(1)))
        assert f"more than {limits.POLICY_TOTALS[what]} {what} in all" in output


def test_the_number_of_policies_named_by_roles_is_bounded() -> None:
    policies = "\n".join(policy(f"p{number}", statement()) for number in range(1000))
    roles = [role(*many(1000, "p"), name=f"r{number}") for number in range(41)]
    output = refusal(policies, *roles)
    assert "the files hold more than 40000 policies of roles in all" in output


def test_the_size_of_the_index_of_a_role_is_bounded() -> None:
    actions = ",\n".join(f'"M{number}:A"' for number in range(250))
    text = policy("p", *[statement(actions=actions) for _ in range(150)])
    roles = [role("p", name=f"r{number}") for number in range(6)]
    load([("a", text + "\n".join(roles[:5]))])
    assert "more than 200000 actions of roles in all" in refusal(text, *roles)
