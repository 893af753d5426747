"""QR codes on this machine's terminal and in new files; `peer.pairing.qr` draws them."""

import os
import sys
from pathlib import Path

from peer.errors import UsageError
from peer.pairing.qr import Ground, code_of, ground_of, png, svg, terminal_lines

__all__ = [
    "Ground",
    "code_of",
    "ground_of",
    "png",
    "require_new",
    "svg",
    "terminal_lines",
    "to_stderr",
    "write",
]

_COLUMNS = 80  # where nobody knows how wide it is


def require_new(path: Path) -> None:
    """Raise `UsageError` if there is a file, or no folder to put it in."""
    if path.exists() or not path.parent.is_dir():
        raise UsageError(
            f"{path} " + ("is there already" if path.exists() else "has no folder to be in"),
            advice="Give the name of a new file.",
        )


def write(path: Path, picture: bytes) -> None:
    """A new file that only its owner reads: who has the picture has what is in it.

    Raises `UsageError` if there is a file already or it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(picture)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", advice="Give the name of a new file."
        ) from error


def to_stderr(text: str) -> list[str]:
    """The lines for the terminal that stderr is. Raises `UsageError` where they do not fit."""
    tty = sys.stderr.isatty()
    columns = os.get_terminal_size(sys.stderr.fileno()).columns if tty else _COLUMNS
    ground = ground_of(os.environ, tty=tty)
    return terminal_lines(text, columns=columns or _COLUMNS, ground=ground)  # 0: it does not know
