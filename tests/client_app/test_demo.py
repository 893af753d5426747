"""`handfast demo` runs to its end without input and cleans up after itself."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.waiting import block_until

ROOT = Path(__file__).resolve().parents[2]


def start(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "client_app", "demo"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HANDFAST_HOME": "x"},
        cwd=tmp_path,
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
def test_the_demo_pairs_calls_denies_and_revokes(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, out + err
    assert err == ""
    commands = re.findall(r"^\$ (.*)$", out, re.MULTILINE)
    order = [" init", " run", " open", " discover", " --code ", "anna get", "anna observe"]
    order += [" invite ", "mia get", "users kitchen", " export | ", "eve get", " events "]
    order += ["mia observe", "remove mia"]
    places = [next(n for n, line in enumerate(commands) if word in line) for word in order]
    assert places == sorted(places)
    assert "paired with kitchen as user anna, role owner" in out
    assert "paired with kitchen as user mia, role guest" in out
    assert "You lack the right Iam:ListUsers." in out
    assert re.search(r"denied  user=mia .*action=Iam:ListUsers", out)
    assert "?" not in out.replace("handfast pair?", "")  # no one is asked anything
    assert out.count("(exit 10)") == 2
    assert out.count("(exit 7)") == 1
    [code] = set(re.findall(r"[0-9]{4}-[0-9]{4}", out.partition("discover")[0]))
    assert f"--code {code}" in out
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


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
