"""The container leaves nothing on this machine, however it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.booted import Container, ControlGroup
from tests.kit.installed import NewContainer, Suite
from tests.kit.process import Program, environment

pytestmark = [
    pytest.mark.booted,
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb"),
]
BOOT_AND_WAIT = """
import signal, sys
from pathlib import Path
from tests.kit.booted import Container, ControlGroup

container = Container(Path(sys.argv[1]), [Path(sys.argv[2])])
container.boot()
print("booted", container.name, flush=True)
signal.pause()
"""


def traces(name: str, folder: Path) -> list[str]:
    """The mounts, interfaces, files and control groups of a container on this machine."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found = [line for line in mounts if str(folder) in line]
    links = subprocess.run(["ip", "link"], check=True, capture_output=True, text=True).stdout
    found += [line for line in links.splitlines() if f"ve-{name}"[:15] in line]
    found += map(str, Path("/run/systemd/nspawn").glob(f"**/*{name}*"))
    return found + ["a control group"] * ControlGroup(name).exists


def test_a_running_container_has_only_its_control_group(board: Container) -> None:
    assert traces(board.name, board.folder) == ["a control group"]


def test_a_closed_container_has_no_traces(suite: Suite, new_container: NewContainer) -> None:
    container = new_container(suite.tree)
    container.boot()
    container.close()
    assert traces(container.name, container.folder) == []


def test_a_container_ends_with_the_process_that_started_it(suite: Suite, tmp_path: Path) -> None:
    """The control group is left then, and can be removed once its last process has ended."""
    folder = tmp_path / "container"
    argv = [sys.executable, "-c", BOOT_AND_WAIT, str(folder), str(suite.tree)]
    program = Program(argv, environment())
    try:
        name = program.until("booted", on="out").split()[1]
        program.send(signal.SIGKILL)
        program.end()
        ControlGroup(name).remove()
        assert traces(name, folder) == []
    finally:
        program.close()
