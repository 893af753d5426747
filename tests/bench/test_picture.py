"""The pictures of docs/performance.md can be read: contrast, sizes, and shapes beside colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.bench import picture
from tests.bench.harness import OURS, Row, Series

if TYPE_CHECKING:
    from collections.abc import Mapping

ROW = Row("a", "a thing: CPU", "µs", {OURS: Series((2.0, 3.0)), "libcoap": Series((1.0, 1.5))})
POINTS = [Row("b", "b", "µs", ROW.figures, x=at) for at in (0, 10, 1000)]
NARROW_SCREEN = 360


def luminance(colour: str) -> float:
    """The relative luminance of a colour (WCAG 2.2)."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(by * one for by, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", picture.THEMES, ids=("light", "dark"))
def test_text_and_shapes_have_enough_contrast(theme: Mapping[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for kind in ("text", "small"):
        assert contrast(theme[kind], theme["paper"]) >= 4.5, kind
    for kind in ("own", "other"):
        assert contrast(theme[kind], theme["paper"]) >= 3, kind
        assert contrast(theme["text"], theme[kind]) >= 3, f"the spread on a bar of {kind}"


@pytest.mark.parametrize("narrow", [False, True])
def test_a_picture_has_its_own_background_and_no_small_text(*, narrow: bool) -> None:
    for text in (
        picture.draw_bars([ROW] * 3, "bars", narrow=narrow),
        picture.draw_curves({"one": POINTS, "two": POINTS}, "curves", narrow=narrow),
    ):
        root = ElementTree.fromstring(text)
        first = root.find("{*}rect")
        assert first is not None
        assert first.get("class") == "paper"
        assert first.get("width") == root.get("width")
        assert "prefers-color-scheme: dark" in text
        assert min(map(int, re.findall(r"(\d+)px", text))) >= 12
        assert (float(root.get("width") or 0) <= NARROW_SCREEN) == narrow


def test_lines_of_a_curve_differ_by_more_than_their_colour() -> None:
    root = ElementTree.fromstring(picture.draw_curves({"one": POINTS}, "curves"))
    own = root.findall(".//{*}circle")
    other = [one for one in root.findall(".//{*}rect") if one.get("class") == "other"]
    assert len(own) == len(other) == len(POINTS) + 1, "each point, and one in the legend"
    assert ".line-1 { stroke-dasharray" in picture.STYLE


@pytest.mark.parametrize(
    ("values", "log", "wanted"),
    [
        ((0.3, 0.82), False, [0, 0.5, 1]),
        ((6.5, 6.82), False, [0, 4, 8]),
        ((107.0,), False, [0, 60, 120]),
        ((1_000.0,), False, [0, 500, 1_000]),
        ((0.0,), False, [0, 0.5, 1]),
        ((3.0, 40_000.0), True, [1, 1_000, 100_000]),
    ],
)
def test_an_axis_has_round_numbers_and_holds_all_values(
    values: tuple[float, ...], *, log: bool, wanted: list[float]
) -> None:
    assert picture.ticks(values, log=log) == wanted
