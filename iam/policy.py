"""Role, Policy and Statement, and the values that a decision by them consists of.

`iam.policy_index` evaluates them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from iam.condition import Condition
from iam.errors import PolicyError

_WORD = r"[A-Za-z][A-Za-z0-9]{0,63}"
ACTION: Final = re.compile(f"{_WORD}:{_WORD}")
PATTERN: Final = re.compile(rf"{_WORD}:(?:\*|{_WORD})")


class Effect(StrEnum):
    """Whether a statement allows or denies."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """Allow or deny actions, where all conditions hold.

    An action is `Module:Verb`, or `Module:*` for every verb of a module.
    """

    effect: Effect
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        for action in self.actions:
            if not PATTERN.fullmatch(action):
                raise PolicyError(
                    f"{action[:80]!r} is not an action", advice="Write Module:Verb or Module:*."
                )


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of statements."""

    id: str
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """A rank and a list of policies. No one changes a user who ranks above their own role."""

    id: str
    rank: int
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a decision.

    `reason` is for the log: the statement that decided. `missing` is for the subject: what it
    lacks, without any hint about the rest; empty if allowed.
    """

    allowed: bool
    reason: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement whose actions match, and why it applies or not.

    `statement` counts from 1. `depends_on` lists the attributes by which it can still apply.
    """

    policy: str
    statement: int
    effect: Effect
    applies: bool
    why: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and every statement that could affect it, in order.

    `depends_on` lists the attributes of a request that decide; if there are any, the decision is
    not certain and not allowed.
    """

    decision: Decision
    steps: tuple[Step, ...] = ()
    depends_on: tuple[str, ...] = ()


def matches(pattern: str, action: str) -> bool:
    """Return whether a pattern matches: `Module:*` matches every verb of the module."""
    return pattern == action or (pattern.endswith("*") and action.startswith(pattern[:-1]))
