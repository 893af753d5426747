"""Nabto's grants as statements of handfast: one by one, and what several allow together.

`iam.nabto.counterparts` has the table and the rule. Nabto compares numbers as doubles, and an
attribute that is compared as a number and is not one is an error, which denies whatever else
allows. So where a role compares an attribute as a number, each of its statements that allows the
same action requires a number as well (`guarded`), and a text that is too long for a double to hold
exactly is denied (`is_long`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from iam.condition import Condition, Operator
from iam.nabto.counterparts import COUNTERPARTS, TARGETS, Counterpart, is_known
from iam.policy import Effect, Statement

NUMBER_MAX: Final = 15  # characters: two different ones are never the same double


def is_number(name: str) -> Condition:
    """Return a condition that holds if the attribute is a number: only numbers equal themselves."""
    return Condition(Operator.NUMERIC_EQUALS, name, (f"${{{name}}}",))


def is_long(name: str) -> Condition:
    """Return a condition that holds if the attribute is longer than a number may be."""
    return Condition(Operator.STRING_LIKE, name, ("?" * (NUMBER_MAX + 1) + "*",))


@dataclass(frozen=True, slots=True)
class NumberNeeded:
    """Some statement about this action compares this attribute as a number."""

    action: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One action of Nabto that a statement allows or denies, under all of these conditions."""

    effect: Effect
    action: str
    conditions: tuple[Condition, ...] = ()

    @property
    def is_iam(self) -> bool:
        """True for an action of Nabto's IAM; others are of an application."""
        return self.action in TARGETS


def guarded(grants: Iterable[Grant], needed: Collection[NumberNeeded]) -> tuple[Grant, ...]:
    """Return the grants of a role with the numbers that its statements need.

    Each that allows an action requires the numbers that the role's other statements about it need.
    """
    return tuple(_guarded(grant, needed) if needed else grant for grant in grants)


def _guarded(grant: Grant, needed: Collection[NumberNeeded]) -> Grant:
    if grant.effect is Effect.DENY:
        return grant
    asked = {one.attribute for one in grant.conditions if one.operator.startswith("Numeric")}
    due = {one.attribute for one in needed if one.action == grant.action} - asked
    return replace(grant, conditions=(*grant.conditions, *map(is_number, sorted(due))))


def simple(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """Return the statements of a policy: what each grant decides alone."""
    return written(one for grant in grants for one in _one_by_one(grant))


def combined(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """Return what the grants of a role allow together and none of them allows alone."""
    return written(
        Grant(Effect.ALLOW, counterpart.action, conditions)
        for counterpart, conditions in _together(tuple(grants))
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """An action of handfast that a role does not get, or not under all conditions.

    Attributes:
        action: the action of handfast.
        allowed: the actions of Nabto that the role has and that serve nothing else.
        lacking: the actions of Nabto that it needs as well.
        partly: it is allowed under some conditions.
    """

    action: str
    allowed: tuple[str, ...]
    lacking: tuple[str, ...]
    partly: bool


def losses(grants: Iterable[Grant]) -> Iterable[Loss]:
    """Return the losses of a role, at most one for each action of handfast."""
    grants = tuple(grants)
    reached = [(one.action, frozenset(conditions)) for one, conditions in _together(grants)]
    found: dict[str, Loss] = {}
    for conditions, allowed in _allowed(grants).items():
        for one in COUNTERPARTS:
            about = tuple(need for need in one.about if need in allowed)
            lacking = tuple(need for need in one.needs if need not in allowed)
            mine = [smaller for action, smaller in reached if action == one.action]
            if about and not any(smaller <= {*conditions} for smaller in mine):
                found.setdefault(one.action, Loss(one.action, about, lacking, bool(mine)))
    return found.values()


def _one_by_one(grant: Grant) -> Iterable[Grant]:
    if not grant.is_iam:
        yield grant
        return
    for one in COUNTERPARTS:
        if grant.action not in one.needs:
            continue
        known = tuple(c for c in grant.conditions if is_known(c, one))
        if grant.effect is Effect.DENY:
            yield Grant(Effect.DENY, one.action, known)
        elif len(one.needs) == 1 and known == grant.conditions:
            yield Grant(Effect.ALLOW, one.action, known)


def _together(
    grants: tuple[Grant, ...],
) -> Iterable[tuple[Counterpart, tuple[Condition, ...]]]:
    groups = _allowed(grants)
    for one in COUNTERPARTS:
        if len(one.needs) == 1:
            continue
        met = [c for c, allowed in groups.items() if allowed.issuperset(one.needs)]
        for conditions in met:
            wider = any(frozenset(other) < frozenset(conditions) for other in met)
            if not wider and all(is_known(c, one) for c in conditions):
                yield one, conditions


def _allowed(grants: tuple[Grant, ...]) -> dict[tuple[Condition, ...], frozenset[str]]:
    """For each set of conditions, what is allowed where they hold.

    That includes what is allowed under fewer conditions.
    """
    groups: dict[frozenset[Condition], tuple[tuple[Condition, ...], set[str]]] = {}
    for grant in grants:
        if grant.effect is Effect.ALLOW and grant.is_iam:
            key = frozenset(grant.conditions)
            groups.setdefault(key, (grant.conditions, set()))[1].add(grant.action)
    return {
        conditions: frozenset().union(
            *(actions for other, (_, actions) in groups.items() if other <= key)
        )
        for key, (conditions, _) in groups.items()
    }


def written(grants: Iterable[Grant]) -> tuple[Statement, ...]:
    """Return the grants as statements, one for each effect and set of conditions, in order."""
    groups: dict[tuple[Effect, tuple[Condition, ...]], dict[str, None]] = {}
    for grant in grants:
        groups.setdefault((grant.effect, grant.conditions), {})[grant.action] = None
    return tuple(
        Statement(effect, tuple(actions), conditions)
        for (effect, conditions), actions in groups.items()
    )
