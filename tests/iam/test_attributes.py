"""Attributes of a decision: the built-in ones are reserved, and all together are bounded."""

import pytest

from iam import Condition, Operator
from iam.attributes import OWN, excess, is_own, merged
from iam.limits import ATTRIBUTE_CHARACTERS_MAX, ATTRIBUTES_MAX

MINE = "Lamp:Text"


def test_every_built_in_attribute_can_be_used() -> None:
    for name in OWN:
        assert is_own(name)
        assert Condition(Operator.STRING_EQUALS, name, ("a",)).holds({name: "a"})


@pytest.mark.parametrize(
    "name", [*sorted(OWN), "connection:islocal", "IAM:Anything", "cLOCK:Now", "Connection:"]
)
def test_an_application_cannot_override_built_in_attributes(name: str) -> None:
    """It can override neither a value nor its absence."""
    assert merged({}, {name: "theirs", "Lamp:Text": "a"}) == {"Lamp:Text": "a"}
    assert merged({name: "ours"}, {name: "theirs"}) == {name: "ours"}


def test_attributes_beyond_the_bounds_of_a_decision_are_reported() -> None:
    assert excess({MINE: "a" * ATTRIBUTE_CHARACTERS_MAX}) == ""
    assert MINE in excess({MINE: "a" * (ATTRIBUTE_CHARACTERS_MAX + 1)})
    assert "64" in excess({f"Lamp:A{number}": "" for number in range(ATTRIBUTES_MAX + 1)})
