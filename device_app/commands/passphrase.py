"""The passphrase of a backup: typed, or read from a file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from device_app.errors import AppError
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


def passphrase(file: Path | None, *, is_new: bool) -> str:
    """Return the passphrase. One that is new has to be typed twice.

    Raises:
        AppError: the file cannot be read.
        click.UsageError: there is no terminal to ask.
    """
    if file is not None:
        return _from_file(file)
    if not output.can_confirm():
        raise click.UsageError(
            "This needs a terminal to ask for the passphrase. Or give --passphrase-file."
        )
    typed: str = click.prompt(
        "Passphrase of the backup", hide_input=True, confirmation_prompt=is_new, err=True
    )
    return typed


def _from_file(file: Path) -> str:
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.readline(PASSPHRASE_FILE_BYTES_MAX)
        else:
            with open_regular(file) as source:
                data = source.readline(PASSPHRASE_FILE_BYTES_MAX)
        return decode_text(data).strip("\r\n")
    except OSError as error:
        why, advice = error.strerror, ""
    except Malformed as error:
        why, advice = str(error), error.advice
    raise AppError(f"{file} cannot be read: {why}", advice=advice, code=ExitCode.USAGE)
