"""QR codes for a terminal and for picture files (ISO/IEC 18004; segno computes the modules).

Scanners expect dark modules on a light background with a light margin, the quiet zone. A line of a
terminal shows two rows of modules, as half blocks. If colours are allowed, both colours are set, so
the code is correct on any terminal. Otherwise the blocks are the light modules, which is correct on
a dark terminal; with `Background.LIGHT` they are the dark modules.
"""

import io
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

from peer.errors import UsageError
from peer.terminal.captions import captioned_png, captioned_svg

if TYPE_CHECKING:
    import segno

QUIET_ZONE: Final = 4  # modules of margin that the standard requires (§6.3.8)
_COLUMNS: Final = 80
_LEAST_QUIET: Final = 1  # scanners read a code on a screen with a narrower margin

_COLOURS, _PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"  # black on white in the fixed palette
# (upper module is a block, lower module is a block) → symbol
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


class Background(Enum):
    """The background of a terminal."""

    DARK = "dark"
    LIGHT = "light"
    SET = "set"  # set with the code, since colours are allowed


def background_of(environ: Mapping[str, str], *, tty: bool) -> Background:
    """The background by NO_COLOR, TERM and COLORFGBG (`15;0` is white on black)."""
    if tty and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb":
        return Background.SET
    _, _, back = environ.get("COLORFGBG", "").rpartition(";")
    return Background.LIGHT if back in {"7", "15"} else Background.DARK


def code_of(text: str) -> "segno.QRCode":
    """The smallest code for the text, with the most error correction that fits into it.

    Upper-case letters, digits and `$%*+-./: ` take 5.5 bits each; any other character needs more.
    """
    import segno  # noqa: PLC0415 - slow to import, and most commands draw nothing

    return segno.make_qr(text, error="l", boost_error=True)


def terminal_lines(
    text: str, *, columns: int, background: Background = Background.DARK
) -> list[str]:
    """The code as lines of a terminal; on a narrow one, the margin shrinks to one module.

    Raises `UsageError` if the code does not fit.
    """
    modules = [[bool(module) for module in row] for row in code_of(text).matrix]
    quiet = min(QUIET_ZONE, (columns - len(modules)) // 2)
    if quiet < _LEAST_QUIET:
        raise UsageError(
            f"the QR code needs {len(modules) + 2 * _LEAST_QUIET} columns, but the terminal has "
            f"{columns}",
            advice="Widen the terminal, or use the text.",
        )
    rows = _with_margin(modules, quiet)
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return [_line(rows[at], rows[at + 1], background) for at in range(0, len(rows), 2)]


def stderr_lines(text: str) -> list[str]:
    """The code as lines for stderr. Raises `UsageError` if it does not fit into the terminal."""
    tty = sys.stderr.isatty()
    size = os.get_terminal_size(sys.stderr.fileno()) if tty else shutil.get_terminal_size()
    columns = size.columns or _COLUMNS  # some terminals report 0
    return terminal_lines(text, columns=columns, background=background_of(os.environ, tty=tty))


def svg(text: str, caption: Sequence[str] = ()) -> bytes:
    """The code as an SVG picture that scales to any size, with lines of text below it."""
    return captioned_svg(_saved(text, kind="svg", scale=4), caption)


def png(text: str, caption: Sequence[str] = (), *, scale: int = 8) -> bytes:
    """The code as a PNG picture with lines of text below it; `scale` pixels per module."""
    if not caption:
        return _saved(text, kind="png", scale=scale)
    modules = [[bool(module) for module in row] for row in code_of(text).matrix]
    return captioned_png(_with_margin(modules, QUIET_ZONE), scale, caption)


def _with_margin(modules: list[list[bool]], quiet: int) -> list[list[bool]]:
    side = [False] * quiet
    rows = [[*side, *row, *side] for row in modules]
    light = [[False] * len(rows[0]) for _ in range(quiet)]
    return [*light, *rows, *light]


def _line(upper: list[bool], lower: list[bool], background: Background) -> str:
    """Blocks are the dark modules on a light background, and the light ones on a dark one."""
    inverse = background is Background.DARK
    drawn = "".join(
        _BLOCKS[above is not inverse, below is not inverse]
        for above, below in zip(upper, lower, strict=True)
    )
    return f"{_COLOURS}{drawn}{_PLAIN}" if background is Background.SET else drawn


def _saved(text: str, *, kind: str, scale: int) -> bytes:
    out = io.BytesIO()
    code_of(text).save(out, kind=kind, scale=scale, border=QUIET_ZONE, dark="black", light="white")
    return out.getvalue()
