"""Instructions instead of time: what a slower processor has to do, counted by Valgrind.

`callgrind` counts the instructions of a program on this kind of processor. Their number hardly
depends on the machine and on what else it does, so one run is enough.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.bench.harness import OURS, Bench, Series
from tests.bench.programs import Server, device, generate, libcoap
from tests.bench.start import BARE, installed, outside
from tests.kit.waiting import TIMEOUT_SECONDS, block_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALGRIND: Final = ("valgrind", "--tool=callgrind", "--quiet")
MILLION: Final = 1e6


def totals(folder: Path) -> int:
    """The instructions in all dumps of a folder."""
    found = 0
    for dump in folder.glob("callgrind.out.*"):
        lines = re.findall(r"^totals: (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
        found += sum(map(int, lines))
    return found


class Counter:
    """Counts what a running server does."""

    def __init__(self, bench: Bench, server: Server, folder: Path) -> None:
        self._bench = bench
        self._server = server
        self._folder = folder

    def each(self, mode: str, warm: int, count: int, **settings: object) -> float:
        """Millions of instructions for one operation, without the handshake before requests."""
        if mode == "requests":
            settings = {"path": self._server.path} | settings
        self._run(mode, warm, settings)
        self._control("--instr=on")
        first = self._spent(mode, 1, settings) if mode == "requests" else 0
        spent = self._spent(mode, count, settings)
        self._control("--instr=off")
        return (spent - first) / (count - (mode == "requests")) / MILLION

    def _spent(self, mode: str, count: int, settings: dict[str, object]) -> int:
        """The instructions of one run of the generator."""
        before = totals(self._folder)
        self._run(mode, count, settings)
        self._control("--dump")
        block_until(lambda: totals(self._folder) > before)
        return totals(self._folder) - before

    def _run(self, mode: str, count: int, settings: dict[str, object]) -> None:
        generate(self._bench, self._server, mode, count=count, **settings)

    def _control(self, word: str) -> None:
        argv = ["callgrind_control", word, str(self._server.pid)]
        subprocess.run(argv, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


@contextmanager
def counted(bench: Bench, name: str) -> Iterator[Counter]:
    """A server under Valgrind, which counts nothing yet."""
    folder = bench.folder / f"callgrind-{name}"
    folder.mkdir()
    wrapper = (*VALGRIND, "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind.out.%p")
    start = device if name == OURS else libcoap
    with start(bench, wrapper=wrapper) as server:
        yield Counter(bench, server, folder)


def whole(bench: Bench, name: str, argv: list[str]) -> float:
    """Millions of instructions of a process from start to end."""
    folder = bench.folder / f"callgrind-{name}"
    folder.mkdir()
    wrapper = [*VALGRIND, f"--callgrind-out-file={folder}/callgrind.out.%p"]
    subprocess.run(
        [*wrapper, *argv],
        env=outside(),
        check=True,
        capture_output=True,
        timeout=2 * TIMEOUT_SECONDS,
        cwd="/",
    )
    return totals(folder) / MILLION


def instructions(bench: Bench) -> None:
    """Instructions of a request, a handshake and a start."""
    operations: tuple[tuple[str, str, str, int, dict[str, object]], ...] = (
        ("get-16", "small GET, 16 in progress", "requests", 500, {"window": 16}),
        ("get-1", "small GET, one by one", "requests", 500, {"window": 1}),
        ("block", "a block asked for", "requests", 300, {"window": 4, "block2": 6}),
        ("handshake", "full handshake", "handshakes", 20, {}),
    )
    found: dict[str, dict[str, Series]] = {}
    for name in (OURS, "libcoap"):
        with counted(bench, name) as counter:
            for key, _, mode, usual, settings in operations:
                count = bench.times(usual)
                each = counter.each(mode, min(count, 50), count, **settings)
                found.setdefault(key, {})[name] = Series((each,))
    for key, name, *_ in operations:
        bench.add_figures(f"instructions-{key}", f"{name}: instructions", "million", found[key])
    python, handfast, _ = installed(bench.folder)
    bare = whole(bench, "bare", [python, "-c", "pass"])
    for key, words in (("help", ["--help"]), ("devices", ["devices"])):
        home = ["--home", str(bench.folder / "nobody")]
        own = whole(bench, key, [python, handfast, *home, *words])
        figures = {f"handfast {words[0]}": Series((own,)), BARE: Series((bare,))}
        name = f"`handfast {words[0]}`: instructions"
        bench.add_figures(f"instructions-{key}", name, "million", figures)
