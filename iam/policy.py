"""May this action be done under these policies? Deny beats allow, and the default is deny.

The outcome does not depend on the order of policies and statements; only which of several fitting
statements is named as the reason does.
"""

from __future__ import annotations

from collections.abc import Iterable

from iam.model import ACTION, Decision, Effect, Policy


def matches(pattern: str, action: str) -> bool:
    """`Module:*` fits every verb of that module; anything else fits itself."""
    return pattern == action or (pattern.endswith("*") and action.startswith(pattern[:-1]))


def evaluate(policies: Iterable[Policy], action: str) -> Decision:
    """Decide about one action. What is not of the form `Module:Verb` is denied."""
    missing = f"You lack the right {action[:80]}."
    if not ACTION.fullmatch(action):
        return Decision(False, f"{action[:80]!r} is not an action", missing)
    allowed = ""
    for policy in policies:
        for number, statement in enumerate(policy.statements, 1):
            if not any(matches(pattern, action) for pattern in statement.actions):
                continue
            why = f"policy {policy.id!r}, statement {number}: {statement.effect} {action}"
            if statement.effect is Effect.DENY:
                return Decision(False, why, missing)
            allowed = allowed or why
    if allowed:
        return Decision(True, allowed)
    return Decision(False, f"no statement allows {action}", missing)
