"""A condition of a statement: an operator, an attribute, and the values to compare it with.

One value that matches is enough; a negative operator holds only if none is equal. Missing
information never matches: if the attribute is absent, or an attribute `${Other:Attribute}`, or a
text is not of the operator's kind (a number, an address …), the condition does not hold, not even
with a negative operator. So unknown information never widens an Allow, but it does not trigger a
Deny either: write what must not fail open as an Allow with conditions.

The clock is the exception. While the device does not know the time, `Clock:Now` is absent; then a
condition that needs it does not hold in an Allow and holds in a Deny.

The outcome of a condition is one of four: it HOLDS, it FAILS, it is OPEN (it depends on an
attribute that the caller declares open), or it depends on the CLOCK (the time, which the device
does not know).

Values are compiled when the condition is made; a literal that is not of the operator's kind raises
PolicyError then. The text of `${…}` is data: wildcards and substitutions in it have no meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

from iam.attributes import CLOCK, NAME, OWN, Attributes, is_own
from iam.errors import PolicyError
from iam.limits import (
    CONDITION_VALUES_MAX,
    EXPLAINED_VALUES_MAX,
    TESTS_REMEMBERED,
    VALUE_CHARACTERS_MAX,
)
from iam.operators import KINDS, NEGATIVE, Kind, Operator, Test, Value

__all__ = ["NEGATIVE", "Condition", "Operator", "Outcome", "check_attribute", "nothing"]


class Outcome(Enum):
    """The result of a condition for some attributes; see the module."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"
    CLOCK = "clock"


def nothing(_name: str) -> bool:
    """Return False: no attribute is open, and an absent one is absent."""
    return False


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; see the module. Raises PolicyError if it is invalid."""

    operator: Operator
    attribute: str
    values: tuple[str, ...]
    _kind: Kind = field(init=False, repr=False, compare=False)
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
        object.__setattr__(self, "_kind", KINDS[self.operator])
        object.__setattr__(self, "_tests", tuple(tests))
        object.__setattr__(self, "_others", tuple(other for other in others.values() if other))

    @property
    def names(self) -> tuple[str, ...]:
        """Every attribute that this condition reads."""
        return (self.attribute, *self._others)

    def holds(self, attributes: Attributes) -> bool:
        """True if it holds in an Allow, where unknown information does not count."""
        return self.outcome(attributes) is Outcome.HOLDS

    def outcome(self, attributes: Attributes, is_open: Callable[[str], bool] = nothing) -> Outcome:
        """Return the outcome. An absent attribute that `is_open` can have any value."""
        if (text := attributes.get(self.attribute)) is None:
            return _absent(self.attribute, is_open)
        kind = self._kind
        if (value := kind.read(text)) is None:
            return Outcome.FAILS
        for test in self._tests:  # called for each condition of each request: no generator
            if test(value):
                return Outcome.FAILS if kind.negative else Outcome.HOLDS
        if not self._others:
            return Outcome.HOLDS if kind.negative else Outcome.FAILS
        sides = {_side(kind, value, other, attributes, is_open) for other in self._others}
        return next(outcome for side, outcome in _BY_SIDE[kind.negative] if side in sides)

    def open_names(self, attributes: Attributes, is_open: Callable[[str], bool]) -> tuple[str, ...]:
        """Return the attributes that it reads and that can have any value."""
        return tuple(name for name in self.names if name not in attributes and is_open(name))

    def why(self, attributes: Attributes) -> str:
        """Return both sides of the comparison, for the log and the console."""
        found = ", ".join(
            f"{name} is {attributes[name][:80]!r}" if name in attributes else f"{name} is absent"
            for name in list(dict.fromkeys(self.names))[:EXPLAINED_VALUES_MAX]
        )
        values = ", ".join(repr(value[:80]) for value in self.values[:EXPLAINED_VALUES_MAX])
        more = ", …" if len(self.values) > EXPLAINED_VALUES_MAX else ""
        return f"{self.operator} {self.attribute} [{values}{more}]: {found}"


class _Side(Enum):
    """The result of comparing with one `${…}`."""

    EQUAL = "equal"  # or less than, or whatever the operator asks for
    DIFFERS = "differs"
    MISSING = "missing"
    OPEN = "open"
    CLOCK = "clock"


# If no literal is equal, the first entry that some side has determines the outcome.
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
    kind: Kind, value: Value, other: str, attributes: Attributes, is_open: Callable[[str], bool]
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
    """Raise PolicyError for a text that is not an attribute, or not one of a reserved module."""
    if not NAME.fullmatch(name):
        raise PolicyError(f"{name[:80]!r} is not an attribute", advice="Write Module:Name.")
    if is_own(name) and name not in OWN:
        raise PolicyError(
            f"there is no attribute {name}", advice=f"Known attributes: {', '.join(sorted(OWN))}."
        )


def _substituted(value: str) -> str:
    """The attribute that a value `${Module:Name}` stands for; empty for a literal."""
    if "${" not in value:
        return ""
    if not (value.startswith("${") and value.endswith("}") and NAME.fullmatch(value[2:-1])):
        raise PolicyError(
            f"{value[:80]!r} is neither text nor another attribute",
            advice="${Module:Name} has to be the whole value.",
        )
    check_attribute(value[2:-1])
    return value[2:-1]


def _is_normalized(text: str) -> bool:
    if text.isascii():
        return True
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return unicodedata.is_normalized("NFC", text)


@lru_cache(maxsize=TESTS_REMEMBERED)
def _compiled(operator: Operator, value: str) -> Test:
    """Return the test for one value; many conditions share theirs. Raises PolicyError."""
    if len(value) > VALUE_CHARACTERS_MAX:
        raise PolicyError(
            f"a value is longer than {VALUE_CHARACTERS_MAX} characters", advice="Shorten it."
        )
    if not _is_normalized(value):
        raise PolicyError(
            f"{value[:80]!r} has combining characters, so no name would equal it",
            advice="Write it in the normal form C of Unicode.",
        )
    kind = KINDS[operator]
    if (test := kind.literal(value)) is None:
        raise PolicyError(
            f"{value[:80]!r} is not what {operator} compares with",
            advice=f"Write {kind.example}, or ${{Module:Name}}.",
        )
    return test
