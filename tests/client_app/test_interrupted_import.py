"""Ctrl-C while the modules of a command are imported ends it without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["handfast", "--version"]
{start}
"""
STARTS = {
    "handfast": ("client_app.terminal.render", "from handfast.__main__ import main; main()"),
    "handfast-device": ("device_app.cli", "from handfast.__main__ import device; device()"),
    "module": (
        "client_app.cli",
        "import runpy; runpy.run_module('client_app', run_name='__main__')",
    ),
}


def started(module: str, start: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module, start=start)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize(("module", "start"), STARTS.values(), ids=STARTS)
def test_an_interrupt_during_the_imports_ends_silently(module: str, start: str) -> None:
    done = started(module, start)
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("module", "start"), STARTS.values(), ids=STARTS)
def test_without_an_interrupt_the_command_runs(module: str, start: str) -> None:
    del module
    done = started("no.such.module", start)
    assert done.returncode == 0
    assert "handfast" in done.stdout + done.stderr
