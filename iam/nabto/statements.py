"""One statement of a Nabto policy as grants: one action each, allowed or denied on conditions.

Conditions of handfast are made here, and so all errors in them are found here. `iam.nabto.config`
says how Nabto's meaning is kept where the two differ.

Nabto evaluates the conditions of a statement in order, up to the first that does not hold or is an
error, and an error denies. So a statement or a condition that is left out still denies here what
its errors would deny there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from iam.attributes import IS_LOCAL, NAME, is_own
from iam.condition import NEGATIVE, Condition, Operator
from iam.errors import PolicyError
from iam.limits import NABTO_ACTION_CHARACTERS_MAX, NABTO_VARIANTS_MAX
from iam.nabto.counterparts import (
    CALLER,
    COUNTERPARTS,
    INSTEAD,
    ROLE_ID,
    TARGETS,
    is_known,
    is_ours,
)
from iam.nabto.grants import NUMBER_MAX, Grant, NumberNeeded, is_long
from iam.nabto.json_nodes import JsonNode, shown
from iam.policy import ACTION, Effect

OPERATORS: Final = frozenset(
    {
        "StringEquals",
        "StringNotEquals",
        "NumericEquals",
        "NumericNotEquals",
        "NumericLessThan",
        "NumericLessThanEquals",
        "NumericGreaterThan",
        "NumericGreaterThanEquals",
        "Bool",
    }
)
NO_ROLE: Final = "-"  # before the name of a role that the file does not define; no id begins so


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
            self.add(member, f"nothing is known of the field {shown(key)}; it is left out")


def read_statement(
    node: JsonNode, roles: Mapping[str, str], notes: Notes
) -> Iterator[Grant | NumberNeeded]:
    """Yield what a statement allows or denies, and what its errors deny.

    One grant for each action and variant. `roles` has Nabto's by name, each with its name here.
    """
    notes.unknown(node, "Effect", "Actions", "Conditions")
    effect = node.required("Effect")
    if effect.text() not in {*Effect}:
        raise effect.error(f"the effect {shown(effect.text())} is unknown", "Allow or Deny.")
    actions: dict[str, JsonNode] = {}
    for one in node.required("Actions").items():
        actions.setdefault(one.text(), one)
    listed = node.get("Conditions")
    comparisons = [_Comparison.of(one, roles) for one in ([] if listed is None else listed.items())]
    for comparison in comparisons:
        if comparison.operator in NEGATIVE and len(comparison.values) > 1:
            notes.add(
                comparison.node, "in Nabto this holds where one value differs, and so it does here"
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
        return "no request asks for it; an action is Module:Verb, and * fits nothing in Nabto"
    if action in INSTEAD:
        return INSTEAD[action]
    if action.startswith("IAM:"):
        return "" if action in TARGETS else "Nabto's IAM has no such action"
    return "the module is one of handfast's own; rename it" if is_ours(action) else ""


# --------------------------------------------------------------------------------- conditions


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A condition as it is in the file: it can name what handfast does not have."""

    operator: Operator
    attribute: str
    values: tuple[str, ...]
    node: JsonNode
    roles: Mapping[str, str]

    @classmethod
    def of(cls, node: JsonNode, roles: Mapping[str, str]) -> _Comparison:
        operator, test = node.single_entry("operators")
        if operator not in OPERATORS:
            raise test.error(
                f"the operator {shown(operator)} is unknown",
                f"There are: {', '.join(sorted(OPERATORS))}.",
            )
        attribute, values = test.single_entry("attributes")
        for value in values.items():
            _check_literal(operator, value)
        texts = tuple(dict.fromkeys(value.text() for value in values.items()))
        return cls(Operator(operator), attribute, texts, node, roles)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.attribute, *(v[2:-1] for v in self.values if _is_variable(v)))

    @property
    def can_be_said(self) -> bool:
        """True if it means the same here as in Nabto.

        A role can have another name here, so it can be compared only with names of roles.
        """
        names = {*self.names}
        return all(map(_is_available, names)) and (ROLE_ID not in names or names == {ROLE_ID})

    @property
    def can_fail(self) -> bool:
        """True if some text is an error to Nabto."""
        return not self.operator.startswith("String")

    def available(self, available: frozenset[str]) -> _Comparison:
        """Without the values of attributes that Nabto does not provide: those never match."""
        kept = (v for v in self.values if not _is_variable(v) or v[2:-1] in available)
        return replace(self, values=tuple(kept))

    def made(self, values: tuple[str, ...]) -> Condition:
        if self.attribute == ROLE_ID and self.operator.startswith("String"):
            values = tuple(
                v if _is_variable(v) else self.roles.get(v, f"{NO_ROLE}{v}") for v in values
            )
        try:
            return Condition(self.operator, self.attribute, values)
        except PolicyError as error:
            raise self.node.error(str(error), error.advice) from error


