"""The passphrase of a backup: made, typed, or read from a file.

It is shown at most once, on a terminal. It is never an argument, because other users can see those.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from device_app.console import passphrases
from device_app.errors import AppError, unreadable
from device_app.limits import PASSPHRASE_FILE_BYTES_MAX
from device_app.terminal import output
from peer.errors import Malformed
from peer.files import decode_text, open_regular
from peer.terminal.exit_codes import ExitCode

F = TypeVar("F", bound=Callable[..., object] | click.Command)
_STDIN: Final = Path("-")


def passphrase_option(function: F) -> F:
    """--passphrase-file: where the passphrase is, for a script."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read the passphrase from the first line of FILE; - is standard input.",
    )(function)


def new_passphrase() -> str:
    """Return a passphrase that was made now. `show_passphrase` shows it.

    Raises:
        click.UsageError: there is no terminal to show it on, where no log keeps it.
    """
    if not can_show():
        raise click.UsageError(
            "This makes a passphrase, and needs a terminal to show it. Or give --passphrase-file."
        )
    return passphrases.made(os.urandom(passphrases.MADE_RANDOM_BYTES))


def show_passphrase(passphrase: str) -> None:
    """Show a passphrase that was made, on standard error: it is in no output of the command."""
    output.message(f"Passphrase of the backup:  {passphrase}")
    output.message("Write it down now. It is shown only once, and nothing can replace it.")


def passphrase(file: Path | None, *, is_new: bool = False) -> str:
    """Return the passphrase. One that is new has to be typed twice.

    Raises:
        AppError: the file cannot be read.
        click.UsageError: there is no terminal to ask.
    """
    if file is not None and not is_typed(file):
        return _from_file(file)
    if not output.can_confirm():
        raise click.UsageError(
            "This needs a terminal to ask for the passphrase. Or give --passphrase-file."
        )
    typed: str = click.prompt(
        "Passphrase of the backup", hide_input=True, confirmation_prompt=is_new, err=True
    )
    return typed


def can_show() -> bool:
    """Return whether a person, and no log, sees standard error."""
    return sys.stderr.isatty()


def is_typed(file: Path) -> bool:
    """Return whether a person types the content of this file."""
    return file == _STDIN and sys.stdin.isatty()


def _from_file(file: Path) -> str:
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.readline(PASSPHRASE_FILE_BYTES_MAX)
        else:
            with open_regular(file) as source:
                data = source.readline(PASSPHRASE_FILE_BYTES_MAX)
        return decode_text(data).strip("\r\n")
    except OSError as error:
        raise unreadable(file, error) from error
    except Malformed as error:
        message = f"{file} cannot be read: {error}"
        raise AppError(message, advice=error.advice, code=ExitCode.USAGE) from error
