"""Fingerprints as people read them: digits in groups, and where two of them differ."""

from typing import Final

_GROUP_DIGITS: Final = 4


def in_groups(digits: str, size: int = _GROUP_DIGITS) -> str:
    """Return the digits in groups of `size`, separated by blanks."""
    return " ".join(digits[at : at + size] for at in range(0, len(digits), size))


def first_difference(one: str, other: str) -> int:
    """Return the number of the first group, from 1, in which two rows of digits differ; else 0."""
    pairs = zip(in_groups(one).split(), in_groups(other).split(), strict=False)
    return next((number for number, (left, right) in enumerate(pairs, 1) if left != right), 0)
