"""Evaluation of single conditions: matches, absent attributes, and invalid values."""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Condition, Operator
from iam.condition import NEGATIVE, Outcome
from iam.errors import PolicyError
from iam.limits import (
    ATTRIBUTE_CHARACTERS_MAX,
    CONDITION_VALUES_MAX,
    VALUE_CHARACTERS_MAX,
)

MINE = "Lamp:Text"


def holds(operator: str, values: str | list[str], text: str | None, **others: str) -> bool:
    """Whether a condition holds for a text; `others` sets the attributes Lamp:<name>."""
    listed = (values,) if isinstance(values, str) else tuple(values)
    attributes = {f"Lamp:{name}": value for name, value in others.items()}
    if text is not None:
        attributes[MINE] = text
    return Condition(Operator(operator), MINE, listed).holds(attributes)


# --------------------------------------------------------------------------------------- strings


@pytest.mark.parametrize(
    ("operator", "values", "text", "due"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "", "", True),
        ("StringEquals", "*", "a", False),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringLike", "a*", "a", True),
        ("StringLike", "a*", "ba", False),
        ("StringLike", "*", "", True),
        ("StringLike", "?", "", False),
        ("StringLike", "?", "ä", True),
        ("StringLike", "a?c*", "abcd", True),
        ("StringLike", "*ab", "aab", True),
        ("StringLike", "*ab*ab", "ab", False),
        ("StringLike", "a*a", "a", False),
        ("StringLike", "*.cam", "x\ny.cam", True),
        ("StringLike", "a", "a\n", False),
        ("StringLike", "[ab]", "a", False),
        ("StringLike", "[ab]", "[ab]", True),
        ("StringLike", "a.c", "abc", False),
        ("StringLike", "\\*", "\\x", True),
        ("StringNotLike", "a*", "b", True),
        ("StringNotLike", ["a*", "b*"], "bc", False),
        ("StringNotLike", ["a*", "b*"], "c", True),
    ],
)
def test_string_operators_compare_texts(
    operator: str, values: str | list[str], text: str, due: bool
) -> None:
    assert holds(operator, values, text) is due


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=10))
def test_patterns_agree_with_a_simple_matcher(pattern: str, text: str) -> None:
    def slow(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return slow(pattern[1:], text) or (bool(text) and slow(pattern, text[1:]))
        return bool(text) and pattern[0] in ("?", text[0]) and slow(pattern[1:], text[1:])

    assert holds("StringLike", pattern, text) is slow(pattern, text)
    assert holds("StringNotLike", pattern, text) is not slow(pattern, text)


@pytest.mark.parametrize("piece", ["a*", "*a", "?*", "a*b*", "*?a"])
@pytest.mark.timeout(60)
def test_matching_takes_bounded_time_for_every_pattern(piece: str) -> None:
    """Backtracking into each `*` would take exponential time."""
    pattern = (piece * VALUE_CHARACTERS_MAX)[: VALUE_CHARACTERS_MAX - 1] + "!"
    for text in (
        "a" * ATTRIBUTE_CHARACTERS_MAX,
        "ab" * (ATTRIBUTE_CHARACTERS_MAX // 2),
        "b" * ATTRIBUTE_CHARACTERS_MAX,
    ):
        assert not holds("StringLike", pattern, text)


# --------------------------------------------------------------------------------------- numbers

NUMBERS = ["42", "42.3", "-1", "+1", "0", "-0", "007", "0.5", "1" * 60]
NOT_NUMBERS = ["", "foo", " 1", "1 ", "1\n", "nan", "inf", "-inf", "Infinity", "0x10", "1_0"]
NOT_NUMBERS += [
    "1e3",
    "1E3",
    ".5",
    "5.",
    "1,5",
    "--1",
    "+",
    "1.2.3",
    "٤٢",
    "４２",
    "²",
    "1/2",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_valid_number_equals_itself(text: str) -> None:
    assert holds("NumericEquals", text, text)
    assert not holds("NumericNotEquals", text, text)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_an_invalid_number_matches_nothing_and_is_refused_as_a_value(text: str) -> None:
    for operator in Operator:
        if operator.startswith("Numeric"):
            assert not holds(operator, ["1", "42"], text)
            assert not holds(operator, "${Lamp:Other}", "1", Other=text)
            with pytest.raises(PolicyError):
                holds(operator, text, "1")


@pytest.mark.parametrize(
    ("operator", "value", "text", "due"),
    [
        ("NumericEquals", "0.3", "0.30", True),
        ("NumericEquals", "0", "-0", True),
        (
            "NumericEquals",
            "9007199254740993",
            "9007199254740992",
            False,
        ),  # they are equal as floats
        (
            "NumericEquals",
            "0.1",
            "0.1000000000000000055511151231257827",
            False,
        ),  # they are equal as floats too
        ("NumericNotEquals", "1", "2", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10.0", True),
        ("NumericGreaterThan", "9", "10", True),
        ("NumericGreaterThan", "-1", "-2", False),
        ("NumericGreaterThanEquals", "10", "10", True),
    ],
)
def test_numeric_operators_compare_numbers(operator: str, value: str, text: str, due: bool) -> None:
    assert holds(operator, value, text) is due


@given(st.decimals("-9e30", "9e30", places=9), st.decimals("-9e30", "9e30", places=9))
def test_numbers_are_compared_exactly(one: Decimal, other: Decimal) -> None:
    def compared(name: str) -> bool:
        return holds(f"Numeric{name}", f"{other:f}", f"{one:f}")

    assert compared("Equals") is (one == other) is not compared("NotEquals")
    assert compared("LessThan") is (one < other) is not compared("GreaterThanEquals")
    assert compared("GreaterThan") is (one > other) is not compared("LessThanEquals")


# ----------------------------------------------------------------------------------------- truth


@pytest.mark.parametrize("text", ["True", "TRUE", "1", "yes", "", "true ", "t", "on"])
def test_only_true_and_false_are_boolean_values(text: str) -> None:
    assert not holds("Bool", ["true", "false"], text)
    with pytest.raises(PolicyError, match="Bool"):
        holds("Bool", text, "true")


def test_the_bool_operator_compares_booleans() -> None:
    assert holds("Bool", "true", "true")
    assert not holds("Bool", "true", "false")
    assert holds("Bool", ["true", "false"], "false")
    assert not holds("Bool", "true", None)
    assert not holds("Bool", "false", None)


# ------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("value", "text", "due"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "192.0.3.77", False),
        ("192.0.2.0/24", "::ffff:192.0.2.77", True),
        ("::ffff:192.0.2.77", "192.0.2.77", True),
        ("::ffff:192.0.2.0/120", "192.0.2.77", True),
        ("::ffff:192.0.2.0/120", "::ffff:192.0.2.77", True),
        ("::ffff:0.0.0.0/96", "8.8.8.8", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "192.0.2.1", False),
        ("::/0", "::ffff:192.0.2.1", False),  # an IPv4-mapped address is an IPv4 address
        ("::/0", "2001:db8::1", True),
        ("2001:db8::/32", "2001:0DB8:0::1", True),
        ("fe80::/10", "fe80::1", True),
        ("192.0.2.1", "192.0.2.1/32", False),
        ("192.0.2.1", "192.0.2.01", False),
        ("192.0.2.1", "3221225985", False),
        ("192.0.2.1", "192.0.2.1:5684", False),
        ("fe80::/10", "fe80::1%eth0", False),
        ("::1", "[::1]", False),
        ("0.0.0.0/0", "localhost", False),
    ],
)
def test_address_operators_compare_addresses_and_networks(value: str, text: str, due: bool) -> None:
    assert holds("IpAddress", value, text) is due
    known = not re.search(r"[%/\[]|:5684|\.01|^3221|local", text)
    assert holds("NotIpAddress", value, text) is (known and not due)


@pytest.mark.parametrize(
    "value",
    [
        "192.0.2.1/24",  # bits set outside the network prefix
        "192.0.2.0/255.255.255.0",
        "192.0.2.0/0.0.0.255",
        "192.0.2.0/",
        "192.0.2.0/024",
        "192.0.2.0/33",
        "192.0.2",
        "fe80::%eth0/64",
        "fe80::1%eth0",
        "localhost",
        "",
        "*",
    ],
)
def test_an_invalid_address_or_network_is_refused_as_a_value(value: str) -> None:
    for operator in ("IpAddress", "NotIpAddress"):
        with pytest.raises(PolicyError):
            holds(operator, value, "192.0.2.1")


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 32))
def test_ipv4_and_ipv4_mapped_addresses_are_equal(one: object, base: object, prefix: int) -> None:
    network = ip_network(f"{base}/{prefix}", strict=False)
    due = ip_address(str(one)) in network
    mapped = f"::ffff:{network.network_address}/{prefix + 96}"
    for value in (str(network), mapped):
        for text in (str(one), f"::ffff:{one}"):
            assert holds("IpAddress", value, text) is due
            assert holds("NotIpAddress", value, text) is not due


