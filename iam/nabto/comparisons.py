"""One condition of a Nabto statement, as the file has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from iam.attributes import NAME, is_own
from iam.condition import Condition, Operator
from iam.errors import PolicyError
from iam.nabto.counterparts import CALLER, ROLE_ID
from iam.nabto.grants import NUMBER_MAX
from iam.nabto.json_nodes import JsonNode, shown

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
NO_ROLE: Final = "-"  # prefix of the name of a role that the file does not define; no ID has it


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition as it is in the file: it can name what handfast does not have."""

    operator: Operator
    attribute: str
    values: tuple[str, ...]
    node: JsonNode
    roles: Mapping[str, str]

    @classmethod
    def of(cls, node: JsonNode, roles: Mapping[str, str]) -> Comparison:
        """Read a condition. Raises PolicyFileError for an unknown operator or an invalid literal.

        `roles` maps the name of each role of the file to its name in handfast.
        """
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
        """Every attribute that it reads."""
        return (self.attribute, *(v[2:-1] for v in self.values if _is_variable(v)))

    @property
    def can_be_said(self) -> bool:
        """True if it means the same in handfast as in Nabto.

        A role can have another name in handfast, so it can be compared only with names of roles.
        """
        names = {*self.names}
        return all(map(_is_available, names)) and (ROLE_ID not in names or names == {ROLE_ID})

    @property
    def can_fail(self) -> bool:
        """True if some text is an error to Nabto."""
        return not self.operator.startswith("String")

    def available(self, available: frozenset[str]) -> Comparison:
        """Without the values of attributes that Nabto does not provide: those never match."""
        kept = (v for v in self.values if not _is_variable(v) or v[2:-1] in available)
        return replace(self, values=tuple(kept))

    def made(self, values: tuple[str, ...]) -> Condition:
        """Return the condition of handfast for these values. Raises PolicyFileError."""
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


def _is_available(name: str) -> bool:
    """True for an attribute of the caller or the target, or one of an application."""
    if is_own(name):
        return name in CALLER or name.startswith("IAM:")
    return NAME.fullmatch(name) is not None
