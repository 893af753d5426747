"""Layout of printed results: tables, folded lines, counts, fingerprints, colour.

On a terminal, lines are folded between words to its width. Elsewhere, as in a pipe or a file, a
line stays whole, so that programs that read lines find each in one piece.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, TextIO

from peer.digit_groups import in_groups
from peer.fingerprint import Fingerprint
from peer.terminal.text import on_one_line

_GAP: Final = "  "
_NARROW: Final = 20  # a narrower terminal folds lines itself
_CELL: Final = 8


def width_of(stream: TextIO | None = None) -> int:
    """The columns of the terminal that a stream (default: stdout) is; 0 if it is none."""
    stream = sys.stdout if stream is None else stream
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0
    return columns if columns >= _NARROW else 0


def folded(text: str, *, indent: str = "", width: int | None = None) -> list[str]:
    """Fold a line between its words; `indent` precedes each line but the first.

    `width` defaults to that of the terminal that stdout is; with 0, the line stays whole. A word
    that is longer than a line, such as an invite, is not cut.
    """
    width = width_of() if width is None else width
    if not width or cell_width(text) <= width:
        return [text]
    first = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.strip(),
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [text]


def table(
    rows: Iterable[Sequence[str]],
    *,
    headers: Sequence[str] = (),
    below: Sequence[str] = (),
    width: int | None = None,
) -> list[str]:
    """Escape cells and align columns; rows may differ in length.

    If the table is wider than the terminal, the widest columns are folded between words.

    Args:
        rows: the cells.
        headers: the names of the columns, printed above the rows if there are any.
        below: a further line for each row, which is not folded.
        width: columns of the terminal; by default that of stdout, 0 if it is none.
    """
    escaped = [[on_one_line(cell) for cell in row] for row in rows]
    if not escaped:
        return []
    if headers:
        escaped = [list(headers), *escaped]
    widths = _widths(escaped, width_of() if width is None else width)
    notes = [[], *([line] for line in below)] if headers else [[line] for line in below]
    return [
        line
        for row, note in zip_longest(escaped, notes, fillvalue=())
        for line in (*_row_lines(row, widths), *note)
    ]


class PagedTable:
    """A table that is printed page by page, in memory for one page.

    The first page decides the widths of the columns. A longer cell of a later page is folded on a
    terminal; elsewhere it moves the rest of its line to the right. `width` is that of `table`.
    """

    def __init__(self, headers: Sequence[str], *, width: int | None = None) -> None:
        self._headers = headers
        self._width = width_of() if width is None else width
        self._widths: list[int] = []

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Return the lines of the next page; those of the first begin with the headers."""
        escaped = [[on_one_line(cell) for cell in row] for row in rows]
        if escaped and not self._widths:
            escaped = [list(self._headers), *escaped]
            self._widths = _widths(escaped, self._width)
        if not self._width:
            return [_aligned(row, self._widths) for row in escaped]
        return [line for row in escaped for line in _row_lines(row, self._widths)]


def fields(pairs: Iterable[tuple[str, str]], *, width: int | None = None) -> list[str]:
    """Labels with their values, aligned; a long value is folded below its beginning."""
    rows = [(label, on_one_line(value)) for label, value in pairs]
    column = max((len(label) for label, _ in rows), default=0) + len(_GAP) + 1
    return [
        line
        for label, value in rows
        for line in folded(f"{label:<{column}}{value}", indent=" " * column, width=width)
    ]


def cell_width(text: str) -> int:
    """The columns that a text takes: 2 for a wide character, 0 for a combining one."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 key`, `2 keys`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fingerprint_lines(label: str, fingerprint: Fingerprint) -> list[str]:
    """A fingerprint on two lines, so that no terminal wraps it; `label` precedes the first."""
    groups = fingerprint.grouped.split()
    return [f"{label}{' '.join(groups[:8])}", f"{' ' * len(label)}{' '.join(groups[8:])}"]


def comparison_lines(
    labels: tuple[str, str], fingerprints: tuple[str, str], *, indent: str = "  "
) -> list[str]:
    """Two fingerprints (64 digits), one below the other, with the groups that differ marked.

    Each is split into two halves, so that no terminal of 80 columns wraps it.
    """
    width = max(map(len, labels)) + 2
    rows = [in_groups(one).split() for one in fingerprints]
    found = []
    for at in (0, 8):
        halves = [row[at : at + 8] for row in rows]
        for label, half in zip(labels, halves, strict=True):
            found.append(f"{indent}{label:<{width}}{' '.join(half)}")
        pairs = zip(*halves, strict=True)
        marks = " ".join(("^" if one != other else " ") * len(one) for one, other in pairs)
        found.append(f"{indent}{'':<{width}}{marks}".rstrip())
    return [line for line in found if line.strip()]


def allows_colour(stream: TextIO) -> bool:
    """Whether colours may be used: a terminal that is not `dumb`, and no NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()


def _columns(character: str) -> int:
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _widths(rows: Sequence[Sequence[str]], total: int) -> list[int]:
    """The widths of the columns, narrowed to fit a terminal of `total` columns; 0: no terminal."""
    count = max(map(len, rows), default=0)
    widths = [max(cell_width(row[at]) for row in rows if at < len(row)) for at in range(count)]
    room = total - len(_GAP) * (count - 1)
    return _narrowed(rows, widths, room) if total and sum(widths) > room else widths


def _narrowed(rows: Sequence[Sequence[str]], widths: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns until all fit; none below its longest word."""
    words = [
        max(cell_width(word) for row in rows if at < len(row) for word in row[at].split(" "))
        for at in range(len(widths))
    ]
    least = [min(width, max(word, _CELL)) for width, word in zip(widths, words, strict=True)]
    found = list(widths)
    while sum(found) > room:
        able = [at for at, width in enumerate(found) if width > least[at]]
        if not able:
            break
        found[max(able, key=lambda at: found[at])] -= 1
    return found


def _row_lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [folded(cell, width=widths[at]) for at, cell in enumerate(row)] or [[""]]
    return [_aligned(line, widths) for line in zip_longest(*cells, fillvalue="")]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * max(0, widths[at] - cell_width(cell)) for at, cell in enumerate(row))
    return _GAP.join(padded).rstrip()
