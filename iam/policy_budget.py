"""Bounds of the roles and policies in all files, and of the work for one decision.

Policy files can be generated. Their totals bound the memory of the daemon, and the work of a
decision bounds how long one request delays all others. Work is counted in steps: one for each
literal value, and more for what takes longer (parsing an attribute as a number or an address, and
searching it for a pattern).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from iam.condition import Condition
from iam.limits import DECISION_STEPS_MAX, POLICY_TOTALS, ROLE_STEPS_MAX
from iam.policy import Policy, Role, Statement

READ_STEPS: Final = 16  # the text of an attribute is read as a number, an address …
SEARCH_STEPS: Final = 4  # for each symbol of a pattern that has to be searched for


class Budget:
    """Counts what was read, over all files."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()

    def add(self, what: str, number: int = 1) -> str:
        """Add to a count; return why it is too much, or an empty text."""
        self._counted[what] += number
        if self._counted[what] > POLICY_TOTALS[what]:
            return f"the files hold more than {POLICY_TOTALS[what]} {what} in all"
        return ""


Costed = tuple[tuple[Statement, int], ...]


def costed(policy: Policy) -> Costed:
    """Return each statement with the most steps that it can take in one decision."""
    return tuple((one, 1 + sum(map(_steps, one.conditions))) for one in policy.statements)


def _steps(condition: Condition) -> int:
    return READ_STEPS + sum(_value_steps(condition, value) for value in condition.values)


def _value_steps(condition: Condition, value: str) -> int:
    if value.startswith("${"):
        return READ_STEPS
    if "Like" in condition.operator and "*" in value.rstrip("*"):
        return SEARCH_STEPS * len(value)
    return 1


def excess(role: Role, policies: Mapping[str, Costed]) -> str:
    """Return why a decision by the policies of a role can take too long, or an empty text.

    Policies that are not in the mapping do not count.
    """
    statements = (one for name in role.policies for one in policies.get(name, ()))
    found = dict(_steps_by_action(statements))
    for action, steps in found.items():
        if steps > DECISION_STEPS_MAX:
            return (
                f"a decision about {action} for role {role.id!r} may take {steps} steps, "
                f"more than {DECISION_STEPS_MAX}"
            )
    if sum(found.values()) > ROLE_STEPS_MAX:
        return (
            f"the decisions about all actions for role {role.id!r} may take more than "
            f"{ROLE_STEPS_MAX} steps"
        )
    return ""


def _steps_by_action(statements: Iterable[tuple[Statement, int]]) -> Iterator[tuple[str, int]]:
    """For each pattern, the steps of all statements that match an action which it matches."""
    steps: Counter[str] = Counter()
    for one, work in statements:
        for pattern in set(one.actions):
            steps[pattern] += work
    for pattern, work in steps.items():
        module = pattern.partition(":")[0] + ":*"
        yield pattern, work + (steps[module] if module in steps and module != pattern else 0)
