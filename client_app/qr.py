"""A QR code on a terminal: two rows of modules in one line of half blocks.

A camera wants dark on light with a light margin of four modules (ISO/IEC 18004 §6.3.8). A terminal
may be either way round, so both colours are set; where colours are not wanted, light is what is
printed, as on a dark ground.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import segno

MARGIN: Final = 4
_BLACK_ON_WHITE: Final = "\x1b[38;5;16;48;5;231m"
_AS_BEFORE: Final = "\x1b[0m"
_INK: Final = " ▄▀█"  # by upper and lower half: 2 · upper + lower


def drawn(text: str, *, columns: int, coloured: bool) -> str:
    """The lines of the code; empty if it is wider than `columns`.

    Error correction is as high as it gets without a larger code.
    """
    code = segno.make_qr(text, error="l", boost_error=True)
    rows = [list(map(bool, row)) for row in code.matrix_iter(border=MARGIN)]
    if len(rows[0]) > columns:
        return ""
    pairs = zip_longest(rows[::2], rows[1::2], fillvalue=[False] * len(rows[0]))
    return "\n".join(_line(upper, lower, coloured=coloured) for upper, lower in pairs)


def width(text: str) -> int:
    """How many columns the code takes."""
    return int(segno.make_qr(text, error="l").symbol_size(border=MARGIN)[0])


def _line(upper: Sequence[bool], lower: Sequence[bool], *, coloured: bool) -> str:
    """Ink is dark where the ground is set to light, else light."""
    line = "".join(
        _INK[2 * (above is coloured) + (below is coloured)]
        for above, below in zip(upper, lower, strict=True)
    )
    return f"{_BLACK_ON_WHITE}{line}{_AS_BEFORE}" if coloured else line
