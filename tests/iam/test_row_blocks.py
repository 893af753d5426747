"""Rows that are checked block by block are those that the constructors of their values accept."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import restored_rows, rights, row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

Row = tuple[Any, ...]
USER: Row = ("anna", "user", "Anna", None, None, 1.5)
KEY: Row = ("a" * 64, "anna", "laptop", "compare", 1, 1.5, "", b"")
SHOWN = [
    "",
    "x",
    "é“",
    "x" * 64,
    "x" * 65,
    "\x1b",
    "a\nb",
    "\u200b",
    "\ud800",
    '"\\',
    b"x",
    None,
    1,
]
TIMES = [0.0, 1.5, -1e300, 1e-7, inf, -inf, nan, 1, None, "1.0"]
NAMES = [
    "a",
    "a b",
    "é",
    "a" * 64,
    "a" * 65,
    "",
    " ",
    "a ",
    "a  b",
    "a/b",
    "a\n",
    "a\nb",
    "\ud800",
    1,
]
OF_USER: tuple[list[Any], ...] = (NAMES, SHOWN, SHOWN, TIMES, TIMES, TIMES)
FINGERPRINTS = ["0" * 64, "A" * 64, "a" * 63, "a" * 65, "", "g" * 64, "a" * 63 + "\n", b"a" * 64]
INVITES = ["", "1" * 32, "1" * 31, "1" * 33, "G" * 32, "1" * 32 + "\n", None]
RECEIPTS = [b"", b"r" * 32, b"r", b"r" * 33, "", "r" * 32, None]
OF_KEY: tuple[list[Any], ...] = (
    *(FINGERPRINTS, ["anna"], SHOWN, SHOWN),
    *([0, 1, 2, -1, True, 1.0, None], TIMES, INVITES, RECEIPTS),
)


def variants(row: Row, values: tuple[list[Any], ...]) -> list[Row]:
    """The row, each time with another value in one of its columns."""
    return [
        (*row[:place], value, *row[place + 1 :])
        for place, some in enumerate(values)
        for value in some
    ]


def is_accepted(check: Callable[[list[Row]], list[str]], block: list[Row]) -> bool:
    try:
        check(block)
    except (ValueError, TypeError):
        return False
    return True


def users_are_exact(rows: list[Row]) -> bool:
    return restored_rows.state_of_tables({"user": rows, "key": [], "invite": []})[1]


def key_is_exact(row: Row) -> bool:
    return restored_rows.state_of_tables({"user": [USER], "key": [row], "invite": []})[1]


def numbered(row: Row, number: int) -> Row:
    """Another valid row."""
    first = f"u{number}" if row == USER else f"{number:064x}"
    return (first, *row[1:])


@pytest.mark.parametrize("row", variants(USER, OF_USER), ids=repr)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_of_a_user_is_accepted_if_a_user_can_be_made_of_it(row: Row, place: int) -> None:
    block = [numbered(USER, 1), numbered(USER, 2)]
    block.insert(place, row)
    assert is_accepted(row_blocks.user_texts, block) is users_are_exact([row])


@pytest.mark.parametrize("row", variants(KEY, OF_KEY), ids=repr)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_of_a_key_is_accepted_if_a_key_can_be_made_of_it(row: Row, place: int) -> None:
    block = [numbered(KEY, 1), numbered(KEY, 2)]
    block.insert(place, row)
    assert is_accepted(row_blocks.key_texts, block) is key_is_exact(row)


@pytest.mark.parametrize(
    ("start", "end"), [(None, 1.0), (1.0, None), (1.0, 2.0), (2.0, 2.0), (2.0, 1.0), (inf, inf)]
)
def test_a_period_of_access_ends_after_it_begins(start: float | None, end: float | None) -> None:
    row = (*USER[:3], start, end, 1.5)
    assert is_accepted(row_blocks.user_texts, [USER, row]) is users_are_exact([row])


@pytest.mark.parametrize(
    "names", [("a\nb", ""), ("", "a\nb"), ("a\n", "b"), ("a", "\nb"), ("\n", "a")], ids=repr
)
def test_no_name_makes_up_for_another_one(names: tuple[str, ...]) -> None:
    """The names of a block are matched as one text."""
    with pytest.raises(ValueError, match="name"):
        row_blocks.check_names(names)


@pytest.mark.parametrize("lengths", [(63, 65), (0, 128), (128, 0)])
def test_no_fingerprint_makes_up_for_another_one(lengths: tuple[int, ...]) -> None:
    """The digits of a block are matched as one text."""
    block = [("a" * length, *KEY[1:]) for length in lengths]
    assert not is_accepted(row_blocks.key_texts, block)


texts = st.text(max_size=5) | st.text("aé \n", max_size=3)
times = st.floats() | st.none()
user_rows = st.tuples(texts, texts, texts, times, times, st.floats())
key_rows = st.tuples(
    st.sampled_from(FINGERPRINTS),
    *(st.just("anna"), texts, texts, st.integers(-1, 2), st.floats()),
    *(st.sampled_from(INVITES), st.sampled_from(RECEIPTS)),
)


@given(st.lists(user_rows, min_size=1, max_size=3, unique_by=lambda row: row[0]))
def test_a_block_of_users_is_accepted_with_the_texts_of_its_rows(rows: list[Row]) -> None:
    is_valid = users_are_exact(rows)
    assert is_accepted(row_blocks.user_texts, rows) is is_valid
    if is_valid:
        assert row_blocks.user_texts(rows) == [rights.row("user", row) for row in rows]


@given(st.lists(key_rows, min_size=1, max_size=3))
def test_a_block_of_keys_is_accepted_with_the_texts_of_its_rows(rows: list[Row]) -> None:
    is_valid = all(map(key_is_exact, rows))
    assert is_accepted(row_blocks.key_texts, rows) is is_valid
    if is_valid:
        assert row_blocks.key_texts(rows) == [rights.row("key", row) for row in rows]
