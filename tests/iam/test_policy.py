"""The default is Deny, a Deny overrides an Allow, and the order does not matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Condition, Effect, Operator, Policy, Statement
from iam.condition import Outcome
from iam.errors import PolicyError
from iam.limits import ATTRIBUTE_CHARACTERS_MAX, ATTRIBUTES_MAX
from iam.policy import Step
from iam.policy_index import Index, evaluate

ASKED = ("Lamp:Set", "Lamp:Get", "Door:Open")
NAMES = ("Lamp:Zone", "Lamp:Level", "Connection:Username", "Connection:IsLocal", "Clock:Now")
TEXTS = ("true", "false", "1", "2", "a", "*", "192.0.2.1")
LITERALS = {"Bool": ("true", "false"), "Date": ("1", "2"), "Numeric": ("1", "2")}


@st.composite
def condition(draw: st.DrawFn) -> Condition:
    operator = draw(st.sampled_from(Operator))
    texts = next((found for kind, found in LITERALS.items() if operator.startswith(kind)), TEXTS)
    if "Ip" in operator:
        texts = ("192.0.2.1", "192.0.2.0/24")
    others = tuple(f"${{{name}}}" for name in NAMES)
    values = st.lists(st.sampled_from((*texts, *texts, *others)), min_size=1, max_size=3)
    return Condition(operator, draw(st.sampled_from(NAMES)), tuple(draw(values)))


statements = st.builds(
    Statement,
    st.sampled_from(Effect),
    st.lists(st.sampled_from((*ASKED, "Lamp:*", "Door:*")), max_size=3).map(tuple),
    st.lists(condition(), max_size=2).map(tuple),
)
policies = st.lists(
    st.builds(Policy, st.just("p"), st.lists(statements, max_size=3).map(tuple)), max_size=4
)
asked = st.sampled_from(ASKED)
attributes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS))


def fits(pattern: str, action: str) -> bool:
    return pattern in (action, action.partition(":")[0] + ":*")


def applies(statement: Statement, found: Mapping[str, str]) -> bool:
    """Whether a statement applies by the documented rules; an unknown time restricts the user."""
    due = [condition.outcome(found) for condition in statement.conditions]
    if statement.effect is Effect.DENY:
        return all(one in (Outcome.HOLDS, Outcome.CLOCK) for one in due)
    return all(one is Outcome.HOLDS for one in due)


@given(policies, asked, attributes)
def test_a_request_is_allowed_by_an_allow_without_a_deny(
    found: list[Policy], action: str, given: dict[str, str]
) -> None:
    effects = {
        statement.effect
        for policy in found
        for statement in policy.statements
        if any(fits(pattern, action) for pattern in statement.actions) and applies(statement, given)
    }
    decision = evaluate(found, action, given)
    assert decision.allowed == (effects == {Effect.ALLOW})
    assert decision.reason
    assert bool(decision.missing) != decision.allowed


@given(policies, asked, attributes, st.data())
def test_the_order_of_statements_and_values_does_not_matter(
    found: list[Policy], action: str, given: dict[str, str], data: st.DataObject
) -> None:
    def shuffled_values(one: Condition) -> Condition:
        return replace(one, values=tuple(data.draw(st.permutations(one.values))))

    def shuffled(one: Statement) -> Statement:
        return Statement(
            one.effect,
            tuple(data.draw(st.permutations(one.actions))),
            tuple(map(shuffled_values, data.draw(st.permutations(one.conditions)))),
        )

    mixed = [
        Policy(policy.id, tuple(map(shuffled, data.draw(st.permutations(policy.statements)))))
        for policy in data.draw(st.permutations(found))
    ]
    before, after = evaluate(found, action, given), evaluate(mixed, action, given)
    assert (before.allowed, before.missing) == (after.allowed, after.missing)


@given(policies, statements, attributes, st.data())
def test_a_deny_never_adds_a_right_and_an_allow_never_removes_one(
    found: list[Policy], more: Statement, given: dict[str, str], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(found)))
    with_more = [*found[:place], Policy("more", (more,)), *found[place:]]
    for action in ASKED:
        before, after = (evaluate(some, action, given).allowed for some in (found, with_more))
        assert after <= before if more.effect is Effect.DENY else after >= before
        if more.effect is Effect.DENY and not more.conditions:
            assert not (after and any(fits(pattern, action) for pattern in more.actions))


@given(policies, asked, attributes, st.sampled_from(["0", "1", "2", "1896091200"]))
def test_an_unknown_time_never_adds_a_right(
    found: list[Policy], action: str, given: dict[str, str], now: str
) -> None:
    timeless = {name: text for name, text in given.items() if name != "Clock:Now"}
    if evaluate(found, action, timeless).allowed:
        assert evaluate(found, action, {**timeless, "Clock:Now": now}).allowed


@given(policies, asked, attributes)
def test_the_steps_are_the_matching_statements_and_explain_the_decision(
    found: list[Policy], action: str, given: dict[str, str]
) -> None:
    index = Index(found)
    steps = list(index.steps(action, given))
    due = [
        (policy.id, number, statement.effect, applies(statement, given))
        for policy in found
        for number, statement in enumerate(policy.statements, 1)
        if any(fits(pattern, action) for pattern in statement.actions)
    ]
    assert [(one.policy, one.statement, one.effect, one.applies) for one in steps] == due
    assert all(one.why for one in steps)
    allowed = {one.effect for one in steps if one.applies} == {Effect.ALLOW}
    assert index.evaluate(action, given).allowed is allowed


@pytest.mark.parametrize(
    ("too_much", "why"),
    [
        ({f"Lamp:A{number}": "" for number in range(ATTRIBUTES_MAX)}, "more than"),
        ({"Lamp:Path": "x" * ATTRIBUTE_CHARACTERS_MAX + "/secret"}, "longer than"),
    ],
)
def test_too_many_or_long_attributes_do_not_bypass_a_deny(
    too_much: dict[str, str], why: str
) -> None:
    secret = Condition(Operator.STRING_LIKE, "Lamp:Path", ("*/secret",))
    policy = Policy(
        "p",
        (
            Statement(Effect.ALLOW, ("Lamp:Set", "Lamp:Get")),
            Statement(Effect.DENY, ("Lamp:Set",), (secret,)),
        ),
    )
    found = {"Lamp:Path": "/secret", **too_much}
    decision = evaluate([policy], "Lamp:Set", found)
    assert not decision.allowed
    assert why in decision.reason
    assert list(Index([policy]).steps("Lamp:Set", found)) == []
    assert evaluate([policy], "Lamp:Get", found).allowed  # needs no attribute


@pytest.mark.parametrize(
    "asked_for", ["", "Lamp", "Lamp:", "Lamp:*", "Lamp:Set:x", "Lamp:Set\n", "Lamp:" + "S" * 65]
)
def test_only_a_complete_action_name_can_be_allowed(asked_for: str) -> None:
    everything = Policy("all", (Statement(Effect.ALLOW, ("Lamp:*",)),))
    assert not evaluate([everything], asked_for).allowed


@pytest.mark.parametrize("pattern", ["*", "*:*", "Lamp", "Lamp:", "Lam*:Set", "La mp:Set", "L:S*"])
def test_a_pattern_must_name_its_module(pattern: str) -> None:
    with pytest.raises(PolicyError):
        Statement(Effect.ALLOW, (pattern,))


def test_the_reason_names_the_statement_and_missing_only_the_right() -> None:
    secret = Policy("night-rules", (Statement(Effect.DENY, ("Lamp:*",)),))
    decision = evaluate([secret], "Lamp:Set")
    assert "'night-rules', statement 1" in decision.reason
    assert decision.missing == "You lack the right Lamp:Set."


def test_a_step_names_the_failed_condition_and_its_attribute() -> None:
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    named = Condition(Operator.STRING_EQUALS, "Connection:Username", ("anna", "bert"))
    late = Condition(Operator.DATE_GREATER_THAN, "Clock:Now", ("2030-01-31T12:00:00Z",))
    policy = Policy(
        "p",
        (
            Statement(Effect.ALLOW, ("Lamp:Set",), (local, named)),
            Statement(Effect.ALLOW, ("Lamp:Get",)),
            Statement(Effect.DENY, ("Lamp:*",), (late,)),
            Statement(Effect.ALLOW, ("Lamp:*", "Lamp:Set"), (local,)),
        ),
    )
    given = {"Connection:IsLocal": "true", "Connection:Username": "carl"}
    assert list(Index([policy]).steps("Lamp:Set", given)) == [
        Step(
            "p",
            1,
            Effect.ALLOW,
            applies=False,
            why="StringEquals Connection:Username ['anna', 'bert']: Connection:Username is 'carl'",
        ),
        Step(
            "p",
            3,
            Effect.DENY,
            applies=True,
            why="the time is not known, and then a Deny holds",
        ),
        Step("p", 4, Effect.ALLOW, applies=True, why="all conditions hold"),
    ]
    assert next(Index([policy]).steps("Lamp:Get")).why == "no conditions"
