"""`handfast demo` runs to its end without input and cleans up after itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.waiting import block_until

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *path: Path) -> subprocess.Popen[str]:
    """Start the demonstration in a folder; `path` comes first on the import path."""
    places = os.pathsep.join(map(str, (*path, ROOT)))
    return subprocess.Popen(
        [sys.executable, "-m", "client_app", "demo"],
        env={**os.environ, "PYTHONPATH": places, "TMPDIR": str(folder), "HANDFAST_HOME": "x"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_below(folder: Path) -> list[str]:
    """The command lines of the processes that still run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_without_pycryptodome_the_demo_says_so_and_pairs_by_the_label(tmp_path: Path) -> None:
    """tests/handfast/test_installed.py runs it with pycryptodome."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['Crypto'] = None\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with start(scratch, tmp_path) as demo:
        out, err = demo.communicate(timeout=110)
    assert (demo.returncode, err) == (0, ""), out + err
    reason = "pycryptodome is not installed; install pycryptodome 4 or newer"
    assert f"The method code is not offered: {reason}." in out
    assert f"The code cannot be used here: {reason}." in out
    assert "paired with kitchen as user anna, role owner" in out
    assert "method label: the label proved the device's key" in out
    assert "End of the demonstration" in out
    assert list(scratch.iterdir()) == []
    assert processes_below(scratch) == []


@pytest.mark.slow
def test_an_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.strip() == "ready":
                break
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    block_until(lambda: not processes_below(tmp_path))
