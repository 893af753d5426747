"""What may be done: Role, Policy and Statement, and the Decision that `evaluate` makes of them.

Deny beats allow, and the default is deny. A statement applies if one of its actions fits and all
of its conditions hold. The outcome does not depend on the order of policies, statements or values;
only which of several fitting statements is named as the reason does.

`Index` has the statements by action, so that a decision looks at those that name the action or its
module and at no others, however many policies there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Final

from iam.attributes import NO_ATTRIBUTES, Attributes, excess, is_own, merged
from iam.condition import Condition, Outcome, nothing
from iam.errors import PolicyError

__all__ = [
    "ACTION",
    "PATTERN",
    "Attributes",
    "Decision",
    "Effect",
    "Explanation",
    "Index",
    "Policy",
    "Role",
    "Statement",
    "Step",
    "evaluate",
    "is_own",
    "matches",
    "merged",
]

_WORD = r"[A-Za-z][A-Za-z0-9]{0,63}"
ACTION: Final = re.compile(f"{_WORD}:{_WORD}")
PATTERN: Final = re.compile(rf"{_WORD}:(?:\*|{_WORD})")


class Effect(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """Allow or deny actions: `Module:Verb`, or `Module:*` for every verb of a module. Applies only
    where all conditions hold."""

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


@dataclass(frozen=True, slots=True)
class Step:
    """One statement whose actions fit (`statement` counts from 1), and why it applies or not.
    `depends_on`: the attributes by which it may apply yet."""

    policy: str
    statement: int
    effect: Effect
    applies: bool
    why: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and every statement that could have had a say in it, in order. `depends_on`: the
    attributes of a request that decide; then the decision is not certain, and not allowed."""

    decision: Decision
    steps: tuple[Step, ...] = ()
    depends_on: tuple[str, ...] = ()


def matches(pattern: str, action: str) -> bool:
    """`Module:*` fits every verb of that module; anything else fits itself."""
    return pattern == action or (pattern.endswith("*") and action.startswith(pattern[:-1]))