def _is_variable(value: str) -> bool:
    return len(value) > 2 and value.startswith("${") and value.endswith("}")


def _check_literal(operator: str, node: JsonNode) -> None:
    """Reject a literal that the operator cannot compare with: Nabto denies everything for it."""
    value = node.text()
    if _is_variable(value):
        return
    if operator.startswith("Numeric") and len(value) > NUMBER_MAX:
        raise node.error(
            "Nabto does not compare so long a number exactly",
            f"Write it in at most {NUMBER_MAX} characters.",
        )
    try:
        Condition(Operator(operator), "Any:Attribute", (value,))
    except PolicyError as error:
        raise node.error(str(error), error.advice) from error


@dataclass(slots=True)
class _Carried:
    """The conditions of a statement, for one action.

    `kept` can be expressed here; `lost` cannot, each with the number of kept ones before it.
    `is_whole`: the statement can be imported; if not, the conditions are still those that Nabto
    evaluates.
    """

    kept: tuple[_Comparison, ...] = ()
    lost: tuple[tuple[_Comparison, int], ...] = ()
    is_whole: bool = True


def _carried(
    effect: Effect, action: str, comparisons: list[_Comparison], notes: Notes, node: JsonNode
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
                f"this never holds for {shown(action)} in Nabto, which does not know "
                "what is compared there; the action is left out",
            )
            found.is_whole = False
            return found
        if comparison.can_be_said:
            found.kept += (comparison,)
            continue
        found.lost += ((comparison, len(found.kept)),)
        if effect is Effect.ALLOW:
            notes.add(comparison.node, f"this cannot be said here; {shown(action)} is left out")
            found.is_whole = False
        else:
            notes.add(
                comparison.node, f"this cannot be said here; {shown(action)} is denied without it"
            )
        if comparison.can_fail:
            notes.add(
                node,
                f"{shown(action)} is denied wherever Nabto looks at {comparison.operator} "
                f"{shown(comparison.attribute)}, which cannot be said here and may be an error "
                "there",
            )
    return found


def _errors_left_out(action: str, carried: _Carried, node: JsonNode) -> Iterator[Grant]:
    """A condition that cannot be expressed can be an error wherever those before it hold."""
    for comparison, before in carried.lost:
        if comparison.can_fail:
            for variant in _variants(node, carried.kept[:before]):
                yield Grant(Effect.DENY, action, variant)


def _is_available(name: str) -> bool:
    """True for an attribute of the caller or the target, or one of an application."""
    if is_own(name):
        return name in CALLER or name.startswith("IAM:")
    return NAME.fullmatch(name) is not None


def _variants(node: JsonNode, comparisons: tuple[_Comparison, ...]) -> list[tuple[Condition, ...]]:
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
                f"{shown(action)} is denied where {one.attribute} is no number such as 42 or "
                f"42.3, or has more than {NUMBER_MAX} characters",
            )
    if effect is Effect.DENY and action in TARGETS:
        for ours in COUNTERPARTS:
            if action in ours.needs and not all(is_known(one, ours) for one in conditions):
                notes.add(node, f"{ours.action} is denied for every target")
