"""The pictures of docs/performance.md: bars with their spread, and curves, as SVG text.

An SVG is plain text, and these need rectangles, lines and words only. So no library draws them.
The colours follow the reader's light or dark theme, with a background of their own: a page may have
another theme than the browser. Text has a contrast of 4.5:1 and shapes one of 3:1 at least, and no
difference is told by its colour alone. On a narrow screen, the page shows pictures of one column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Final

from tests.bench.harness import OURS, Row, Series, number

WIDTH: Final = 400  # of a panel; in a narrow picture, the screen is hardly wider
NARROW: Final = 336
MARGIN: Final = 12
LINE: Final = 22  # the height of a bar with its distance
TITLE: Final = 38
GAP: Final = 24  # between panels
LABELS: Final = 152  # left of the bars
FIGURES: Final = 66  # right of them
PLOT: Final = 150  # the height of a curve
LINEAR_TO: Final = 10  # sizes up to this have a linear axis
STEEP: Final = 50  # the ratio of values from which their axis is logarithmic
ZERO_IS: Final = 3  # 0 is drawn as the smallest other value divided by this
Panel = Callable[[float, float, float], list[str]]
"""Draws at a place: its left, its top and its width."""
#: Colours of the light and of the dark theme.
THEMES: Final = (
    {
        "paper": "#ffffff",
        "text": "#1f2328",
        "small": "#59636e",
        "own": "#0969da",
        "other": "#6e7781",
    },
    {
        "paper": "#0d1117",
        "text": "#e6edf3",
        "small": "#9198a1",
        "own": "#2f81f7",
        "other": "#6e7781",
    },
)
SHAPES: Final = """
text { font: 13px system-ui, sans-serif; }
.title { font-weight: 600; }
.small { font-size: 12px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.spread { stroke-width: 1.2; }
.grid { stroke-opacity: 0.35; }
.line, .line-1 { stroke-width: 2; fill: none; }
.line-1 { stroke-dasharray: 6 4; }
"""


def colours(theme: Mapping[str, str]) -> str:
    """The rules of one theme."""
    return (
        f".paper {{ fill: {theme['paper']}; }}\n"
        f"text {{ fill: {theme['text']}; }}\n"
        f".small {{ fill: {theme['small']}; }}\n"
        f".own {{ fill: {theme['own']}; }}\n"
        f".other {{ fill: {theme['other']}; }}\n"
        f".spread {{ stroke: {theme['text']}; }}\n"
        f".grid {{ stroke: {theme['other']}; }}\n"
        f".line {{ stroke: {theme['own']}; }}\n"
        f".line-1 {{ stroke: {theme['other']}; }}\n"
    )


STYLE: Final = (
    f"{SHAPES}{colours(THEMES[0])}@media (prefers-color-scheme: dark) {{\n{colours(THEMES[1])}}}\n"
)


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words.replace("`", ""))}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bars(row: Row, x: float, y: float, width: float) -> list[str]:
    """One panel: a bar for each candidate, its spread, and its figure."""
    better = "more is better" if row.more_is_better else "less is better"
    name, _, figure = row.name.partition(": ")
    what = ", ".join(filter(None, (figure, row.unit, better)))
    parts = [text(x, y + 13, name, "title"), text(x, y + 29, what, "small")]
    longest = max(series.high for series in row.figures.values())
    room = width - LABELS - FIGURES
    for index, (name, series) in enumerate(row.figures.items()):
        top = y + TITLE + LINE * index
        middle = top + LINE / 2 - 2
        start, end = x + LABELS, x + LABELS + room * series.median / longest
        low, high = (start + room * value / longest for value in (series.low, series.high))
        kind = "own" if index == 0 or name.startswith(OURS) else "other"
        length = max(1.0, end - start)
        parts.append(text(start - 6, middle + 4, name, "end"))
        parts.append(
            f'<rect x="{start:.1f}" y="{top:.1f}" width="{length:.1f}" height="{LINE - 5}"'
            f' rx="2" class="{kind}"/>'
        )
        if high - low > 1:
            parts.append(line(low, middle, high, middle, "spread"))
            parts += [line(at, middle - 4, at, middle + 4, "spread") for at in (low, high)]
        parts.append(text(max(end, high) + 6, middle + 4, number(series.median)))
    return parts


def bars_height(row: Row) -> float:
    """The height of a panel of bars."""
    return TITLE + LINE * len(row.figures)


class Axis:
    """Maps values to places between two ends: linear, or logarithmic with a place for 0."""

    def __init__(self, values: Sequence[float], ends: tuple[float, float], *, log: bool) -> None:
        self._log = log
        self._positive = min((value for value in values if value > 0), default=1.0)
        places = [self._place(value) for value in values]
        self._low = min(places) if log else 0.0
        self._reach = (max(places) - self._low) or 1.0
        self._ends = ends

    def _place(self, value: float) -> float:
        if not self._log:
            return value
        return math.log10(value if value > 0 else self._positive / ZERO_IS)

    def at(self, value: float) -> float:
        """The place of a value."""
        first, last = self._ends
        return first + (last - first) * (self._place(value) - self._low) / self._reach


def ticks(values: Sequence[float], *, log: bool) -> list[float]:
    """Three round values of an axis that holds all values: from 0, or from a power of ten."""
    highest = max(values)
    if log:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(highest))
        return [10.0**at for at in (low, high - (high - low) // 2, high)]
    unit = 10.0 ** math.floor(math.log10(highest or 1.0))
    top = next(one * unit for one in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if one * unit >= highest)
    return [0.0, top / 2, top]


def legend(names: Sequence[str], right: float, y: float) -> list[str]:
    """The names of two lines, each after a piece of its line with its mark."""
    parts: list[str] = []
    for index, name in reversed(list(enumerate(names))):
        left = right - 6.5 * len(name)
        kind = "line-1" if index else "line"
        parts += [text(right, y, name, "small end"), line(left - 34, y - 4, left - 6, y - 4, kind)]
        parts.append(mark(left - 20, y - 4, index))
        right = left - 44
    return parts


def mark(x: float, y: float, index: int) -> str:
    """A point of a line: a circle for the first candidate, a square for the other one."""
    if index:
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" class="other"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="own"/>'


def curve(name: str, points: Sequence[Row], x: float, y: float, width: float) -> list[str]:
    """One panel: a line for each candidate."""
    left, right, top, bottom = x + 56, x + width - 16, y + TITLE + 6, y + TITLE + PLOT - 22
    sizes = [row.x or 0.0 for row in points]
    across = Axis(sizes, (left, right), log=max(sizes) > LINEAR_TO)
    values = [one for row in points for series in row.figures.values() for one in series.values]
    is_steep = min(values) > 0 and max(values) > STEEP * min(values)
    rounded = ticks(values, log=is_steep)
    up = Axis([rounded[0], rounded[-1]], (bottom, top), log=is_steep)
    unit = points[0].unit + (", logarithmic" if is_steep else "")
    parts = [text(x, y + 13, name, "title"), text(x, y + 29, unit, "small")]
    for value in rounded:
        parts.append(line(left, up.at(value), right, up.at(value), "grid"))
        parts.append(text(left - 8, up.at(value) + 4, f"{value:,.10g}", "small end"))
    parts += [text(across.at(one), bottom + 16, short(one), "small middle") for one in sizes]
    if len(points[0].figures) > 1:
        parts += legend(list(points[0].figures), right, y + 29)
    for index, candidate in reversed(list(enumerate(points[0].figures))):
        series = [(across.at(row.x or 0.0), row.figures[candidate]) for row in points]
        parts += _line(series, up, index)
    return parts


def _line(points: Sequence[tuple[float, Series]], up: Axis, index: int) -> list[str]:
    """One line of a curve, with the spread at each point."""
    path = " ".join(f"{x:.1f},{up.at(series.median):.1f}" for x, series in points)
    parts = [f'<polyline points="{path}" class="{"line-1" if index else "line"}"/>']
    for x, series in points:
        parts.append(line(x, up.at(series.low), x, up.at(series.high), "spread"))
        parts.append(mark(x, up.at(series.median), index))
    return parts


def short(size: float) -> str:
    """A number on an axis: 1,000, 10k, 64Ki."""
    whole = int(size)
    for step, letter in ((1 << 20, "Mi"), (1 << 10, "Ki"), (1_000_000, "M"), (1_000, "k")):
        if whole and whole % step == 0:
            return f"{whole // step:,}{letter}"
    return f"{whole:,}"


def draw_bars(rows: Sequence[Row], description: str, *, narrow: bool = False) -> str:
    """A picture of several rows, in two columns or, on a narrow screen, in one."""
    panels: list[tuple[float, Panel]] = [(bars_height(row), partial(bars, row)) for row in rows]
    return _draw(panels, description, narrow=narrow)


def draw_curves(
    curves: Mapping[str, Sequence[Row]], description: str, *, narrow: bool = False
) -> str:
    """A picture of several curves, by their names, in two columns or in one."""
    panels: list[tuple[float, Panel]] = [
        (TITLE + PLOT, partial(curve, *each)) for each in curves.items()
    ]
    return _draw(panels, description, narrow=narrow)


def _draw(panels: Sequence[tuple[float, Panel]], description: str, *, narrow: bool) -> str:
    """Place panels in columns, each below the shortest one."""
    columns, each = (1, NARROW) if narrow else (2, WIDTH)
    heights = [float(MARGIN)] * columns
    parts: list[str] = []
    for height, panel in panels:
        column = heights.index(min(heights))
        parts += panel(MARGIN + column * (each + GAP), heights[column], each)
        heights[column] += height + GAP
    width, height = columns * (each + GAP) - GAP + 2 * MARGIN, max(heights) - GAP + MARGIN
    parts.insert(0, f'<rect width="{width}" height="{height:.0f}" rx="6" class="paper"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}"'
        f' width="{width}" height="{height:.0f}" role="img">'
    )
    body = "\n".join(parts)
    return f"{head}\n<title>{escape(description)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