# ----------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("operator", "value", "text", "due"),
    [
        ("DateEquals", "1970-01-01T00:00:00Z", "0", True),
        ("DateEquals", "2030-01-31T12:00:00Z", "2030-01-31T13:30:00+01:30", True),
        ("DateEquals", "2030-01-31T12:00:00Z", "2030-01-31t08:00:00-04:00", True),
        ("DateEquals", "2030-01-31 12:00:00z", "2030-01-31T12:00:00-00:00", True),
        ("DateEquals", "2030-01-31T12:00:00.5Z", "1896091200.5", True),
        ("DateEquals", "2000-02-29T23:59:59.000000001Z", "951868799.000000001", True),
        ("DateNotEquals", "2030-01-31T12:00:00Z", "1896091200", False),
        ("DateNotEquals", "2030-01-31T12:00:00Z", "1896091201", True),
        ("DateLessThan", "2030-01-31T12:00:00Z", "1896091199", True),
        ("DateLessThan", "2030-01-31T12:00:00Z", "1896091200", False),
        ("DateLessThanEquals", "2030-01-31T12:00:00Z", "1896091200", True),
        ("DateGreaterThan", "2030-01-31T12:00:00Z", "1896091200.1", True),
        ("DateGreaterThanEquals", "2030-01-31T12:00:00Z", "1896091199.9", False),
        ("DateGreaterThan", "1900-01-01T00:00:00Z", "0", True),
    ],
)
def test_date_operators_compare_times(operator: str, value: str, text: str, due: bool) -> None:
    assert holds(operator, value, text) is due


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-31T12:00:00",  # without a time zone, the time is ambiguous
        "2030-01-31",
        "12:00:00Z",
        "2030-02-30T12:00:00Z",
        "2030-01-31T24:00:00Z",
        "2030-01-31T12:60:00Z",
        "2030-01-31T12:00:00+24:00",
        "2030-01-31T12:00:00+0100",
        "2030-01-31T12:00Z",
        "2030-01-31T12:00:00,5Z",
        "0000-01-01T00:00:00Z",
        "20300131T120000Z",
        "２０３０-01-31T12:00:00Z",
        "-1",
        "+1",
        "1e9",
        "nan",
        "inf",
        "",
        " 0",
        "tomorrow",
    ],
)
def test_an_invalid_time_matches_nothing_and_is_refused_as_a_value(text: str) -> None:
    for operator in Operator:
        if operator.startswith("Date"):
            assert not holds(operator, ["2030-01-31T12:00:00Z", "0"], text)
            assert not holds(operator, "${Lamp:Other}", "0", Other=text)
            with pytest.raises(PolicyError):
                holds(operator, text, "0")


