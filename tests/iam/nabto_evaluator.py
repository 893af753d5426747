"""An evaluator of Nabto Edge's policies, written from their documentation and behaviour.

It shares nothing with `iam`: no parser, no operator, no table. The tests of the import ask it what
Nabto would decide.

- A role is known by its name. A user without a role that the configuration defines may do nothing,
  and no such role can be given.
- Statements are looked at in turn. One concerns a request if it names the very action. The first
  that denies, or that meets an error, is final; then some statement has to allow.
- Conditions are looked at in their order. An attribute that is absent does not match, and a value
  `${Name}` of an absent attribute is passed over.
- Numbers are doubles, read as strtod of C reads a whole text. A text that is no number is an error,
  and so is a Bool with anything but `true` and `false`.
"""

from __future__ import annotations

import operator as relations
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

Result = Literal["match", "no match", "error"]
Attributes = Mapping[str, str]

_DECIMAL: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX: Final = re.compile(
    r"[ \t\n\v\f\r]*[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
)
_WORD: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:inf|infinity|nan)", re.IGNORECASE)

_RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "NumericEquals": relations.eq,
    "NumericNotEquals": relations.ne,
    "NumericLessThan": relations.lt,
    "NumericLessThanEquals": relations.le,
    "NumericGreaterThan": relations.gt,
    "NumericGreaterThanEquals": relations.ge,
}


def double(text: str) -> float | None:
    """Parse the whole text as strtod does; an empty text is 0."""
    if not text:
        return 0.0
    if _DECIMAL.fullmatch(text) or _WORD.fullmatch(text):
        return float(text)
    return float.fromhex(text.strip()) if _HEX.fullmatch(text) else None


def is_allowed(config: Mapping[str, Any], role: str, action: str, known: Attributes) -> bool:
    """Whether a user with this role is allowed the action."""
    allowed = False
    for statement in _statements(config, role):
        if action not in statement["Actions"]:
            continue
        match _all_match(statement.get("Conditions", []), known):
            case "error":
                return False
            case "match" if statement["Effect"] == "Deny":
                return False
            case "match":
                allowed = True
            case "no match":
                pass
    return allowed


def has_role(config: Mapping[str, Any], role: str) -> bool:
    """Whether the configuration defines this role."""
    return any(one["Id"] == role for one in config["Roles"])


def _statements(config: Mapping[str, Any], role: str) -> Iterator[Mapping[str, Any]]:
    for one in config["Roles"]:
        if one["Id"] == role:
            for name in one["Policies"]:
                for policy in config["Policies"]:
                    if policy["Id"] == name:
                        yield from policy["Statements"]


def _all_match(conditions: list[dict[str, Any]], known: Attributes) -> Result:
    for condition in conditions:
        ((operator, test),) = condition.items()
        ((name, values),) = test.items()
        if (found := _any_matches(operator, known.get(name), values, known)) != "match":
            return found
    return "match"


def _any_matches(
    operator: str, attribute: str | None, values: list[str], known: Attributes
) -> Result:
    if attribute is None:
        return "no match"
    for value in values:
        is_variable = len(value) > 2 and value.startswith("${") and value.endswith("}")
        other = known.get(value[2:-1]) if is_variable else value
        if other is None:
            continue
        if (found := _compared(operator, attribute, other)) != "no match":
            return found
    return "no match"


def _compared(operator: str, left: str, right: str) -> Result:
    if operator == "Bool":
        if not {left, right} <= {"true", "false"}:
            return "error"
        return "match" if left == right else "no match"
    if operator in _RELATIONS:
        a, b = double(left), double(right)
        if a is None or b is None:
            return "error"
        return "match" if _RELATIONS[operator](a, b) else "no match"
    return "match" if (left == right) == (operator == "StringEquals") else "no match"
