"""Verbs that are imported when they are used; lists of them come from a table.

Importing a verb takes up to 100 ms, so `--help` and shell completion use a table with the first
sentence of each. Tests compare it with the help texts of the verbs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def completions(
    group: click.Group, ctx: click.Context, incomplete: str, about: Mapping[str, str]
) -> "list[CompletionItem]":
    """Return what may complete a word of a group: its verbs, by the table `about`, and options."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only completion needs it

    found = [
        CompletionItem(name, help=text)
        for name, text in about.items()
        if name.startswith(incomplete)
    ]
    return [*found, *click.Command.shell_complete(group, ctx, incomplete)]
