"""The files of a run: the results as JSON, the table and the pictures of docs/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.bench.goals import verdicts
from tests.bench.harness import BASE, OURS, Row, Series
from tests.bench.picture import draw_bars, draw_curves
from tests.bench.progress import duration
from tests.kit.process import ROOT

DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "performance.md"
FOLDER: Final = DOCS / "performance"
RESULTS: Final = "results.json"
RUN: Final = "run.json"
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
    "curve-events-change": "a user added durably, by events",
    "curve-payload": "a GET, by bytes of its body",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The machine and the duration of a run.

    Attributes:
        machine: the machine and the versions of what was compared.
        seconds: the time of each group when it was last measured.
        busy: the groups that began while other programs kept the machine busy.
    """

    machine: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    busy: Sequence[str] = ()


def from_json(value: Mapping[str, Any]) -> Row:
    """A row as `Row.as_json` writes it."""
    figures = {one: Series(tuple(values)) for one, values in value["figures"].items()}
    more = bool(value["more_is_better"])
    name, unit, x, group = (value[key] for key in ("name", "unit", "x", "group"))
    return Row(value["key"], name, unit, figures, more, x, group)


def merged(old: Sequence[Row], new: Sequence[Row], groups: Sequence[str]) -> list[Row]:
    """All new rows, and those of the old ones whose group was not measured again, by groups."""
    renewed = {row.group for row in new}
    kept = [row for row in old if row.group not in renewed]
    return sorted((*kept, *new), key=lambda row: groups.index(row.group))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table in Markdown: one for each pair that is compared.

    A goal is shown in the line of the candidate of which it is a multiple, or else in the first.
    """
    yield "| what | figure | compared with | ratio | goal | met |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        if row.x is not None:
            continue
        (first, series), *_ = row.figures.items()
        own = f"{series}" if first == OURS else f"{first}: {series}"
        others = [one for one in row.ratios if one != BASE] or [""]
        for index, other in enumerate(others):
            name, figure = (row.name, f"{own} {row.unit}") if index == 0 else ("", "")
            pair = f"{other}: {row.figures[other]} | {row.ratios[other]}" if other else "|"
            goals = [
                each
                for each in verdicts(row)
                if each[0].beside == other or (index == 0 and each[0].beside not in others)
            ]
            aim = "; ".join(goal.text for goal, _ in goals)
            met = "; ".join(verdict for _, verdict in goals)
            yield re.sub(" +", " ", f"| {name} | {figure} | {pair} | {aim} | {met} |")


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write JSON, table and pictures to a folder."""
    lines = ",\n".join(json.dumps(as_json(row), ensure_ascii=False) for row in rows)
    replace_file(folder / RESULTS, f"[\n{lines}\n]\n")
    replace_file(folder / "table.md", "\n".join([*table(rows), ""]))
    by_key = {row.key: row for row in rows}
    shown = [by_key[key] for key in SHOWN if key in by_key]
    for name, narrow in (("", False), ("-narrow", True)) if shown else ():
        own = [without_base(row) for row in shown]
        picture = draw_bars(own, "Costs and rates of handfast", narrow=narrow)
        replace_file(folder / f"costs{name}.svg", picture)
    curves = {
        name: [row for row in rows if row.key == key]
        for key, name in CURVES.items()
        if key in by_key
    }
    for name, narrow in (("", False), ("-narrow", True)) if curves else ():
        picture = draw_curves(curves, "Costs of handfast as things grow", narrow=narrow)
        replace_file(folder / f"growth{name}.svg", picture)


def as_json(row: Row) -> dict[str, object]:
    """A row with its goals."""
    goals = [{"goal": goal.text, "met": verdict} for goal, verdict in verdicts(row)]
    return row.as_json() | {"goals": goals}


def replace_file(file: Path, text: str) -> None:
    """Write a file, which is never seen half-written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def without_base(row: Row) -> Row:
    """The row without the other checkout."""
    figures = {one: series for one, series in row.figures.items() if one != BASE}
    return replace(row, figures=figures)


def read(folder: Path) -> list[Row]:
    """The rows of the last run, if there was one."""
    file = folder / RESULTS
    if not file.exists():
        return []
    return [from_json(one) for one in json.loads(file.read_text(encoding="utf-8"))]


def read_run(folder: Path) -> Run:
    """The machine and the duration of a run, if they are known."""
    file = folder / RUN
    return Run(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else Run()


def write_run(folder: Path, run: Run) -> None:
    """Note where and how long was measured."""
    replace_file(folder / RUN, json.dumps(asdict(run), indent=1, ensure_ascii=False) + "\n")


def write_docs(rows: Sequence[Row], run: Run, groups: Sequence[str]) -> None:
    """Write the pictures, the JSON and the table of docs/performance.md.

    Groups that were not measured keep their rows there.
    """
    known = read_run(FOLDER)
    busy = {*known.busy} - {row.group for row in rows} | {*run.busy}
    run = Run(
        run.machine or known.machine,
        {**known.seconds, **run.seconds},
        [name for name in groups if name in busy],
    )
    own = merged(read(FOLDER), [without_base(row) for row in rows], groups)
    write(FOLDER, own)
    write_run(FOLDER, run)
    (FOLDER / "table.md").unlink()
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- written by make bench -->", "<!-- end of the table -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    assert pattern.search(page), f"{PAGE} has no {begin}"
    lines = "\n".join((begin, *results(own, run), "", end))
    replace_file(PAGE, pattern.sub(lambda _found: lines, page))


def results(rows: Sequence[Row], run: Run) -> Iterator[str]:
    """The lines of the page that a run writes: where it was measured, and the table."""
    if run.machine:
        is_complete = run.seconds.keys() >= {row.group for row in rows}
        took = f", in {duration(sum(run.seconds.values()))}" if is_complete else ""
        yield f"Measured on {run.machine}{took}."
        if run.busy:
            names = ", ".join(f"`{name}`" for name in run.busy)
            yield f"The rows of {names} were measured while other programs kept the machine busy."
        yield ""
    yield from table(rows)
