"""Output of the checks of `doctor`. Importing this module registers the type with `render`."""

import sys
from typing import Final

import click

from client_app.models import Check, CheckResult
from client_app.terminal.render import as_text
from peer.terminal.layout import allows_colour, folded
from peer.terminal.text import on_one_line

_COLOURS: Final = {CheckResult.OK: "green", CheckResult.NOTE: "yellow", CheckResult.FAILED: "red"}
_CHECKED: Final = " " * 7  # below the result of a check


@as_text.register
def _(value: Check) -> str:
    kind, _, about = value.name.partition(" ")
    name = kind if about and about in value.said else value.name  # an address is named once
    lines = folded(on_one_line(f"{value.verdict:<6} {name}: {value.said}"), indent=_CHECKED)
    advice = folded(f"{_CHECKED}{on_one_line(value.advice)}", indent=_CHECKED)
    coloured = [_coloured(line, _COLOURS[value.verdict]) for line in lines]
    return "\n".join([*coloured, *(advice if value.advice else ())])


def _coloured(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if allows_colour(sys.stdout) else text
