"""Errors of click as `--json` has them, for both command lines."""

from collections.abc import Sequence
from typing import Final

import click

_JSON: Final = "--json"
_END_OF_OPTIONS: Final = "--"


def wants_json(words: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON, even if it has errors elsewhere."""
    end = list(words).index(_END_OF_OPTIONS) if _END_OF_OPTIONS in words else len(words)
    return _JSON in words[:end]


def usage_error(error: click.ClickException) -> dict[str, object]:
    """Return the fields of an error of click: kind, exit, message, advice."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return {
        "kind": "UsageError",
        "exit": error.exit_code,
        "message": error.format_message(),
        "advice": f"Try '{path} --help' for help." if path else "",
    }
