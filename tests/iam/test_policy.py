"""Behaviour 24: the default is deny, deny beats allow, and order never matters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Policy, Statement
from iam.errors import PolicyError
from iam.policy import Effect, evaluate

ASKED = ("Lamp:Set", "Lamp:Get", "Door:Open")
statements = st.builds(
    Statement,
    st.sampled_from(Effect),
    st.lists(st.sampled_from((*ASKED, "Lamp:*", "Door:*")), max_size=3).map(tuple),
)
policies = st.lists(
    st.builds(Policy, st.just("p"), st.lists(statements, max_size=3).map(tuple)), max_size=4
)
asked = st.sampled_from(ASKED)


def fits(pattern: str, action: str) -> bool:
    return pattern in (action, action.partition(":")[0] + ":*")


@settings(deadline=None)
@given(policies, asked)
def test_the_outcome_is_some_allow_and_no_deny(found: list[Policy], action: str) -> None:
    effects = {
        statement.effect
        for policy in found
        for statement in policy.statements
        if any(fits(pattern, action) for pattern in statement.actions)
    }
    decision = evaluate(found, action)
    assert decision.allowed == (effects == {Effect.ALLOW})
    assert decision.reason
    assert bool(decision.missing) != decision.allowed


@settings(deadline=None)
@given(policies, asked, st.data())
def test_order_never_matters(found: list[Policy], action: str, data: st.DataObject) -> None:
    shuffled = [
        Policy(policy.id, tuple(data.draw(st.permutations(policy.statements))))
        for policy in data.draw(st.permutations(found))
    ]
    before, after = evaluate(found, action), evaluate(shuffled, action)
    assert (before.allowed, before.missing) == (after.allowed, after.missing)


@settings(deadline=None)
@given(policies, st.lists(st.sampled_from((*ASKED, "Lamp:*"))).map(tuple), st.data())
def test_a_deny_never_helps(
    found: list[Policy], denied: tuple[str, ...], data: st.DataObject
) -> None:
    deny = Policy("deny", (Statement(Effect.DENY, denied),))
    place = data.draw(st.integers(0, len(found)))
    more = [*found[:place], deny, *found[place:]]
    for action in ASKED:
        assert evaluate(more, action).allowed <= evaluate(found, action).allowed
        if any(fits(pattern, action) for pattern in denied):
            assert not evaluate(more, action).allowed


@pytest.mark.parametrize("asked_for", ["", "Lamp", "Lamp:", "Lamp:*", "Lamp:Set:x", "Lamp:Set\n"])
def test_only_a_whole_action_can_be_allowed(asked_for: str) -> None:
    everything = Policy("all", (Statement(Effect.ALLOW, ("Lamp:*",)),))
    assert not evaluate([everything], asked_for).allowed


@pytest.mark.parametrize("pattern", ["*", "*:*", "Lamp", "Lamp:", "Lam*:Set", "La mp:Set", "L:S*"])
def test_a_pattern_names_its_module(pattern: str) -> None:
    with pytest.raises(PolicyError):
        Statement(Effect.ALLOW, (pattern,))


def test_the_reason_names_the_statement_and_the_subject_is_told_only_the_right() -> None:
    secret = Policy("night-rules", (Statement(Effect.DENY, ("Lamp:*",)),))
    decision = evaluate([secret], "Lamp:Set")
    assert "'night-rules', statement 1" in decision.reason
    assert decision.missing == "You lack the right Lamp:Set."
