"""Costs of decisions and of loading policies, compared with each other; none is a limit."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import pytest

from iam import Access, Condition, Key, Operator, Role, Subject, User
from iam.config import load
from iam.policy_toml import to_toml
from tests.bench.policy_sets import ATTRIBUTES, access, policies

if TYPE_CHECKING:
    from tests.kit.table import Table

pytestmark = pytest.mark.bench
KEY = "ab" * 32
TESTER = Subject(KEY, User("anna", "tester", (Key(KEY),)), "tester")


def each(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Seconds for one call: the median of several rounds, without the first."""
    taken = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        for _ in range(times):
            work()
        taken.append((time.perf_counter() - begin) / times)
    return median(taken[1:])


def test_the_cost_of_a_decision_among_policies(table: Table) -> None:
    """Actions of the last policy: the worst case if policies were searched in order."""
    base = 0.0
    for count in (1, 100, 1000):
        rules, last = access(count), count - 1
        asked = {
            "plain": f"M{last}:Get",
            "denied": f"M{last}:Burn",
            "one condition": f"N{last}:Get",
            "four conditions": f"O{last}:Get",
        }
        for what, action in asked.items():
            assert rules.decide(TESTER, action, ATTRIBUTES).allowed is (what != "denied")

            def decide(rules: Access = rules, action: str = action) -> None:
                rules.decide(TESTER, action, ATTRIBUTES)

            cost = each(decide, 2000)
            base = base or cost
            table.add(f"decision, {count} policies, {what}", cost, f"{cost / base:.2f} ×")
    rules = access(1000)
    cost = each(lambda: rules.explain(TESTER, "O999:Get", ATTRIBUTES), 500)
    table.add("decision explained, 1000 policies", cost, f"{cost / base:.2f} ×")


def test_the_cost_of_a_pattern_on_hostile_text(table: Table) -> None:
    """The cost grows only with the length of the text and of the pattern."""
    base = 0.0
    for pieces in (1, 8, 64):
        condition = Condition(Operator.STRING_LIKE, "Lamp:Text", ("*a" * pieces + "!",))
        found = {"Lamp:Text": "a" * 1024}
        cost = each(lambda c=condition, f=found: c.holds(f), 200)  # type: ignore[misc]
        base = base or cost
        table.add(f"StringLike with {pieces} wildcards, no match", cost, f"{cost / base:.2f} ×")


def test_the_cost_of_loading_rules(table: Table) -> None:
    base = 0.0
    for count in (10, 1000):
        mine = policies(count)
        text = to_toml([Role("tester", 5, tuple(policy.id for policy in mine))], mine)
        bare = each(lambda text=text: tomllib.loads(text), 1, rounds=3)  # type: ignore[misc]
        cost = each(lambda text=text: load([("rules.toml", text)]).access(), 1, rounds=3)  # type: ignore[misc]
        base = base or cost / count
        table.add(
            f"load and check {count} policies, per policy",
            cost / count,
            f"{cost / count / base:.2f} ×, {cost / bare:.1f} × what tomllib alone takes",
        )
