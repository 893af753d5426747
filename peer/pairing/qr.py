"""QR codes for a terminal and for paper (ISO/IEC 18004; segno makes the modules).

A scanner wants dark modules on a light ground with a light margin, the quiet zone. Two rows of
modules share one line of a terminal, as half blocks. Where colours may be used, both are named, so
that the code is right on any terminal; without colours the blocks are the light modules, as fits a
dark terminal, unless `Ground.LIGHT` says that the terminal is light.
"""

import io
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from peer.errors import UsageError

if TYPE_CHECKING:
    import segno

QUIET_ZONE: Final = 4  # modules of margin that the standard asks for (§6.3.8)
LEAST_QUIET: Final = 1  # scanners read a screen with less; better than no code at all

_COLOURS, _PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"  # black on white in the fixed palette
# (upper module is a block, lower module is a block) → symbol
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


class Ground(Enum):
    """What a terminal shows behind its text."""

    DARK = "dark"
    LIGHT = "light"
    SET = "set"  # colours may be used, so we set it


def ground_of(environ: Mapping[str, str], *, tty: bool) -> Ground:
    """How to draw where `environ` holds. NO_COLOR and COLORFGBG (`15;0`: white on black) count."""
    if tty and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb":
        return Ground.SET
    _, _, back = environ.get("COLORFGBG", "").rpartition(";")
    return Ground.LIGHT if back in {"7", "15"} else Ground.DARK


def code_of(text: str) -> "segno.QRCode":
    """The smallest code for the text, with as much error correction as fits into it for free.

    Upper-case letters, digits and `$%*+-./: ` take 5.5 bits each; anything else makes it larger.
    """
    import segno  # noqa: PLC0415 - most commands draw nothing and need not wait for it

    return segno.make_qr(text, error="l", boost_error=True)


def width(text: str, *, quiet: int = QUIET_ZONE) -> int:
    """How many columns of a terminal the code takes, with a margin of so many modules."""
    return len(code_of(text).matrix) + 2 * quiet


def terminal_lines(
    text: str, *, columns: int, ground: Ground = Ground.DARK, least_quiet: int = LEAST_QUIET
) -> list[str]:
    """The code as lines of a terminal; its margin gives way before it does, down to `least_quiet`.

    Raises `UsageError` where it does not fit.
    """
    modules = [[bool(module) for module in row] for row in code_of(text).matrix]
    quiet = min(QUIET_ZONE, (columns - len(modules)) // 2)
    if quiet < least_quiet:
        raise UsageError(
            f"the QR code is {len(modules) + 2 * least_quiet} columns wide, this terminal has "
            f"{columns}",
            advice="Make the window wider or the letters smaller, or write it to a file (--png).",
        )
    rows = _with_margin(modules, quiet)
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return [_line(rows[at], rows[at + 1], ground) for at in range(0, len(rows), 2)]


def svg(text: str) -> bytes:
    """The code as an SVG picture that scales to any size."""
    return _saved(text, kind="svg", scale=4)


def png(text: str, *, scale: int = 8) -> bytes:
    """The code as a PNG picture; `scale` pixels per module."""
    return _saved(text, kind="png", scale=scale)


def _with_margin(modules: list[list[bool]], quiet: int) -> list[list[bool]]:
    side = [False] * quiet
    rows = [[*side, *row, *side] for row in modules]
    light = [[False] * len(rows[0]) for _ in range(quiet)]
    return [*light, *rows, *light]


def _line(upper: list[bool], lower: list[bool], ground: Ground) -> str:
    """Blocks are what the terminal draws: dark modules on a light ground, light ones on a dark."""
    inverse = ground is Ground.DARK
    drawn = "".join(
        _BLOCKS[above is not inverse, below is not inverse]
        for above, below in zip(upper, lower, strict=True)
    )
    return f"{_COLOURS}{drawn}{_PLAIN}" if ground is Ground.SET else drawn


def _saved(text: str, *, kind: str, scale: int) -> bytes:
    out = io.BytesIO()
    code_of(text).save(out, kind=kind, scale=scale, border=QUIET_ZONE, dark="black", light="white")
    return out.getvalue()
