"""Instructions instead of time: what a slower processor has to do, counted by Valgrind.

`callgrind` counts the instructions of a program on this kind of processor. Their number hardly
depends on the machine and on what else it does, so one run is enough.
"""

from __future__ import annotations

import re
import subprocess
from abc import abstractmethod
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
LOOP: Final = "for _ in range(10**6): pass"
"""A program to time on a board, to learn how long a million instructions take there."""


class Counter:
    """Counts what a running server does: the instructions of a run of the generator."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self._bench = bench
        self._server = server

    def begin(self) -> None:
        """Called after the warm-up."""

    @abstractmethod
    def so_far(self) -> int:
        """The instructions that were counted until now."""

    def each(self, mode: str, warm: int, count: int, **settings: object) -> float:
        """Millions of instructions for one operation, without the handshake before requests."""
        if mode == "requests":
            settings = {"path": self._server.path} | settings
        self._spent(mode, warm, settings)
        self.begin()
        first = self._spent(mode, 1, settings) if mode == "requests" else 0
        spent = self._spent(mode, count, settings)
        return (spent - first) / (count - (mode == "requests")) / MILLION

    def _spent(self, mode: str, count: int, settings: dict[str, object]) -> int:
        """The instructions of one run of the generator."""
        before = self.so_far()
        generate(self._bench, self._server, mode, count=count, **settings)
        return self.so_far() - before


class Callgrind(Counter):
    """A server under Valgrind, which is asked for a dump after each run."""

    def __init__(self, bench: Bench, server: Server, folder: Path) -> None:
        super().__init__(bench, server)
        self._folder = folder
        self._dumps = 0

    def begin(self) -> None:
        self._control("--instr=on")

    def so_far(self) -> int:
        self._control("--dump")
        self._dumps += 1
        block_until(lambda: len(list(totals(self._folder))) >= self._dumps)
        return sum(totals(self._folder))

    def _control(self, word: str) -> None:
        argv = ["callgrind_control", word, str(self._server.pid)]
        subprocess.run(argv, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


def totals(folder: Path) -> Iterator[int]:
    """The instructions in each complete dump of a folder."""
    for dump in folder.glob("callgrind.out.*"):
        text = dump.read_text(errors="replace")
        yield from map(int, re.findall(r"^totals: (\d+)\n", text, re.MULTILINE))


@contextmanager
def counted(bench: Bench, name: str) -> Iterator[Counter]:
    """A server under Valgrind, which counts nothing yet."""
    folder = bench.folder / f"callgrind-{name}"
    folder.mkdir()
    wrapper = (*VALGRIND, "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind.out.%p")
    start = device if name == OURS else libcoap
    with start(bench, wrapper=wrapper) as server:
        yield Callgrind(bench, server, folder)


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
    return sum(totals(folder)) / MILLION


OPERATIONS: Final[tuple[tuple[str, str, str, int, dict[str, object]], ...]] = (
    ("get-16", "small GET, 16 in progress", "requests", 500, {"window": 16}),
    ("get-1", "small GET, one by one", "requests", 500, {"window": 1}),
    ("block", "a block asked for", "requests", 300, {"window": 4, "block2": 6}),
    ("handshake", "full handshake", "handshakes", 20, {}),
)


def of_each_operation(bench: Bench, counter: Counter) -> dict[str, Series]:
    """Millions of instructions of each operation."""
    found = {}
    for key, name, mode, usual, settings in OPERATIONS:
        bench.step(name)
        count = bench.times(usual)
        found[key] = Series((counter.each(mode, min(count, 50), count, **settings),))
    return found


def instructions(bench: Bench) -> None:
    """Instructions of a request, a handshake and a start."""
    found = {}
    for name in (OURS, "libcoap"):
        with counted(bench, name) as counter:
            found[name] = of_each_operation(bench, counter)
    for key, name, *_ in OPERATIONS:
        figures = {who: each[key] for who, each in found.items()}
        bench.add_figures(f"instructions-{key}", f"{name}: instructions", "million", figures)
    python, handfast, _ = installed(bench.folder)
    bare = whole(bench, "bare", [python, "-c", "pass"])
    loop = whole(bench, "loop", [python, "-c", LOOP]) - bare
    figures = {OURS: Series((loop,))}
    bench.add_figures("instructions-loop", f"`{LOOP}`: instructions", "million", figures)
    for key, words in (("help", ["--help"]), ("devices", ["devices"])):
        home = ["--home", str(bench.folder / "nobody")]
        own = whole(bench, key, [python, handfast, *home, *words])
        figures = {OURS: Series((own,)), BARE: Series((bare,))}
        name = f"`handfast {words[0]}`: instructions"
        bench.add_figures(f"instructions-{key}", name, "million", figures)
