"""Measuring what belongs together in turn, and its medians and spread.

A shared machine is never as fast twice. So the candidates of a comparison are measured one after
another, in several rounds, and a ratio is the median of the ratios of each round. The figure to
trust is the CPU time of the server per operation, from `/proc/PID/task/*/schedstat`.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from tests.kit.waiting import TIMEOUT_SECONDS

T = TypeVar("T")
OURS: Final = "handfast"
BASE: Final = "base"  # the device of another checkout


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one candidate, one for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: Series) -> Series:
        """The ratio to another candidate, round by round."""
        pairs = zip(self.values, other.values, strict=True)
        return Series(tuple(one / that if that else float("inf") for one, that in pairs))

    def __str__(self) -> str:
        """The median, and the least and the greatest value if they differ."""
        if number(self.low) == number(self.high):
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


def number(value: float) -> str:
    """A value with two or three digits that matter, and commas between thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    if 0 < value < 0.1:
        return f"{value:.2g}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the results: one figure of each candidate.

    Attributes:
        key: a name for the JSON.
        name: what was measured, for people.
        unit: the unit of the figures.
        figures: the values of each candidate; the first is the one that is compared.
        more_is_better: a rate; otherwise a cost.
        x: the place on the curve `key`, if the row is a point of one.
        group: the group of measurements that it belongs to.
    """

    key: str
    name: str
    unit: str
    figures: Mapping[str, Series]
    more_is_better: bool = False
    x: float | None = None
    group: str = ""

    @property
    def ratios(self) -> dict[str, Series]:
        """The first candidate over each of the others."""
        first, *others = self.figures
        return {one: self.figures[first].over(self.figures[one]) for one in others}

    def as_json(self) -> dict[str, object]:
        """Everything, with the values of each round."""
        return {
            "key": self.key,
            "name": self.name,
            "unit": self.unit,
            "more_is_better": self.more_is_better,
            "x": self.x,
            "group": self.group,
            "figures": {one: list(series.values) for one, series in self.figures.items()},
            "medians": {one: series.median for one, series in self.figures.items()},
            "ratios": {one: series.median for one, series in self.ratios.items()},
        }

    def line(self) -> str:
        """One line of text."""
        figures = ", ".join(f"{one} {series}" for one, series in self.figures.items())
        ratios = ", ".join(f"{number(ratio.median)} × {one}" for one, ratio in self.ratios.items())
        place = "" if self.x is None else f" at {self.x:,.0f}"
        return f"{self.name}{place} [{self.unit}]: {figures}" + (f": {ratios}" if ratios else "")


def process_seconds(
    argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> float:
    """Seconds of a process from start to end; it has to succeed.

    With a timeout, `subprocess` looks for the end every 50 ms only. So a timer kills instead.
    """
    begin = time.perf_counter()
    with subprocess.Popen(
        argv, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        guard = threading.Timer(TIMEOUT_SECONDS, process.kill)
        guard.start()
        try:
            code = process.wait()
            taken = time.perf_counter() - begin
        except BaseException:  # Ctrl-C: `Popen` would leave the process running
            process.kill()
            raise
        finally:
            guard.cancel()
    assert code == 0, f"exit code {code}: {' '.join(argv)}"
    return taken


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, with all its threads."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Bench:
    """The arguments of a measurement: where to write, how much to do, and where results go.

    Attributes:
        folder: for the files of one run.
        generator: the compiled load generator.
        rounds: how often each candidate is measured.
        share: the part of the usual number of operations; a test of the measurements themselves
            takes a very small one.
        base: another checkout of this project with a `.venv`, as a further candidate.
        may_repeat: whether a request may be sent again, because its server was held up: in a test
            of the measurements, but not in a measurement.
        rows: the results so far.
        report: called with each result as a line of text.
        step: called with what is measured next.
    """

    folder: Path
    generator: Path
    rounds: int = 5
    share: float = 1.0
    base: Path | None = None
    may_repeat: bool = False
    rows: list[Row] = field(default_factory=list)
    report: Callable[[str], object] = print
    step: Callable[[str], object] = lambda _what: None

    def times(self, usual: int) -> int:
        """How many operations to do."""
        return max(2, int(usual * self.share))

    def interleaved(
        self, candidates: Mapping[str, Callable[[], T]], rounds: int
    ) -> dict[str, tuple[T, ...]]:
        """Measure each candidate once a round; return the results by candidate."""
        found: dict[str, list[T]] = {name: [] for name in candidates}
        for number in range(rounds):
            for name, measure in candidates.items():
                self.step(f"round {number + 1} of {rounds}: {name}")
                found[name].append(measure())
        return {name: tuple(results) for name, results in found.items()}

    def compare(
        self, candidates: Mapping[str, Callable[[], float]], rounds: int
    ) -> dict[str, Series]:
        """Measure one figure of each candidate, in turn."""
        results = self.interleaved(candidates, rounds)
        return {name: Series(values) for name, values in results.items()}

    def add(self, row: Row) -> None:
        """Keep a row, and report it."""
        self.rows.append(row)
        self.report(row.line())

    def add_figures(
        self, key: str, name: str, unit: str, figures: Mapping[str, Series], *, rate: bool = False
    ) -> None:
        """Keep a row of figures that were measured in turn."""
        self.add(Row(key, name, unit, figures, more_is_better=rate))

    def curve(self, key: str) -> Iterator[Row]:
        """The points of a curve."""
        return (row for row in self.rows if row.key == key and row.x is not None)


def picked(results: Mapping[str, tuple[T, ...]], figure: Callable[[T], float]) -> dict[str, Series]:
    """One figure of each result, by candidate."""
    return {name: Series(tuple(map(figure, each))) for name, each in results.items()}
