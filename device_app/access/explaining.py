"""Policy in words: what is in force, and why a user may or may not do something."""

from collections.abc import Callable, Mapping
from typing import Any

from device_app.access.authority import Authority
from iam.policy import Policy, Role, Statement, Step


def policy_verbs(
    authority: Authority,
) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The console's verbs on policy; see `device_app.console.table`."""

    def listed(_args: Mapping[str, Any]) -> dict[str, Any]:
        access = authority.access
        return {
            "roles": [
                role_view(role) for role in sorted(access.roles.values(), key=lambda r: r.rank)
            ],
            "policies": [policy_view(access.policies[name]) for name in sorted(access.policies)],
        }

    def explain(args: Mapping[str, Any]) -> dict[str, Any]:
        user, action = str(args["user"]), str(args["action"])
        found = authority.explain(user, action, dict(args.get("attributes", {})))
        return {
            "user": user,
            "action": action,
            "known": action in authority.access.actions,
            "allowed": found.decision.allowed,
            "depends": list(found.depends_on),
            "reason": found.decision.reason,
            "missing": found.decision.missing,
            "steps": [step_view(step) for step in found.steps],
        }

    return {"policy-list": listed, "policy-explain": explain}


def role_view(role: Role) -> dict[str, Any]:
    """A role as `/iam/roles` and `policy list` show it."""
    return {"id": role.id, "rank": role.rank, "policies": list(role.policies)}


def policy_view(policy: Policy) -> dict[str, Any]:
    """A policy as `/iam/policies` and `policy list` show it."""
    return {"id": policy.id, "statements": [_statement_view(one) for one in policy.statements]}


def _statement_view(statement: Statement) -> dict[str, Any]:
    view: dict[str, Any] = {"effect": statement.effect.value, "actions": list(statement.actions)}
    if statement.conditions:
        view["conditions"] = [
            {
                "operator": one.operator.value,
                "attribute": one.attribute,
                "values": list(one.values),
            }
            for one in statement.conditions
        ]
    return view


def step_view(step: Step) -> dict[str, Any]:
    """One statement that had a say."""
    return {
        "policy": step.policy,
        "statement": step.statement,
        "effect": step.effect.value,
        "applies": step.applies,
        "why": step.why,
        "depends": list(step.depends_on),
    }
