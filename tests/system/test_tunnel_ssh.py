"""ssh and scp of OpenSSH through a tunnel, to a real sshd."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_app.settings.tunnel import TunnelOptions
from tests.kit.sshd import Sshd
from tests.kit.threads import DeviceThread
from tests.kit.waiting import TIMEOUT_SECONDS

pytestmark = [pytest.mark.needs_tool("sshd"), pytest.mark.needs_tool("ssh")]


@dataclass
class Machine:
    """A device whose service `ssh` is a real sshd, and a client of it."""

    device: DeviceThread
    sshd: Sshd
    home: Path

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program of OpenSSH that connects through the tunnel."""
        command = self.sshd.command(self.home, program, *words)
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    sshd = Sshd(tmp_path / "sshd")
    device = DeviceThread(tmp_path / "device", tunnel=TunnelOptions(services={"ssh": sshd.address}))
    home = tmp_path / "home"
    device.add_client(home, "anna", "user")
    yield Machine(device, sshd, home)
    device.close()
    sshd.close()


def test_a_command_of_ssh_runs_through_a_tunnel(machine: Machine) -> None:
    done = machine.run("ssh", f"{getpass.getuser()}@kitchen", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n"), done.stderr
    assert b"err" in done.stderr


def test_scp_copies_3_mb_both_ways(machine: Machine, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    first, far, back = (tmp_path / name for name in ("first", "far", "back"))
    first.write_bytes(content)
    there = machine.run("scp", str(first), f"{getpass.getuser()}@kitchen:{far}")
    assert there.returncode == 0, there.stderr
    assert far.read_bytes() == content
    again = machine.run("scp", f"{getpass.getuser()}@kitchen:{far}", str(back))
    assert again.returncode == 0, again.stderr
    assert back.read_bytes() == content