# --------------------------------------------------------------------- what is missing; ${Attr}

GOOD = {"String": "a", "Numeric": "1", "Bool": "true", "Ip": "192.0.2.1", "Date": "1"}
OTHER = {"String": "b", "Numeric": "2", "Bool": "false", "Ip": "192.0.2.2", "Date": "2"}


def family(operator: Operator) -> str:
    return next(name for name in GOOD if operator.removeprefix("Not").startswith(name))


@pytest.mark.parametrize("operator", Operator)
def test_a_condition_with_an_absent_attribute_does_not_hold(operator: Operator) -> None:
    """This includes the negative operators."""
    mine, other = GOOD[family(operator)], OTHER[family(operator)]
    assert not holds(operator, mine, None)
    assert not holds(operator, "${Lamp:Other}", mine)
    assert not holds(operator, "${Lamp:Other}", None, Other=mine)
    assert not holds(operator, f"${{{MINE}}}", None)
    negative = operator in NEGATIVE
    # Beside a value that decides by itself: a positive operator looks on, a negative one stops.
    matching = next(v for v in (mine, other, "0", "3") if _held(operator, v, mine))
    assert holds(operator, [matching, "${Lamp:Other}"], mine) is not negative
    assert holds(operator, ["${Lamp:Other}", matching], mine) is not negative