# With which outcomes of all its conditions a statement applies. What is open yet may come true, so
# it counts for an Allow and not for a Deny; what the clock would have to say is counted against
# the subject in both. `_SURELY` counts also what is open against the subject.
_APPLIES: Final[Mapping[Effect, frozenset[Outcome]]] = {
    Effect.ALLOW: frozenset({Outcome.HOLDS, Outcome.OPEN}),
    Effect.DENY: frozenset({Outcome.HOLDS, Outcome.CLOCK}),
}
_SURELY: Final[Mapping[Effect, frozenset[Outcome]]] = {
    Effect.ALLOW: frozenset({Outcome.HOLDS}),
    Effect.DENY: frozenset({Outcome.HOLDS, Outcome.CLOCK, Outcome.OPEN}),
}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A statement in its place: `order` among all, `number` in its policy."""

    order: int
    policy: str
    number: int
    statement: Statement

    def applies(
        self,
        attributes: Attributes,
        is_open: Callable[[str], bool],
        table: Mapping[Effect, frozenset[Outcome]] = _APPLIES,
    ) -> bool:
        due = table[self.statement.effect]
        return all(one.outcome(attributes, is_open) in due for one in self.statement.conditions)

    def depends_on(self, attributes: Attributes, is_open: Callable[[str], bool]) -> tuple[str, ...]:
        """The attributes by which it may apply or not; none if that is settled."""
        outcomes = {one: one.outcome(attributes, is_open) for one in self.statement.conditions}
        settled = {*outcomes.values()} - _APPLIES[self.statement.effect] - {Outcome.OPEN}
        if settled:
            return ()
        return tuple(
            name
            for one, outcome in outcomes.items()
            if outcome is Outcome.OPEN
            for name in one.open_names(attributes, is_open)
        )

    def why(self, attributes: Attributes) -> str:
        """The first condition that keeps it from applying, with both sides; or that none does."""
        outcomes = {one: one.outcome(attributes) for one in self.statement.conditions}
        for one, outcome in outcomes.items():
            if outcome not in _APPLIES[self.statement.effect]:
                return one.why(attributes)
        if Outcome.CLOCK in outcomes.values():
            return "the time is not known, and then a Deny holds"
        return "all conditions hold" if outcomes else "no conditions"


@dataclass(slots=True)
class _Fitting:
    """The statements that name one pattern."""

    denies: list[_Placed]
    allows: list[_Placed]
    conditional: bool = False


_NONE: Final = _Fitting([], [])


class Index:
    """The statements of some policies by the patterns that they name. It never changes."""

    __slots__ = ("_exact", "_modules")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._exact: dict[str, _Fitting] = {}
        self._modules: dict[str, _Fitting] = {}
        order = 0
        for policy in policies:
            for number, statement in enumerate(policy.statements, 1):
                self._enter(_Placed(order, policy.id, number, statement))
                order += 1

    def _enter(self, placed: _Placed) -> None:
        statement = placed.statement
        for pattern in dict.fromkeys(statement.actions):
            module, _, verb = pattern.partition(":")
            table, key = (self._modules, module) if verb == "*" else (self._exact, pattern)
            fitting = table.setdefault(key, _Fitting([], []))
            mine = fitting.denies if statement.effect is Effect.DENY else fitting.allows
            mine.append(placed)
            fitting.conditional = fitting.conditional or bool(statement.conditions)

    def _fitting(self, action: str) -> tuple[_Fitting, _Fitting]:
        return (
            self._exact.get(action, _NONE),
            self._modules.get(action.partition(":")[0], _NONE),
        )

    def _in_turn(self, action: str) -> Iterator[_Placed]:
        """Every Deny, then every Allow, so that the first that applies decides."""
        exact, module = self._fitting(action)
        return chain(exact.denies, module.denies, exact.allows, module.allows)

    def is_conditional(self, action: str) -> bool:
        """Does what may be done with this action depend on any attribute?"""
        return any(fitting.conditional for fitting in self._fitting(action))

    def evaluate(
        self,
        action: str,
        attributes: Attributes = NO_ATTRIBUTES,
        is_open: Callable[[str], bool] = nothing,
    ) -> Decision:
        """Decide about one action. What is not of the form `Module:Verb` is denied."""
        missing = f"You lack the right {action[:80]}."
        if not ACTION.fullmatch(action):
            return Decision(False, f"{action[:80]!r} is not an action", missing)
        if self.is_conditional(action) and (found := excess(attributes)):
            return Decision(False, found, missing)
        for placed in self._in_turn(action):
            if placed.applies(attributes, is_open):
                effect = placed.statement.effect
                why = f"policy {placed.policy!r}, statement {placed.number}: {effect} {action}"
                allowed = effect is Effect.ALLOW
                return Decision(allowed, why, "" if allowed else missing)
        return Decision(False, f"no statement allows {action}", missing)

    def depends_on(
        self, action: str, attributes: Attributes, is_open: Callable[[str], bool]
    ) -> tuple[str, ...]:
        """The attributes that are open and decide about this action, sorted; none if the decision
        is the same whatever they turn out to be."""
        if self.surely_allows(action, attributes, is_open):
            return ()
        if not self.evaluate(action, attributes, is_open).allowed:
            return ()
        turns = self._in_turn(action)
        return tuple(
            sorted({name for one in turns for name in one.depends_on(attributes, is_open)})
        )

    def surely_allows(
        self, action: str, attributes: Attributes, is_open: Callable[[str], bool]
    ) -> bool:
        """Whether this action is allowed whatever the attributes that are open turn out to be."""
        if not ACTION.fullmatch(action) or (self.is_conditional(action) and excess(attributes)):
            return False
        turns = self._in_turn(action)
        first = next((one for one in turns if one.applies(attributes, is_open, _SURELY)), None)
        return first is not None and first.statement.effect is Effect.ALLOW

    def steps(
        self,
        action: str,
        attributes: Attributes = NO_ATTRIBUTES,
        is_open: Callable[[str], bool] = nothing,
    ) -> Iterator[Step]:
        """Every statement whose actions fit, in order, and whether it applies."""
        if not ACTION.fullmatch(action) or (self.is_conditional(action) and excess(attributes)):
            return
        found = {placed.order: placed for placed in self._in_turn(action)}
        for placed in (found[order] for order in sorted(found)):
            yield Step(
                placed.policy,
                placed.number,
                placed.statement.effect,
                placed.applies(attributes, nothing),
                placed.why(attributes),
                placed.depends_on(attributes, is_open),
            )


def evaluate(
    policies: Iterable[Policy], action: str, attributes: Attributes = NO_ATTRIBUTES
) -> Decision:
    """Decide about one action by these policies. For many decisions make one Index."""
    return Index(policies).evaluate(action, attributes)
