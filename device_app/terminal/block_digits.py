"""Digits in large blocks, to be read from some distance."""

from typing import Final

from peer.terminal.layout import width_of

_ROWS: Final = (
    "███   █ ███ ███ █ █ ███ ███ ███ ███ ███        ",
    "█ █   █   █   █ █ █ █   █     █ █ █ █ █        ",
    "█ █   █ ███  ██ ███ ███ ███   █ ███ ███ ███    ",
    "█ █   █ █     █   █   █ █ █   █ █ █   █        ",
    "███   █ ███ ███   █ ███ ███   █ ███ ███        ",
)
_CHARACTERS: Final = "0123456789- "  # in the order of the rows, each in four columns
_COLUMNS: Final = 4
_SCALE: Final = 2  # a character of a terminal is twice as high as it is wide
_INDENT: Final = " " * 4


def block_lines(text: str, *, width: int | None = None) -> list[str]:
    """Digits, hyphens and spaces as large blocks, with an empty line around them.

    Nothing if the text has another character, or does not fit in `width` columns (default: those of
    the terminal that stdout is).
    """
    width = width_of() if width is None else width
    if not set(text) <= set(_CHARACTERS) or len(text) * _COLUMNS * _SCALE + len(_INDENT) > width:
        return []
    starts = [_CHARACTERS.index(character) * _COLUMNS for character in text]
    lines = ["".join(row[at : at + _COLUMNS].ljust(_COLUMNS) for at in starts) for row in _ROWS]
    doubled = ["".join(cell * _SCALE for cell in line).rstrip() for line in lines]
    return ["", *(f"{_INDENT}{line}" for line in doubled), ""]