def _held(operator: Operator, value: str, text: str) -> bool:
    try:
        return holds(operator, value, text)
    except PolicyError:
        return False


@pytest.mark.parametrize("operator", Operator)
def test_a_referenced_attribute_is_compared_like_a_value(operator: Operator) -> None:
    for mine in (GOOD[family(operator)], OTHER[family(operator)]):
        for other in (GOOD[family(operator)], OTHER[family(operator)]):
            due = holds(operator, other, mine)
            assert holds(operator, "${Lamp:Other}", mine, Other=other) is due


def test_a_referenced_attribute_is_neither_a_pattern_nor_expanded() -> None:
    """The client chooses the name of the target: the name `*` must not match every user."""
    assert not holds("StringLike", "${Lamp:Other}", "anna", Other="*")
    assert holds("StringLike", "${Lamp:Other}", "*", Other="*")
    assert holds("StringNotLike", "${Lamp:Other}", "anna", Other="*")
    reference = "${Lamp:Third}"
    assert not holds("StringEquals", "${Lamp:Other}", "anna", Other=reference, Third="anna")
    assert holds("StringEquals", "${Lamp:Other}", reference, Other=reference, Third="anna")
    assert not holds("StringEquals", "anna", reference, Third="anna")


@given(
    st.sampled_from(Operator),
    st.lists(st.sampled_from(["0", "1", "2", "${Lamp:A}", "${Lamp:B}"]), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from([MINE, "Lamp:A", "Lamp:B"]), st.sampled_from(["0", "1", "x"])),
    st.data(),
)
def test_the_order_of_values_does_not_matter(
    operator: Operator, values: list[str], attributes: dict[str, str], data: st.DataObject
) -> None:
    if family(operator) in ("Bool", "Ip"):
        values = [value for value in values if value.startswith("$")] or ["${Lamp:A}"]
    one = Condition(operator, MINE, tuple(values))
    other = Condition(operator, MINE, tuple(data.draw(st.permutations(values))))
    assert one.outcome(attributes) is other.outcome(attributes)
    # A repeated value changes nothing either.
    assert one.outcome(attributes) is Condition(operator, MINE, (*values, *values)).outcome(
        attributes
    )


# --------------------------------------------------------------------------------------- the clock


