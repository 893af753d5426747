"""The type stubs of aiocoap match the installed aiocoap."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

EXCEPTIONS = r"""
aiocoap\.optiontypes\.BlockOption\.BlockwiseTuple\.__doc__   # a NamedTuple in the stub
aiocoap\.protocol\.BlockwiseRequest\.response   # aiocoap has its documentation there
aiocoap\.protocol\.Context\._render_to_pipe   # a coroutine function; any awaitable is enough
aiocoap\..*\.render_to_pipe   # the argument has two names; aiocoap passes it by position
"""


def stubtest(stubs: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    allowed = tmp_path / "allowed"
    allowed.write_text(EXCEPTIONS)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy.stubtest",
            "aiocoap",
            "--ignore-missing-stub",
            "--ignore-disjoint-bases",
            f"--allowlist={allowed}",
            f"--mypy-config-file={settings}",
        ],
        env={**os.environ, "MYPYPATH": str(stubs)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=100,
    )


def test_every_stub_matches_the_names_and_arguments_of_aiocoap(tmp_path: Path) -> None:
    run = stubtest(ROOT / ".ci" / "typings", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_stub_for_a_name_that_aiocoap_lacks_is_reported(tmp_path: Path) -> None:
    stubs = tmp_path / "typings"
    shutil.copytree(ROOT / ".ci" / "typings", stubs)
    with (stubs / "aiocoap" / "pipe.pyi").open("a") as stub:
        stub.write("\ndef closed_pipes() -> int: ...\n")
    run = stubtest(stubs, tmp_path)
    assert (run.returncode, "closed_pipes" in run.stdout) == (1, True), run.stdout + run.stderr
