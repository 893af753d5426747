"""Errors about the fields of a message, in the words of the options that a person typed."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import click

_FIELD: Final = re.compile(r"(?P<field>[a-z_]+) is missing or is not (?P<expected>.+)", re.DOTALL)
_UP_TO: Final = re.compile(
    r"a (number above 0 and at most|time up to) (?P<most>[0-9]{1,12})( seconds)?"
)
_EXPECTED: Final = (
    (re.compile(r"a number of seconds above 0"), "a duration such as 90s, 2m or 2d"),
    (re.compile(r"seconds since 1970"), "a time such as 2d, 2030-12-24 or 2030-12-24T18:00"),
    (re.compile(r"a number of seconds"), "a duration"),
)
_NO_CONTEXT: Final = click.Context(click.Command(""))

FIELDS: Final[Mapping[str, str]] = {
    "begin": "not_before",
    "begins": "not_before",
    "end": "not_after",
    "ends": "not_after",
    "key_name": "name",
    "new_name": "name",
    "rename": "name",
}
"""The parameters of the verbs of both command lines that have another name than their field."""


def options_by_field(params: Iterable[click.Parameter]) -> dict[str, str]:
    """Return the options of a command by the names of the fields that they fill in a message.

    If an argument and an option fill fields of one name, as in `add-key NAME FP --key-name`, it is
    the option: the name of a user is checked by `check_name`, in words of its own.
    """
    found: dict[str, str] = {}
    for one in sorted(params, key=lambda one: isinstance(one, click.Option)):
        name = one.name or ""
        shown = one.opts[0] if isinstance(one, click.Option) else one.make_metavar(_NO_CONTEXT)
        found[FIELDS.get(name, name)] = shown
    return found


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
    from peer.terminal.durations import format_duration  # noqa: PLC0415 - only an error needs it

    if most := _UP_TO.fullmatch(expected):
        expected = f"a duration of at most {format_duration(float(most['most']))}"
    for wire, typed in _EXPECTED:
        expected = wire.sub(typed, expected)
    return f"{option} is not {expected}", f"Give {option} as {expected}."
