"""One condition of a statement: an operator, an attribute, and the values it is compared with.

Values are OR-ed. A negative operator holds only if none of them is equal. What is missing never
matches: an absent attribute, an absent `${Other:Attribute}` and a text that is not of the
operator's kind (a number, an address …) make the condition not hold, the negative ones too. So what
is not known makes no Allow wider, but it makes no Deny bite either: what must not fail open is to
be written as an Allow with conditions.

The clock is the exception. While the device does not know the time, `Clock:Now` is absent, and
then a condition that needs it does not hold in an Allow and does hold in a Deny: an unknown time
never widens a right.

A condition is asked for one of four outcomes, because "not known" is an answer too:

    HOLDS   FAILS   OPEN: it depends on what the caller declares not known yet
                    CLOCK: it depends on the time, and the device does not know it

Values are compiled when the condition is made, and a literal that cannot be of the operator's kind
is a PolicyError there. The text that `${…}` stands for is data: no wildcard and no second
substitution in it means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from unicodedata import is_normalized

from iam.attributes import CLOCK, NAME, OWN, Attributes, is_own
from iam.errors import PolicyError
from iam.limits import CONDITION_VALUES_MAX, EXPLAINED_VALUES_MAX, VALUE_CHARACTERS_MAX
from iam.operators import KINDS, NEGATIVE, Kind, Operator, Test

__all__ = ["NEGATIVE", "Condition", "Operator", "Outcome", "check_attribute", "nothing"]


class Outcome(Enum):
    """See the essay above."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"
    CLOCK = "clock"


def nothing(_name: str) -> bool:
    """No attribute is open: what is absent is absent."""
    return False


@dataclass(frozen=True, slots=True)
class Condition:
    """See the essay above. Raises PolicyError for what can never be meant."""

    operator: Operator
    attribute: str
    values: tuple[str, ...]
    _tests: tuple[Test, ...] = field(init=False, repr=False, compare=False)
    _others: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        if not 0 < len(self.values) <= CONDITION_VALUES_MAX:
            raise PolicyError(
                f"{self.operator} compares with {len(self.values)} values",
                advice=f"Give at least one and at most {CONDITION_VALUES_MAX}.",
            )
        others = {value: _substituted(value) for value in self.values}
        tests = (_compiled(self.operator, value) for value in self.values if not others[value])
        object.__setattr__(self, "_tests", tuple(tests))
        object.__setattr__(self, "_others", tuple(other for other in others.values() if other))

    @property
    def names(self) -> tuple[str, ...]:
        """Every attribute that this condition reads."""
        return (self.attribute, *self._others)

    def holds(self, attributes: Attributes) -> bool:
        """Does it hold in an Allow, where what is not known does not count?"""
        return self.outcome(attributes) is Outcome.HOLDS

    def outcome(self, attributes: Attributes, is_open: Callable[[str], bool] = nothing) -> Outcome:
        """HOLDS or FAILS, or what it depends on. An absent attribute that `is_open` may have any
        value yet."""
        if (text := attributes.get(self.attribute)) is None:
            return _absent(self.attribute, is_open)
        kind = KINDS[self.operator]
        if (value := kind.read(text)) is None:
            return Outcome.FAILS
        if any(test(value) for test in self._tests):
            return Outcome.FAILS if kind.negative else Outcome.HOLDS
        if not self._others:
            return Outcome.HOLDS if kind.negative else Outcome.FAILS
        sides = {_side(kind, value, other, attributes, is_open) for other in self._others}
        return next(outcome for side, outcome in _BY_SIDE[kind.negative] if side in sides)

    def open_names(self, attributes: Attributes, is_open: Callable[[str], bool]) -> tuple[str, ...]:
        """The attributes that it reads and that may have any value yet."""
        return tuple(name for name in self.names if name not in attributes and is_open(name))

    def why(self, attributes: Attributes) -> str:
        """What was compared with what, for the log and the console."""
        found = ", ".join(
            f"{name} is {attributes[name][:80]!r}" if name in attributes else f"{name} is absent"
            for name in list(dict.fromkeys(self.names))[:EXPLAINED_VALUES_MAX]
        )
        values = ", ".join(repr(value[:80]) for value in self.values[:EXPLAINED_VALUES_MAX])
        more = ", …" if len(self.values) > EXPLAINED_VALUES_MAX else ""
        return f"{self.operator} {self.attribute} [{values}{more}]: {found}"