@pytest.mark.parametrize(
    ("attribute", "values", "attributes", "due"),
    [
        ("Clock:Now", ["0"], {}, Outcome.CLOCK),
        ("Clock:Now", ["${Lamp:Until}"], {}, Outcome.CLOCK),
        ("Lamp:Until", ["${Clock:Now}"], {}, Outcome.FAILS),
        ("Lamp:Until", ["${Clock:Now}"], {"Lamp:Until": "5"}, Outcome.CLOCK),
        ("Lamp:Until", ["${Clock:Now}"], {"Lamp:Until": "soon"}, Outcome.FAILS),
    ],
)
@pytest.mark.parametrize("operator", ["DateLessThan", "DateNotEquals", "NumericGreaterThan"])
def test_an_unknown_time_is_a_separate_outcome(
    operator: str, attribute: str, values: list[str], attributes: dict[str, str], due: Outcome
) -> None:
    condition = Condition(Operator(operator), attribute, tuple(values))
    assert condition.outcome(attributes) is due
    assert not condition.holds(attributes)


def test_a_value_that_decides_needs_no_clock() -> None:
    attributes = {"Lamp:Until": "5"}
    both = ("5", "${Clock:Now}")
    for operator, due in (("DateEquals", Outcome.HOLDS), ("DateNotEquals", Outcome.FAILS)):
        assert Condition(Operator(operator), "Lamp:Until", both).outcome(attributes) is due


# ---------------------------------------------------------------------- what can never be meant


@pytest.mark.parametrize(
    ("attribute", "values", "why"),
    [
        ("Lamp", ["a"], "not an attribute"),
        ("Lamp:", ["a"], "not an attribute"),
        ("Lamp:*", ["a"], "not an attribute"),
        ("Lamp:Text:x", ["a"], "not an attribute"),
        ("${Lamp:Text}", ["a"], "not an attribute"),
        ("Lamp:Text\n", ["a"], "not an attribute"),
        ("Lämp:Text", ["a"], "not an attribute"),
        ("Connection:IsLokal", ["a"], "no attribute Connection:IsLokal"),
        ("IAM:Rank", ["a"], "no attribute"),
        ("iam:Username", ["a"], "no attribute"),
        ("CONNECTION:IsLocal", ["a"], "no attribute"),
        ("clock:Now", ["a"], "no attribute"),
        (MINE, [], "compares with 0 values"),
        (MINE, ["a"] * (CONDITION_VALUES_MAX + 1), "values"),
        (MINE, ["a" * (VALUE_CHARACTERS_MAX + 1)], "longer than"),
        (MINE, ["a${Lamp:Other}"], "neither"),
        (MINE, ["${Lamp:Other}a"], "neither"),
        (MINE, ["${Lamp}"], "neither"),
        (MINE, ["${}"], "neither"),
        (MINE, ["${Lamp:Other"], "neither"),
        (MINE, ["${${Lamp:Other}}"], "neither"),
        (MINE, ["${Connection:Nobody}"], "no attribute"),
        (MINE, ["Zoe\u0308"], "combining"),
    ],
)
def test_a_condition_that_can_never_be_intended_is_refused(
    attribute: str, values: list[str], why: str
) -> None:
    for operator in (Operator.STRING_EQUALS, Operator.STRING_NOT_LIKE):
        with pytest.raises(PolicyError, match=why) as caught:
            Condition(operator, attribute, tuple(values))
        assert caught.value.advice


def test_the_explanation_names_both_sides_and_is_short() -> None:
    condition = Condition(Operator.STRING_EQUALS, MINE, ("a", "${Lamp:Other}"))
    why = condition.why({MINE: "b"})
    assert why == (
        "StringEquals Lamp:Text ['a', '${Lamp:Other}']: Lamp:Text is 'b', Lamp:Other is absent"
    )
    for value in (
        "a" * VALUE_CHARACTERS_MAX,
        *(f"${{Lamp:{'A' * 60}{number}}}" for number in range(2)),
    ):
        long = Condition(Operator.STRING_EQUALS, MINE, (value,) * CONDITION_VALUES_MAX)
        assert len(long.why({MINE: "b\n" * 500})) < 1200
        assert "\n" not in long.why({MINE: "b\n" * 500})
    many = tuple(f"${{Lamp:A{number}}}" for number in range(CONDITION_VALUES_MAX))
    assert len(Condition(Operator.STRING_EQUALS, MINE, many).why({})) < 1200
