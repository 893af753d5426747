"""Valid conditions that are probably not meant: those that never match or can be evaded.

A condition can be evaded if the subject can choose the attribute and gets more by another value.
A subject cannot choose freely: a neighbour can appear to be remote by sending another hop limit,
but no remote peer can appear to be a neighbour, and a subject can use another address, interface or
key of its own, but not any address, interface or key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from iam.attributes import IS_LOCAL, OF_TARGET, PATH, is_own
from iam.condition import NEGATIVE, Condition, Operator
from iam.policy import Effect

_CHOSEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Connection:Address": "the subject can use another address",
        "Connection:Interface": "the subject can use another interface",
        PATH: "the subject can use another path",
        "Connection:Fingerprint": "a user with another key can use that one",
        "Connection:KeyName": "a user with another key can use that one",
    }
)


def warnings_of(effect: Effect, condition: Condition) -> Iterator[str]:
    """Yield each warning about a condition of a statement with this effect."""
    for is_odd, warning in ODD:
        if is_odd(effect, condition):
            yield warning
    for name, why in _CHOSEN.items():
        if name in condition.names and _gains_by_another(effect, condition):
            yield f"{why}; write an Allow for the permitted values instead"


def _is_absent(effect: Effect, one: Condition) -> bool:
    may_be_absent = one.attribute in OF_TARGET or not is_own(one.attribute)
    return effect is Effect.DENY and one.operator in NEGATIVE and may_be_absent


def _is_wildcard(_effect: Effect, one: Condition) -> bool:
    exact = one.operator in (Operator.STRING_EQUALS, Operator.STRING_NOT_EQUALS)
    return exact and any("*" in value for value in one.values)


def _is_early(_effect: Effect, one: Condition) -> bool:
    return one.operator.startswith("Date") and any(
        value.isdecimal() and len(value) < 10 for value in one.values
    )


def _gains_by_distance(effect: Effect, one: Condition) -> bool:
    """True if a neighbour gets more where it appears to be remote."""
    if IS_LOCAL not in one.names:
        return False
    if {*one.names} != {IS_LOCAL}:  # what it is compared with is not known here
        return True
    near, far = (one.holds({IS_LOCAL: text}) for text in ("true", "false"))
    return near > far if effect is Effect.DENY else far > near


def _gains_by_another(effect: Effect, one: Condition) -> bool:
    """True if a subject gets more by another value than those that are named."""
    return (effect is Effect.DENY) != (one.operator in NEGATIVE)


ODD: Final[tuple[tuple[Callable[[Effect, Condition], bool], str], ...]] = (
    (
        _is_absent,
        "this Deny does not apply where the attribute is absent; write an Allow instead",
    ),
    (
        _is_wildcard,
        "the * is a wildcard only in StringLike and StringNotLike",
    ),
    (
        _is_early,
        "a number of seconds this small is a time before 2001",
    ),
    (
        _gains_by_distance,
        "a neighbour evades this by sending another hop limit, so only `true` is reliable",
    ),
)
"""Tests with their warnings, beside those of `_CHOSEN`."""
