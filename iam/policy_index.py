"""The evaluation of policies: an index of statements by action, and the decision it makes.

Deny overrides allow, and the default is deny. A statement applies if one of its actions matches and
all of its conditions hold. The outcome does not depend on the order of policies, statements or
values; the order only selects which of several statements the reason names.

A decision looks only at the statements that name the action or its module, however many policies
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from iam.attributes import NO_ATTRIBUTES, Attributes, excess
from iam.condition import Outcome, nothing
from iam.policy import ACTION, Decision, Effect, Policy, Statement, Step

# A statement applies if the outcome of each of its conditions is one of these. An open condition
# may hold, so it counts for an Allow and not for a Deny. An unknown time counts against the subject
# in both. In `_SURELY`, open conditions count against the subject, too.
# They are tuples, because members of enums compare faster than they hash.
_Table = Mapping[Effect, tuple[Outcome, ...]]
_APPLIES: Final[_Table] = {
    Effect.ALLOW: (Outcome.HOLDS, Outcome.OPEN),
    Effect.DENY: (Outcome.HOLDS, Outcome.CLOCK),
}
_SURELY: Final[_Table] = {
    Effect.ALLOW: (Outcome.HOLDS,),
    Effect.DENY: (Outcome.HOLDS, Outcome.CLOCK, Outcome.OPEN),
}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A statement with its position: `order` among all, `number` in its policy."""

    order: int
    policy: str
    number: int
    statement: Statement

    def applies(
        self,
        attributes: Attributes,
        is_open: Callable[[str], bool],
        table: _Table = _APPLIES,
    ) -> bool:
        due = table[self.statement.effect]
        for one in self.statement.conditions:  # noqa: SIM110 - a generator costs each decision
            if one.outcome(attributes, is_open) not in due:
                return False
        return True

    def depends_on(self, attributes: Attributes, is_open: Callable[[str], bool]) -> tuple[str, ...]:
        """The attributes by which it can apply or not; none if that is settled."""
        outcomes = {one: one.outcome(attributes, is_open) for one in self.statement.conditions}
        settled = {*outcomes.values()}.difference(_APPLIES[self.statement.effect], {Outcome.OPEN})
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
    """The statements of some policies by the patterns that they name. Immutable."""

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

    def parts(self) -> list[object]:
        """Return the objects of this index, for `Access.parts`."""
        fittings = [*self._exact.values(), *self._modules.values()]
        placed = (one for fitting in fittings for one in (*fitting.denies, *fitting.allows))
        return [*placed, *fittings]

    def _fitting(self, action: str) -> tuple[_Fitting, _Fitting]:
        return (
            self._exact.get(action, _NONE),
            self._modules.get(action.partition(":")[0], _NONE),
        )

    def _in_turn(self, action: str) -> Iterator[_Placed]:
        """Every Deny, then every Allow: the first that applies decides."""
        exact, module = self._fitting(action)
        return chain(exact.denies, module.denies, exact.allows, module.allows)

    def is_conditional(self, action: str) -> bool:
        """True if any statement about this action has a condition."""
        exact, module = self._fitting(action)
        return exact.conditional or module.conditional

    def evaluate(
        self,
        action: str,
        attributes: Attributes = NO_ATTRIBUTES,
        is_open: Callable[[str], bool] = nothing,
        who: str = "",
    ) -> Decision:
        """Decide about one action. A text that is not `Module:Verb` is denied.

        The reason begins with `who`.
        """
        if action not in self._exact and not ACTION.fullmatch(action):
            return _denied(f"{who}{action[:80]!r} is not an action", action)
        if self.is_conditional(action) and (found := excess(attributes)):
            return _denied(who + found, action)
        for placed in self._in_turn(action):
            if placed.applies(attributes, is_open):
                effect = placed.statement.effect.value
                why = f"{who}policy {placed.policy!r}, statement {placed.number}: {effect} {action}"
                if placed.statement.effect is Effect.ALLOW:
                    return Decision(True, why)
                return _denied(why, action)
        return _denied(f"{who}no statement allows {action}", action)

    def depends_on(
        self, action: str, attributes: Attributes, is_open: Callable[[str], bool]
    ) -> tuple[str, ...]:
        """Return the open attributes that decide about this action, sorted.

        There are none if the decision is the same for all of their values.
        """
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
        """Return whether the action is allowed whatever the values of the open attributes."""
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
        """Yield every statement whose actions match, in order, and whether it applies."""
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


def _denied(reason: str, action: str) -> Decision:
    return Decision(False, reason, f"You lack the right {action[:80]}.")


def evaluate(
    policies: Iterable[Policy], action: str, attributes: Attributes = NO_ATTRIBUTES
) -> Decision:
    """Decide about one action by these policies. For many decisions, make one Index."""
    return Index(policies).evaluate(action, attributes)
