"""Layout of fingerprints and tables."""

import pytest

from peer.errors import PinMismatch
from peer.identity import Fingerprint
from peer.terminal.layout import (
    PagedTable,
    cell_width,
    comparison_lines,
    fields,
    fingerprint_lines,
    folded,
    table,
)

ONE = "00112233445566778899aabbccddeeff" * 2


def test_two_fingerprints_are_lined_up_and_their_differences_marked() -> None:
    other = ONE[:8] + "ffff" + ONE[12:60] + "0000"
    lines = comparison_lines(("expected", "received"), (ONE, other))
    assert lines == [
        "  expected  0011 2233 4455 6677 8899 aabb ccdd eeff",
        "  received  0011 2233 ffff 6677 8899 aabb ccdd eeff",
        "                      ^^^^",
        "  expected  0011 2233 4455 6677 8899 aabb ccdd eeff",
        "  received  0011 2233 4455 6677 8899 aabb ccdd 0000",
        "                                               ^^^^",
    ]


def test_halves_without_a_difference_have_no_marks() -> None:
    lines = comparison_lines(("a", "b"), (ONE, ONE))
    assert len(lines) == 4
    assert not any("^" in line for line in lines)


def test_a_fingerprint_and_a_comparison_fit_into_80_columns() -> None:
    lines = comparison_lines(("expected", "received"), (ONE, ONE[::-1]))
    lines += fingerprint_lines("  device's fingerprint  ", Fingerprint(bytes(32)))
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize(("at", "group"), [(0, 1), (3, 1), (4, 2), (31, 8), (32, 9), (63, 16)])
def test_a_mismatch_names_the_first_group_that_differs(at: int, group: int) -> None:
    other = ONE[:at] + ("0" if ONE[at] != "0" else "1") + ONE[at + 1 :]
    error = PinMismatch(ONE, other)
    assert (error.expected, error.actual, error.difference) == (ONE, other, group)
    assert f"first differ in group {group}" in str(error)
    assert Fingerprint.parse(ONE).grouped in str(error)
    assert Fingerprint.parse(other).grouped in str(error)


def test_a_mismatch_of_device_ids_shows_the_ids() -> None:
    text = str(PinMismatch("6MWQJMB3", "0123ABCD", is_known=False))
    assert "expected 6MWQJMB3, received 0123ABCD" in text
    assert "group" not in text


ROLES = [("guest", "10", "core-unpaired, core-guest, app-unpaired, app-guest"), ("o", "4", "all")]


@pytest.mark.parametrize("width", [0, 30, 40, 80, 120])
def test_a_table_fits_into_the_terminal_and_loses_no_word(width: int) -> None:
    lines = table(ROLES, headers=("ROLE", "RANK", "POLICIES"), width=width)
    assert lines[0].split() == ["ROLE", "RANK", "POLICIES"]
    assert not width or max(map(len, lines)) <= width
    words = " ".join(lines).replace(",", " ").split()
    assert {"guest", "core-unpaired", "app-guest", "all"} <= set(words)
    column = lines[0].index("POLICIES")
    assert all(line[column - 1] == " " for line in lines if len(line) > column)


def test_an_empty_table_has_no_headers() -> None:
    assert table([], headers=("A",)) == []


def test_a_table_of_wide_characters_is_aligned() -> None:
    lines = table([("\u674e", "x"), ("anna", "y"), ("e\u0301va", "z")], width=0)
    assert {cell_width(line[: line.rindex(" ") + 1]) for line in lines} == {6}


def test_a_line_below_a_row_is_not_folded() -> None:
    note = " ".join(["abcd"] * 16)
    lines = table([("a", "b"), ("c", "d")], headers=("X", "Y"), below=[note, note], width=20)
    assert lines == ["X  Y", "a  b", note, "c  d", note]


def test_a_long_word_is_not_cut() -> None:
    assert folded(f"invite {'X' * 50} end", indent="  ", width=20) == [
        "invite",
        f"  {'X' * 50}",
        "  end",
    ]


def test_fields_are_folded_below_their_value() -> None:
    assert fields([("may", "one two three"), ("a", "b")], width=14) == [
        "may   one two",
        "      three",
        "a     b",
    ]


def test_control_characters_in_a_cell_are_escaped() -> None:
    assert table([("a\x1b[2J", "b")], width=0) == ["a\\x1b[2J  b"]


@pytest.mark.parametrize("width", [0, 30])
def test_a_table_of_one_page_is_a_table(width: int) -> None:
    rows = [("anna", "owner", "one two three four five six"), ("b\x1b", "guest", "-")]
    headers = ("USER", "ROLE", "NOTES")
    assert PagedTable(headers, width=width).lines(rows) == table(rows, headers=headers, width=width)
    assert PagedTable(headers, width=width).lines([]) == []


def test_the_first_page_decides_the_columns_of_all() -> None:
    pages = PagedTable(("USER", "NOTES"), width=0)
    assert pages.lines([]) == []
    assert pages.lines([("benjamin", "-")]) == ["USER      NOTES", "benjamin  -"]
    assert pages.lines([("al", "x"), ("maximilian", "two words")]) == [
        "al        x",
        "maximilian  two words",
    ]
    narrow = PagedTable(("USER", "NOTES"), width=20)
    narrow.lines([("benjamin", "a note")])
    assert narrow.lines([("al", "many short words")]) == [
        "al        many",
        "          short",
        "          words",
    ]
