"""What a run writes: the results as JSON, the table and the pictures of docs/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.harness import OURS, Row, Series, number
from tests.bench.picture import draw_bars, draw_curves
from tests.kit.process import ROOT

DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "performance.md"
FOLDER: Final = DOCS / "performance"
RESULTS: Final = "results.json"
#: The rows in the picture of bars.
SHOWN: Final = (
    "get-16-cpu",
    "get-1-cpu",
    "get-16-rate",
    "get-1-rate",
    "client-rate",
    "notify",
    "handshake-cpu",
    "hello-cpu",
    "block2-rate",
    "session-memory",
    "reload-stall",
    "pairing",
)
#: The curves in the other picture.
CURVES: Final[Mapping[str, str]] = {
    "live-handshake": "a handshake, by live sessions",
    "live-get": "a small GET, by live sessions",
    "rounds-memory": "resident memory, by rounds of 500 sessions",
    "curve-users-start": "start of the daemon, by users",
    "curve-users-memory": "resident memory, by users",
    "curve-users-status": "`status`, by users",
    "curve-policies": "a decision with four conditions, by policies",
    "curve-reload": "longest wait during a reload, by policies",
    "curve-events-start": "start of the daemon, by events",
    "curve-payload": "a GET, by bytes of its body",
}
BASE: Final = "base"


def from_json(value: Mapping[str, Any]) -> Row:
    """A row as `Row.as_json` writes it."""
    figures = {one: Series(tuple(values)) for one, values in value["figures"].items()}
    more = bool(value["more_is_better"])
    return Row(value["key"], value["name"], value["unit"], figures, more, value["x"])


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows in the places of the old ones of the same keys, and the others."""
    keys = list(dict.fromkeys(row.key for row in (*old, *new)))
    renewed = {row.key for row in new}
    return [row for key in keys for row in (new if key in renewed else old) if row.key == key]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table in Markdown: one for each pair that is compared."""
    yield "| what | figure | compared with | ratio |"
    yield "|---|---|---|---|"
    for row in rows:
        if row.x is not None:
            continue
        (first, series), *_ = row.figures.items()
        own = f"{series}" if first == OURS else f"{first}: {series}"
        others = [one for one in row.ratios if one != BASE]
        if not others:
            yield f"| {row.name} | {own} {row.unit} | | |"
        for index, other in enumerate(others):
            name, figure = (row.name, f"{own} {row.unit}") if index == 0 else ("", "")
            against = f"{other}: {row.figures[other]}"
            yield f"| {name} | {figure} | {against} | {number(row.ratios[other].median)} |"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write JSON, table and pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row.as_json(), ensure_ascii=False) for row in rows)
    (folder / RESULTS).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (folder / "table.md").write_text("\n".join([*table(rows), ""]), encoding="utf-8")
    by_key = {row.key: row for row in rows}
    shown = [by_key[key] for key in SHOWN if key in by_key]
    if shown:
        picture = draw_bars([without_base(row) for row in shown], "Costs and rates of handfast")
        (folder / "costs.svg").write_text(picture, encoding="utf-8")
    curves = {
        name: [row for row in rows if row.key == key]
        for key, name in CURVES.items()
        if key in by_key
    }
    if curves:
        picture = draw_curves(curves, "Costs of handfast as things grow")
        (folder / "growth.svg").write_text(picture, encoding="utf-8")


def without_base(row: Row) -> Row:
    """The row without the other checkout."""
    figures = {one: series for one, series in row.figures.items() if one != BASE}
    return Row(row.key, row.name, row.unit, figures, row.more_is_better, row.x)


def read(folder: Path) -> list[Row]:
    """The rows of the last run, if there was one."""
    file = folder / RESULTS
    if not file.exists():
        return []
    return [from_json(one) for one in json.loads(file.read_text(encoding="utf-8"))]


def write_docs(rows: Sequence[Row]) -> None:
    """Write the pictures, the JSON and the table of docs/performance.md."""
    own = [without_base(row) for row in rows]
    write(FOLDER, own)
    (FOLDER / "table.md").unlink()
    page = PAGE.read_text(encoding="utf-8")
    lines = "\n".join(table(own))
    begin, end = "<!-- written by make bench -->", "<!-- end of the table -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    assert pattern.search(page), f"{PAGE} has no {begin}"
    changed = pattern.sub(lambda _found: f"{begin}\n{lines}\n\n{end}", page)
    PAGE.write_text(changed, encoding="utf-8")
