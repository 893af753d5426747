"""The numbers that aiocoap knows. Its enumerations store every number that it is asked for.

Codes are left out: a code is one byte, so at most 256 are stored.
"""

from typing import Final

from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.util import ExtensibleIntEnum

_ENUMERATIONS: Final[tuple[type[ExtensibleIntEnum], ...]] = (OptionNumber, ContentFormat)

Numbers = tuple[frozenset[int], ...]
"""Option numbers and Content-Formats."""


def known_numbers() -> Numbers:
    """Return the numbers that aiocoap stores now."""
    return tuple(frozenset(one._value2member_map_) for one in _ENUMERATIONS)


def forget_all_but(known: Numbers) -> None:
    """Remove the other numbers, for example those of the messages that a test has composed."""
    for one, kept in zip(_ENUMERATIONS, known, strict=True):
        for number in set(one._value2member_map_) - kept:
            del one._value2member_map_[number]
