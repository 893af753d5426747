"""What may be done: Role, Policy and Statement, and the Decision that `evaluate` makes of them.

Deny beats allow, and the default is deny. The outcome does not depend on the order of policies and
statements; only which of several fitting statements is named as the reason does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from iam.errors import PolicyError

ACTION = re.compile(r"[A-Za-z][A-Za-z0-9]*:[A-Za-z][A-Za-z0-9]*")
PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9]*:(?:\*|[A-Za-z][A-Za-z0-9]*)")


class Effect(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """Allow or deny actions: `Module:Verb`, or `Module:*` for every verb of a module."""

    effect: Effect
    actions: tuple[str, ...]

    def __post_init__(self) -> None:
        for action in self.actions:
            if not PATTERN.fullmatch(action):
                raise PolicyError(
                    f"{action!r} is not an action", advice="Write Module:Verb or Module:*."
                )


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """`rank` orders roles: nobody gives, takes or touches a role that ranks above their own."""

    id: str
    rank: int
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is for the log: which statement decided. `missing` is for the subject: what it
    lacks, in words that tell nothing of the rest; empty when allowed."""

    allowed: bool
    reason: str
    missing: str = ""


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
