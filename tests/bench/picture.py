"""The pictures of docs/performance.md: bars with their spread, and curves, as SVG text.

An SVG is plain text, and these need rectangles, lines and words only. So no library draws them.
The colours of the text follow the reader's light or dark theme, and the background is the page's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Final

from tests.bench.harness import OURS, Row, Series, number

COLUMNS: Final = 2
WIDTH: Final = 440  # of a panel
LINE: Final = 21  # the height of a bar with its distance
TITLE: Final = 34
GAP: Final = 22  # between panels
LABELS: Final = 148  # left of the bars
FIGURES: Final = 84  # right of them
PLOT: Final = 150  # the height of a curve
LINEAR_TO: Final = 10  # sizes up to this have a linear axis
STEEP: Final = 50  # the ratio of values from which their axis is logarithmic
ZERO_IS: Final = 3  # 0 is drawn as the smallest other value divided by this
Panel = Callable[[float, float], list[str]]
"""Draws at a place: its left and its top."""
STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.own { fill: #2f81f7; }
.other { fill: #8b949e; }
.spread { stroke: #1f2328; stroke-width: 1.2; }
.grid { stroke: #8b949e; stroke-opacity: 0.35; }
.line { stroke: #2f81f7; stroke-width: 2; fill: none; }
.line-1 { stroke: #8b949e; stroke-width: 2; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9198a1; }
  .spread { stroke: #e6edf3; }
}
"""


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words.replace("`", ""))}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bars(row: Row, x: float, y: float) -> list[str]:
    """One panel: a bar for each candidate, its spread, and its figure."""
    better = "more is better" if row.more_is_better else "less is better"
    parts = [text(x, y + 12, row.name, "title"), text(x, y + 27, f"{row.unit}, {better}", "small")]
    longest = max(series.high for series in row.figures.values())
    room = WIDTH - LABELS - FIGURES
    for index, (name, series) in enumerate(row.figures.items()):
        top = y + TITLE + LINE * index
        middle = top + LINE / 2 - 2
        start, end = x + LABELS, x + LABELS + room * series.median / longest
        low, high = (start + room * value / longest for value in (series.low, series.high))
        kind = "own" if index == 0 or name.startswith(OURS) else "other"
        width = max(1.0, end - start)
        parts.append(text(start - 6, middle + 4, name, "end"))
        parts.append(
            f'<rect x="{start:.1f}" y="{top:.1f}" width="{width:.1f}" height="{LINE - 5}"'
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


def curve(name: str, points: Sequence[Row], x: float, y: float) -> list[str]:
    """One panel: a line for each candidate."""
    left, right, top, bottom = x + 46, x + WIDTH - 24, y + TITLE + 4, y + TITLE + PLOT - 22
    sizes = [row.x or 0.0 for row in points]
    across = Axis(sizes, (left, right), log=max(sizes) > LINEAR_TO)
    values = [one for row in points for series in row.figures.values() for one in series.values]
    is_steep = min(values) > 0 and max(values) > STEEP * min(values)
    lowest = min(values) if is_steep else 0.0
    up = Axis([lowest, max(values)], (bottom, top), log=is_steep)
    unit = points[0].unit + (", logarithmic" if is_steep else "")
    parts = [text(x, y + 12, name, "title"), text(x, y + 27, unit, "small")]
    middle = math.sqrt(lowest * max(values)) if is_steep else max(values) / 2
    for value in (lowest, middle, max(values)):
        parts.append(line(left, up.at(value), right, up.at(value), "grid"))
        label = number(value) if value else "0"
        parts.append(text(left - 6, up.at(value) + 4, label, "small end"))
    parts += [text(across.at(one), bottom + 16, short(one), "small middle") for one in sizes]
    if len(points[0].figures) > 1:
        own, other = points[0].figures
        parts.append(text(right, y + 27, other, "end other"))
        parts.append(text(right - 7 * len(other) - 8, y + 27, own, "end own"))
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
        parts.append(
            f'<circle cx="{x:.1f}" cy="{up.at(series.median):.1f}" r="3"'
            f' class="{"other" if index else "own"}"/>'
        )
    return parts


def short(size: float) -> str:
    """A number on an axis: 1,000, 10k, 64Ki."""
    whole = int(size)
    for step, letter in ((1 << 20, "Mi"), (1 << 10, "Ki"), (1_000_000, "M"), (1_000, "k")):
        if whole and whole % step == 0:
            return f"{whole // step:,}{letter}"
    return f"{whole:,}"


def draw_bars(rows: Sequence[Row], description: str) -> str:
    """A picture of several rows."""
    return _draw([(bars_height(row), partial(bars, row)) for row in rows], description)


def draw_curves(curves: Mapping[str, Sequence[Row]], description: str) -> str:
    """A picture of several curves, by their names."""
    panels = [(TITLE + PLOT, partial(curve, *each)) for each in curves.items()]
    return _draw(panels, description)


def _draw(panels: Sequence[tuple[float, Panel]], description: str) -> str:
    """Place panels in columns, each below the shortest one."""
    heights = [8.0] * COLUMNS
    parts: list[str] = []
    for height, panel in panels:
        column = heights.index(min(heights))
        parts += panel(8 + column * (WIDTH + GAP), heights[column])
        heights[column] += height + GAP
    width, height = COLUMNS * (WIDTH + GAP), max(heights)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}"'
        f' width="{width}" height="{height:.0f}" role="img">'
    )
    body = "\n".join(parts)
    return f"{head}\n<title>{escape(description)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
