"""A QR code on a terminal, with its whole margin; `peer.pairing.qr` draws it."""

from typing import Final

from peer.errors import UsageError
from peer.pairing.qr import QUIET_ZONE, Ground, terminal_lines, width

__all__ = ["MARGIN", "drawn", "width"]

MARGIN: Final = QUIET_ZONE


def drawn(text: str, *, columns: int, coloured: bool) -> str:
    """The lines of the code; empty if it is wider than `columns`.

    With `coloured`, both colours are named; else it is drawn as fits a dark terminal.
    """
    ground = Ground.SET if coloured else Ground.DARK
    try:
        lines = terminal_lines(text, columns=columns, ground=ground, least_quiet=MARGIN)
    except UsageError:
        return ""
    return "\n".join(lines)
