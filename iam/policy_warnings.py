"""What a policy may say but hardly means: conditions that never fit, and those that are evaded.

A condition is evaded if whoever asks can choose the attribute, and gets more by another value. So
for each attribute that a subject can choose, this knows which way: a neighbour is taken for a far
client by sending another hop limit, but nobody far away for a neighbour; and who may leave an
address, an interface or a key for another one may not have any that they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from iam.attributes import IS_LOCAL, OF_TARGET, is_own
from iam.condition import NEGATIVE, Condition, Operator
from iam.policy import Effect

_CHOSEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Connection:Address": "whoever asks can do so from another address",
        "Connection:Interface": "whoever asks can do so by another interface",
        "Connection:Fingerprint": "a user with another key can use that one",
        "Connection:KeyName": "a user with another key can use that one",
    }
)


def warnings_of(effect: Effect, condition: Condition) -> Iterator[str]:
    """Each thing that is odd about a condition of a statement with this effect."""
    for is_odd, warning in ODD:
        if is_odd(effect, condition):
            yield warning
    for name, why in _CHOSEN.items():
        if name in condition.names and _gains_by_another(effect, condition):
            yield f"{why}; better allow what may be"


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
    """Whether somebody near gets more where they are taken for somebody far away."""
    if IS_LOCAL not in one.names:
        return False
    if {*one.names} != {IS_LOCAL}:  # what it is compared with is not known here
        return True
    near, far = (one.holds({IS_LOCAL: text}) for text in ("true", "false"))
    return near > far if effect is Effect.DENY else far > near


def _gains_by_another(effect: Effect, one: Condition) -> bool:
    """Whether somebody gets more by another value than those that are named."""
    return (effect is Effect.DENY) != (one.operator in NEGATIVE)


ODD: Final[tuple[tuple[Callable[[Effect, Condition], bool], str], ...]] = (
    (
        _is_absent,
        "this Deny does not apply where the attribute is absent; better allow what may be",
    ),
    (
        _is_wildcard,
        "the * is no wildcard here, but in StringLike and StringNotLike",
    ),
    (
        _is_early,
        "so small a number of seconds lies before 2001",
    ),
    (
        _gains_by_distance,
        "a neighbour evades this by sending another hop limit, so only `true` proves anything",
    ),
)
"""What is odd, and what to say of it; beside what `_CHOSEN` names."""
