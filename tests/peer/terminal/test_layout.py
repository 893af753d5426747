"""Layout of fingerprints and tables."""

import pytest

from peer.errors import PinMismatch
from peer.identity import Fingerprint
from peer.terminal.layout import comparison_lines, fingerprint_lines

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
