"""Roles, policies and decisions as `/iam/roles`, `/iam/policies` and the console show them."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from device_app.access.authority import Authority
from iam.access import Access
from iam.condition import Condition
from iam.policy import Policy, Role, Statement, Step


class RoleView(TypedDict):
    """A role."""

    id: str
    rank: int
    policies: list[str]


class ConditionView(TypedDict):
    """A condition of a statement."""

    operator: str
    attribute: str
    values: list[str]


class StatementView(TypedDict):
    """A statement of a policy."""

    effect: str
    actions: list[str]
    conditions: NotRequired[list[ConditionView]]


class PolicyView(TypedDict):
    """A policy."""

    id: str
    statements: list[StatementView]


class PolicyList(TypedDict):
    """The roles and policies in force: roles by rank, policies by name."""

    roles: list[RoleView]
    policies: list[PolicyView]


class StepView(TypedDict):
    """A statement whose actions fit, and whether it applies."""

    policy: str
    statement: int
    effect: str
    applies: bool
    why: str
    depends: list[str]


class PolicyExplanation(TypedDict):
    """A decision with its reasons.

    `known`: the action exists; `similar`: the actions that differ from it only in case; `depends`:
    the attributes of a request that decide; `missing`: the text that the user gets.
    """

    user: str
    action: str
    known: bool
    similar: list[str]
    allowed: bool
    depends: list[str]
    reason: str
    missing: str
    steps: list[StepView]


def policy_list(access: Access) -> PolicyList:
    """The roles and policies of a set."""
    roles = sorted(access.roles.values(), key=lambda role: role.rank)
    return {
        "roles": [role_view(role) for role in roles],
        "policies": [policy_view(access.policies[name]) for name in sorted(access.policies)],
    }


def policy_explanation(
    authority: Authority, user: str, action: str, attributes: Mapping[str, str]
) -> PolicyExplanation:
    """Why a user may or may not perform an action now. Raises `NotFound`."""
    found = authority.explain(user, action, attributes)
    actions, plain = authority.access.actions, action.casefold()
    return {
        "user": authority.spelling_of(user),
        "action": action,
        "known": action in actions,
        "similar": sorted(one for one in actions - {action} if one.casefold() == plain),
        "allowed": found.decision.allowed,
        "depends": list(found.depends_on),
        "reason": found.decision.reason,
        "missing": found.decision.missing,
        "steps": [_step_view(step) for step in found.steps],
    }


def role_view(role: Role) -> RoleView:
    """A role as others see it."""
    return {"id": role.id, "rank": role.rank, "policies": list(role.policies)}


def policy_view(policy: Policy) -> PolicyView:
    """A policy as others see it."""
    return {"id": policy.id, "statements": [_statement_view(one) for one in policy.statements]}


def _statement_view(statement: Statement) -> StatementView:
    view: StatementView = {"effect": statement.effect.value, "actions": list(statement.actions)}
    if statement.conditions:
        view["conditions"] = [_condition_view(one) for one in statement.conditions]
    return view


def _condition_view(condition: Condition) -> ConditionView:
    return {
        "operator": condition.operator.value,
        "attribute": condition.attribute,
        "values": list(condition.values),
    }


def _step_view(step: Step) -> StepView:
    return {
        "policy": step.policy,
        "statement": step.statement,
        "effect": step.effect.value,
        "applies": step.applies,
        "why": step.why,
        "depends": list(step.depends_on),
    }
