"""QR codes for a terminal and for paper (ISO/IEC 18004, made by segno).

A scanner wants dark modules on a light ground with a light margin, the quiet zone. Two rows of
modules share one line of a terminal, as half blocks. Where colours may be used, both are named, so
that the code is right on any terminal; without colours the blocks are the light modules, as fits a
dark terminal, unless `Ground.LIGHT` says that the terminal is light.
"""

import io
import os
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import segno

from peer.errors import UsageError

QUIET_ZONE = 4  # modules of margin that the standard asks for
_LEAST_QUIET = 1  # scanners read a screen with less; better than no code at all
_COLOURS, _PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"  # black on white in the fixed palette
# (upper module is a block, lower module is a block) → symbol
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


class Ground(Enum):
    """What a terminal shows behind its text."""

    DARK = "dark"
    LIGHT = "light"
    SET = "set"  # colours may be used, so we set it


def ground_of(environ: Mapping[str, str], *, tty: bool) -> Ground:
    """How to draw here. NO_COLOR and COLORFGBG (`15;0`: white on black) are heard."""
    if tty and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb":
        return Ground.SET
    _, _, back = environ.get("COLORFGBG", "").rpartition(";")
    return Ground.LIGHT if back in {"7", "15"} else Ground.DARK


def code_of(text: str) -> segno.QRCode:
    """The smallest code for the text, with as much error correction as fits into it for free.

    Upper-case letters, digits and `$%*+-./: ` take 5.5 bits each; anything else makes it larger.
    """
    return segno.make_qr(text, error="l", boost_error=True)


def terminal_lines(text: str, *, columns: int, ground: Ground = Ground.DARK) -> list[str]:
    """The code as lines of a terminal. Raises `UsageError` where it does not fit."""
    code = code_of(text)
    modules = [[bool(module) for module in row] for row in code.matrix]
    quiet = min(QUIET_ZONE, (columns - len(modules)) // 2)
    if quiet < _LEAST_QUIET:
        raise UsageError(
            f"the QR code is {len(modules) + 2 * _LEAST_QUIET} columns wide, this terminal has "
            f"{columns}",
            advice="Make the window wider or the letters smaller, or write it to a file (--png).",
        )
    rows = _with_margin(modules, quiet)
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return [_line(rows[at], rows[at + 1], ground) for at in range(0, len(rows), 2)]


def _with_margin(modules: list[list[bool]], quiet: int) -> list[list[bool]]:
    side = [False] * quiet
    rows = [[*side, *row, *side] for row in modules]
    return [
        *([False] * len(rows[0]) for _ in range(quiet)),
        *rows,
        *([False] * len(rows[0]) for _ in range(quiet)),
    ]


def _line(upper: list[bool], lower: list[bool], ground: Ground) -> str:
    """Blocks are what the terminal draws: dark modules on a light ground, light ones on a dark."""
    inverse = ground is Ground.DARK
    drawn = "".join(
        _BLOCKS[above is not inverse, below is not inverse]
        for above, below in zip(upper, lower, strict=True)
    )
    return f"{_COLOURS}{drawn}{_PLAIN}" if ground is Ground.SET else drawn


def svg(text: str) -> bytes:
    """The code as an SVG picture that scales to any size."""
    return _saved(text, kind="svg", scale=4)


def png(text: str, *, scale: int = 8) -> bytes:
    """The code as a PNG picture; `scale` pixels per module."""
    return _saved(text, kind="png", scale=scale)


def _saved(text: str, *, kind: str, scale: int) -> bytes:
    out = io.BytesIO()
    code_of(text).save(out, kind=kind, scale=scale, border=QUIET_ZONE, dark="black", light="white")
    return out.getvalue()


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
    """The lines for the terminal that stderr is; 80 columns where it is none."""
    tty = sys.stderr.isatty()
    columns = os.get_terminal_size(sys.stderr.fileno()).columns if tty else 80
    return terminal_lines(text, columns=columns, ground=ground_of(os.environ, tty=tty))
