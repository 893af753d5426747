"""A run of the measurements: its progress, a group that fails, and an interrupt."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import __main__ as command
from tests.bench import machine, page
from tests.bench.harness import OURS, Bench, Series, process_seconds
from tests.bench.progress import Progress, duration
from tests.kit.process import Program, environment
from tests.kit.waiting import block_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Screen(io.StringIO):
    """A stream that is a terminal, or is none."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def measure_one(bench: Bench) -> None:
    """A group that works."""
    bench.compare({OURS: lambda: 1.0}, bench.rounds)
    bench.add_figures("one", "one thing", "µs", {OURS: Series((1.0,))})


def fail(bench: Bench) -> None:
    """A group that fails after its first row."""
    bench.add_figures("half", "half a thing", "µs", {OURS: Series((1.0,))})
    raise AssertionError("datagrams were lost")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, tmp_path / "none", rounds=2)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made = {
        "one": command.Group(measure_one),
        "failing": command.Group(fail),
        "lacking": command.Group(measure_one, ("no-such-program",)),
        "two": command.Group(measure_one),
    }
    monkeypatch.setattr(command, "GROUPS", made)
    return list(made)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_group_that_fails_does_not_lose_the_results_of_others(
    bench: Bench, groups: list[str], tmp_path: Path, *, is_terminal: bool
) -> None:
    screen, out = Screen(is_terminal=is_terminal), tmp_path / "out"
    progress = Progress(groups, {"one": 20.0, "failing": 100.0, "two": 180.0}, screen)
    bench.step, bench.report = progress.step, progress.report
    assert command.run(bench, groups, progress, out) == ["failing"]
    assert [(row.key, row.group) for row in page.read(out)] == [("one", "one"), ("one", "two")]
    run = page.read_run(out)
    assert run.seconds.keys() == {"one", "two"}
    assert "Python" in run.machine
    shown = screen.getvalue()
    assert "bench: 4 groups, about 7 minutes left\n" in shown
    assert "[1/4] one: 0 s, about 7 minutes left" in shown
    assert "datagrams were lost" in shown
    assert "lacking is left out: it needs no-such-program" in shown
    assert ("[1/4] one: round 2 of 2: handfast" in shown) == is_terminal


@pytest.mark.usefixtures("groups")
def test_a_partial_run_leaves_the_results_of_an_earlier_one(bench: Bench, tmp_path: Path) -> None:
    for names in (["one", "two"], ["two"]):
        bench.rows.clear()
        command.run(bench, names, Progress(names, {}, Screen(is_terminal=False)), tmp_path)
        assert [row.group for row in page.read(tmp_path)] == ["one", "two"]


def test_the_page_keeps_the_rows_of_groups_that_were_not_measured(
    bench: Bench, groups: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, text = tmp_path / "docs", tmp_path / "page.md"
    monkeypatch.setattr(page, "FOLDER", folder)
    monkeypatch.setattr(page, "PAGE", text)
    text.write_text("a\n<!-- written by make bench -->\n<!-- end of the table -->\nb\n")
    measure_one(bench)
    row = bench.rows[0]
    page.write_docs([replace(row, group="one")], page.Run("a board", {"one": 60.0}), groups)
    page.write_docs([replace(row, group="two")], page.Run("", {"two": 90.0}), groups)
    assert [row.group for row in page.read(folder)] == ["one", "two"]
    assert "Measured on a board, in 2 minutes.\n\n| what |" in text.read_text()
    assert json.loads((folder / page.RUN).read_text())["seconds"] == {"one": 60.0, "two": 90.0}


@pytest.mark.usefixtures("groups")
def test_the_page_names_the_groups_of_a_busy_machine(
    bench: Bench, groups: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FOLDER", tmp_path / "docs")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text("<!-- written by make bench -->\n<!-- end of the table -->\n")
    out = tmp_path / "out"

    def measure(load: float, *names: str) -> str:
        monkeypatch.setattr(machine, "load", lambda: load)
        bench.rows.clear()
        command.run(bench, names, Progress(names, {}, Screen(is_terminal=False)), out)
        page.write_docs(page.read(out), page.read_run(out), groups)
        return page.PAGE.read_text()

    assert "\nThe rows of `one`, `two` were measured while" in measure(100.0, "one", "two")
    assert "\nThe rows of `two` were measured while" in measure(0.5, "one")
    assert "busy" not in measure(0.5, "two")


def test_durations_are_readable() -> None:
    shown = [duration(one) for one in (0.4, 119, 120, 360)]
    assert shown == [
        "0 s",
        "119 s",
        "2 minutes",
        "6 minutes",
    ]


def below(folder: Path) -> Iterator[str]:
    """The command lines of running processes that name a folder."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in words:
            yield words


@pytest.mark.slow
@pytest.mark.needs_tool(command.GENERATOR)
def test_an_interrupted_run_leaves_no_process_and_no_part_of_a_file(tmp_path: Path) -> None:
    """SIGTERM and SIGHUP raise what Ctrl-C does."""
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    argv = [sys.executable, "-m", "tests.bench", "live", "--rounds", "100000", "--share", "0.001"]
    run = Program([*argv, "--out", str(out)], environment() | {"TMPDIR": str(scratch)})
    try:
        block_until(lambda: any("coap-load" in one for one in below(scratch)))
        run.send(signal.SIGTERM)
        result = run.end(code=command.INTERRUPTED)
    finally:
        run.close()
    assert "bench: interrupted; measured until then: none" in result.err
    assert list(below(scratch)) == []
    assert list(scratch.iterdir()) == []
    assert not out.exists()


def test_a_process_that_is_measured_ends_with_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def wait(process: subprocess.Popen[bytes], **_keywords: object) -> int:
        started.append(process.pid)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        process_seconds([shutil.which("sleep") or "", "1000"])
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], 0)