class _Side(Enum):
    """What comparing with one `${…}` comes to."""

    EQUAL = "equal"  # or less than, or whatever the operator asks for
    DIFFERS = "differs"
    MISSING = "missing"
    OPEN = "open"
    CLOCK = "clock"


# The outcome by the first of these that any side is, where no literal was equal.
_BY_SIDE: Final[Mapping[bool, tuple[tuple[_Side, Outcome], ...]]] = {
    False: (
        (_Side.EQUAL, Outcome.HOLDS),
        (_Side.OPEN, Outcome.OPEN),
        (_Side.CLOCK, Outcome.CLOCK),
        (_Side.DIFFERS, Outcome.FAILS),
        (_Side.MISSING, Outcome.FAILS),
    ),
    True: (
        (_Side.EQUAL, Outcome.FAILS),
        (_Side.MISSING, Outcome.FAILS),
        (_Side.OPEN, Outcome.OPEN),
        (_Side.CLOCK, Outcome.CLOCK),
        (_Side.DIFFERS, Outcome.HOLDS),
    ),
}
_ABSENT: Final = {
    Outcome.FAILS: _Side.MISSING,
    Outcome.OPEN: _Side.OPEN,
    Outcome.CLOCK: _Side.CLOCK,
}


def _side(
    kind: Kind, value: object, other: str, attributes: Attributes, is_open: Callable[[str], bool]
) -> _Side:
    if (text := attributes.get(other)) is None:
        return _ABSENT[_absent(other, is_open)]
    if (test := kind.other(text)) is None:
        return _Side.MISSING
    return _Side.EQUAL if test(value) else _Side.DIFFERS


def _absent(name: str, is_open: Callable[[str], bool]) -> Outcome:
    if is_open(name):
        return Outcome.OPEN
    return Outcome.CLOCK if name == CLOCK else Outcome.FAILS


def check_attribute(name: str) -> None:
    """Raises PolicyError for what is no attribute, or is in a module of ours and not there."""
    if not NAME.fullmatch(name):
        raise PolicyError(f"{name[:80]!r} is not an attribute", advice="Write Module:Name.")
    if is_own(name) and name not in OWN:
        raise PolicyError(
            f"there is no attribute {name}", advice=f"There are: {', '.join(sorted(OWN))}."
        )


def _substituted(value: str) -> str:
    """The attribute that a value `${Module:Name}` stands for; nothing for a literal."""
    if "${" not in value:
        return ""
    if not (value.startswith("${") and value.endswith("}") and NAME.fullmatch(value[2:-1])):
        raise PolicyError(
            f"{value[:80]!r} is neither text nor another attribute",
            advice="${Module:Name} has to be the whole value.",
        )
    check_attribute(value[2:-1])
    return value[2:-1]


def _compiled(operator: Operator, value: str) -> Test:
    if len(value) > VALUE_CHARACTERS_MAX:
        raise PolicyError(
            f"a value is longer than {VALUE_CHARACTERS_MAX} characters", advice="Shorten it."
        )
    if not is_normalized("NFC", value):
        raise PolicyError(
            f"{value[:80]!r} is spelt with combining characters, and would equal no name",
            advice="Write it in the normal form C of Unicode.",
        )
    kind = KINDS[operator]
    if (test := kind.literal(value)) is None:
        raise PolicyError(
            f"{value[:80]!r} is not what {operator} compares with",
            advice=f"Write {kind.example}, or ${{Module:Name}}.",
        )
    return test
