"""One statement of a Nabto policy as grants: one action each, allowed or denied on conditions.

Conditions of handfast are made here, and so all errors in them are found here. `iam.nabto.config`
says how Nabto's meaning is kept where the two differ.

Nabto evaluates the conditions of a statement in order, up to the first that does not hold or is an
error, and an error denies. So a statement or a condition that is left out still denies here what
its errors would deny there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from iam.attributes import IS_LOCAL
from iam.condition import NEGATIVE, Condition, Operator
from iam.limits import NABTO_ACTION_CHARACTERS_MAX, NABTO_VARIANTS_MAX
from iam.nabto.comparisons import Comparison
from iam.nabto.counterparts import CALLER, COUNTERPARTS, INSTEAD, TARGETS, is_known, is_reserved
from iam.nabto.grants import NUMBER_MAX, Grant, NumberNeeded, is_long
from iam.nabto.json_nodes import JsonNode, shown
from iam.policy import ACTION, Effect


@dataclass(slots=True)
class Notes:
    """Each note once, in the order of the file."""

    found: dict[str, None] = field(default_factory=dict)

    def add(self, node: JsonNode, text: str) -> None:
        """Add a note about this position."""
        self.found[node.note(text)] = None

    def unknown(self, node: JsonNode, *known: str) -> None:
        """Add a note about each member of this object that has none of these keys."""
        for key, member in node.unknown(*known):
            self.add(member, f"the field {shown(key)} is unknown and is left out")


def read_statement(
    node: JsonNode, roles: Mapping[str, str], notes: Notes
) -> Iterator[Grant | NumberNeeded]:
    """Yield what a statement allows or denies, and what its errors deny.

    One grant for each action and variant. `roles` maps Nabto's names of roles to handfast's.
    """
    notes.unknown(node, "Effect", "Actions", "Conditions")
    effect = node.required("Effect")
    if effect.text() not in {*Effect}:
        raise effect.error(f"the effect {shown(effect.text())} is unknown", "Allow or Deny.")
    actions: dict[str, JsonNode] = {}
    for one in node.required("Actions").items():
        actions.setdefault(one.text(), one)
    listed = node.get("Conditions")
    comparisons = [Comparison.of(one, roles) for one in ([] if listed is None else listed.items())]
    for comparison in comparisons:
        if comparison.operator in NEGATIVE and len(comparison.values) > 1:
            notes.add(
                comparison.node, "in Nabto this holds if one value differs; the import keeps that"
            )
    for action, action_node in actions.items():
        if why := _why_not(action):
            notes.add(action_node, f"{shown(action)} is left out: {why}")
            continue
        carried = _carried(Effect(effect.text()), action, comparisons, notes, action_node)
        yield from _errors_left_out(action, carried, node)
        for variant in _variants(node, carried.kept):
            if carried.is_whole:
                yield Grant(Effect(effect.text()), action, variant)
                _note_differences(Effect(effect.text()), action, variant, action_node, notes)
            yield from _faults(action, variant)


def _why_not(action: str) -> str:
    """Why an action cannot be imported, or an empty text."""
    if len(action) > NABTO_ACTION_CHARACTERS_MAX or not ACTION.fullmatch(action):
        return "no request asks for it; an action is Module:Verb, and * matches nothing in Nabto"
    if action in INSTEAD:
        return INSTEAD[action]
    if action.startswith("IAM:"):
        return "" if action in TARGETS else "Nabto's IAM has no such action"
    return "the module is reserved by handfast; rename it" if is_reserved(action) else ""


# --------------------------------------------------------------------------------- conditions


@dataclass(slots=True)
class _Carried:
    """The conditions of a statement, for one action.

    `kept` can be expressed here; `lost` cannot, each with the number of kept ones before it.
    `is_whole`: the statement can be imported; if not, the conditions are still those that Nabto
    evaluates.
    """

    kept: tuple[Comparison, ...] = ()
    lost: tuple[tuple[Comparison, int], ...] = ()
    is_whole: bool = True


def _carried(
    effect: Effect, action: str, comparisons: list[Comparison], notes: Notes, node: JsonNode
) -> _Carried:
    available = CALLER | TARGETS[action] if action in TARGETS else None
    found = _Carried()
    for one in comparisons:
        comparison = one if available is None else one.available(available)
        if not comparison.values or (
            available is not None and comparison.attribute not in available
        ):
            notes.add(
                comparison.node,
                f"this never holds for {shown(action)} in Nabto, which does not provide "
                "the attribute; the action is left out",
            )
            found.is_whole = False
            return found
        if comparison.can_be_said:
            found.kept += (comparison,)
            continue
        found.lost += ((comparison, len(found.kept)),)
        if effect is Effect.ALLOW:
            notes.add(comparison.node, f"handfast cannot express this; {shown(action)} is left out")
            found.is_whole = False
        else:
            notes.add(
                comparison.node,
                f"handfast cannot express this; {shown(action)} is denied without it",
            )
        if comparison.can_fail:
            notes.add(
                node,
                f"{shown(action)} is denied wherever Nabto looks at {comparison.operator} "
                f"{shown(comparison.attribute)}, which handfast cannot express and may be an error "
                "there",
            )
    return found


def _errors_left_out(action: str, carried: _Carried, node: JsonNode) -> Iterator[Grant]:
    """A condition that cannot be expressed can be an error wherever those before it hold."""
    for comparison, before in carried.lost:
        if comparison.can_fail:
            for variant in _variants(node, carried.kept[:before]):
                yield Grant(Effect.DENY, action, variant)


def _variants(node: JsonNode, comparisons: tuple[Comparison, ...]) -> list[tuple[Condition, ...]]:
    """Sets of conditions, one of which has to hold.

    Several values of a negative operator are alternatives in Nabto.
    """
    choices = [
        [comparison.made((value,)) for value in comparison.values]
        if comparison.operator in NEGATIVE
        else [comparison.made(comparison.values)]
        for comparison in comparisons
    ]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > NABTO_VARIANTS_MAX:
        raise node.error(
            f"its negative operators make {count} cases, more than {NABTO_VARIANTS_MAX}",
            "Name one value in each; with several, Nabto takes any that differs.",
        )
    return [tuple(dict.fromkeys(variant)) for variant in product(*choices)]


def _faults(action: str, conditions: tuple[Condition, ...]) -> Iterator[Grant | NumberNeeded]:
    """Denials for texts that Nabto cannot compare.

    Nabto denies where a Bool meets a text that is neither true nor false, or a number one that is
    not a number, in an allow, too. It evaluates it where the conditions before it hold.
    """
    either = ("true", "false")
    for number, one in enumerate(conditions):
        reached = conditions[:number]
        if one.operator.startswith("Numeric"):
            for name in dict.fromkeys(one.names):
                yield NumberNeeded(action, name)
                yield Grant(Effect.DENY, action, (is_long(name),))
        if one.operator is not Operator.BOOL:
            continue
        for name in dict.fromkeys(one.names):
            if name != IS_LOCAL:
                neither = Condition(Operator.STRING_NOT_EQUALS, name, either)
                yield Grant(Effect.DENY, action, (*reached, neither))
            reached = (*conditions[:number], Condition(Operator.BOOL, one.attribute, either))


def _note_differences(
    effect: Effect, action: str, conditions: tuple[Condition, ...], node: JsonNode, notes: Notes
) -> None:
    for one in conditions:
        if one.operator.startswith("Numeric"):
            notes.add(
                node,
                f"{shown(action)} is denied where {one.attribute} is not a number such as 42 or "
                f"42.3, or has more than {NUMBER_MAX} characters",
            )
    if effect is Effect.DENY and action in TARGETS:
        for ours in COUNTERPARTS:
            if action in ours.needs and not all(is_known(one, ours) for one in conditions):
                notes.add(node, f"{ours.action} is denied for every target")
