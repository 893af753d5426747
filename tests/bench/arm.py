"""Instructions on 64-bit ARM, counted in QEMU's user-mode emulation (see `tests/bench/arm/build`).

The device and the commands run on Debian's Python for ARM, with the same packages as here. Their
number of instructions is that of a real board, apart from what its kernel does.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from tests.bench.harness import OURS, Bench, Series
from tests.bench.instructions import LOOP, MILLION, OPERATIONS, Counter, of_each_operation
from tests.bench.programs import device, surroundings
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.programs import Server

PYTHON: Final = "arm-python"
COUNT_BYTES: Final = 8


class Emulated(Counter):
    """A server in QEMU, whose plugin writes the count to a file."""

    def __init__(self, bench: Bench, server: Server, file: Path) -> None:
        super().__init__(bench, server)
        self._file = file

    def so_far(self) -> int:
        return counted(self._file)


def counted(file: Path) -> int:
    """The instructions so far."""
    return int.from_bytes(file.read_bytes()[:COUNT_BYTES], "little")


def instructions(bench: Bench) -> None:
    """Instructions of a request, a handshake and a start, on 64-bit ARM."""
    file = bench.folder / "count"
    with device(bench, "arm", python=(PYTHON, str(file))) as server:
        found = of_each_operation(bench, Emulated(bench, server, file))
    for key, name, *_ in OPERATIONS:
        add(bench, key, name, found[key])
    bare = whole(file, "-c", "pass")
    add(bench, "loop", f"`{LOOP}`", Series((whole(file, "-c", LOOP) - bare,)))
    add(bench, "python", "`python3 -c pass`", Series((bare,)))
    for word in ("--help", "devices"):
        words = ("-m", "client_app", "--home", str(bench.folder / "nobody"), word)
        add(bench, word.strip("-"), f"`handfast {word}`", Series((whole(file, *words),)))


def add(bench: Bench, key: str, name: str, series: Series) -> None:
    """Keep one row."""
    bench.add_figures(f"arm-{key}", f"{name}: instructions on ARM", "million", {OURS: series})


def whole(file: Path, *words: str) -> float:
    """Millions of instructions of a process from start to end."""
    subprocess.run(
        [PYTHON, str(file), *words],
        env=surroundings(None),
        check=True,
        capture_output=True,
        timeout=2 * TIMEOUT_SECONDS,
    )
    return counted(file) / MILLION
