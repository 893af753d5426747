"""Errors about the fields of a message, in the words of the options that a person typed."""

import re
from collections.abc import Mapping
from typing import Final

_FIELD: Final = re.compile(r"(?P<field>[a-z_]+) is missing or is not (?P<expected>.+)", re.DOTALL)
_EXPECTED: Final = (
    (re.compile(r"a number of seconds above 0"), "a duration such as 90s, 2m or 2d"),
    (re.compile(r"seconds since 1970"), "a time such as 2d, 2030-12-24 or 2030-12-24T18:00"),
    (re.compile(r"a number of seconds"), "a duration"),
)


def in_typed_words(message: str, advice: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Return message and advice of an error, with a field named by its option.

    Args:
        message: what happened, for example `seconds is missing or is not a number`.
        advice: what to do next.
        options: the options of the command by the names of the fields, such as `--for`.
    """
    found = _FIELD.fullmatch(message)
    if found is None or found["field"] not in options:
        return message, advice
    option, expected = options[found["field"]], found["expected"]
    for wire, typed in _EXPECTED:
        expected = wire.sub(typed, expected)
    return f"{option} is not {expected}", f"Give {option} as {expected}."
