"""Layout of printed results: tables, counts, fingerprints, colour."""

import os
from collections.abc import Iterable, Sequence
from typing import TextIO

from peer.digit_groups import in_groups
from peer.identity import Fingerprint
from peer.terminal.text import on_one_line


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Escape cells and align columns; rows may differ in length."""
    escaped = [[on_one_line(cell) for cell in row] for row in rows]
    count = max(map(len, escaped), default=0)
    widths = [max(len(row[at]) for row in escaped if at < len(row)) for at in range(count)]
    return [
        "  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in escaped
    ]


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
