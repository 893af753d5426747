"""Ctrl-C while the modules of a command are imported ends it without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peer.terminal.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["handfast", {word!r}]
{start}
"""
STARTS = {
    "handfast": ("client_app.commands.common", "from handfast.__main__ import main; main()"),
    "handfast-device": ("device_app.cli", "from handfast.__main__ import device; device()"),
    "module": (
        "client_app.cli",
        "import runpy; runpy.run_module('client_app', run_name='__main__')",
    ),
}


def started(module: str, start: str, word: str = "--version") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module, start=start, word=word)],
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


@pytest.mark.parametrize(
    ("module", "word", "said"),
    [("client_app.known_devices", "devices", ""), ("iam.store", "status", "interrupted\n")],
    ids=["handfast", "handfast-device"],
)
def test_an_interrupt_while_a_verb_is_imported_ends_it_without_a_traceback(
    module: str, word: str, said: str
) -> None:
    _, start = STARTS["handfast" if word == "devices" else "handfast-device"]
    done = started(module, start, word)
    assert done.returncode == ExitCode.INTERRUPTED
    assert (done.stdout, done.stderr.replace("Aborted!", "").lstrip("\n")) == ("", said)
