"""Tunnels on remote paths: ssh and scp, a move to another network, and the end of an access."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.kit.nat_lab import Nat
from tests.kit.process import Program, environment
from tests.kit.remote_home import RemoteHome, remote_home
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.namespaces import Namespaces
    from tests.kit.system import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver", "ssh", "sshd"),
]

SIZE = 3_000_000


@pytest.fixture
def home(stage: Stage, namespaces: Namespaces) -> Iterator[RemoteHome]:
    with remote_home(stage, namespaces, has_ssh=True) as made:
        yield made


def command(home: RemoteHome, program: str, *words: str) -> list[str]:
    """A command of OpenSSH that reaches the device through a tunnel."""
    assert home.sshd is not None
    return [*home.client.place, *home.sshd.command(home.client.home, program, *words)]


def run(home: RemoteHome, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        command(home, program, *words),
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_scp_copies_3_mb_from_a_network_without_udp_to_a_symmetric_nat(
    home: RemoteHome, tmp_path: Path
) -> None:
    home.device.stop()
    home.boot(Nat.SYMMETRIC)
    home.lab.move_away(Nat.BLOCKED)
    first, far, back = (tmp_path / name for name in ("first", "far", "back"))
    first.write_bytes(os.urandom(SIZE))
    run(home, "scp", str(first), f"root@kitchen:{far}")
    checked = run(home, "ssh", "root@kitchen", f"sha256sum {far}").stdout.split()[0].decode()
    assert checked == hashlib.sha256(first.read_bytes()).hexdigest()
    run(home, "scp", f"root@kitchen:{far}", str(back))
    assert back.read_bytes() == first.read_bytes()


def shell(home: RemoteHome) -> Program:
    """A shell on the device that prints each line it is given."""
    started = Program(command(home, "ssh", "root@kitchen", "cat"), environment(), typed=True)
    started.type("a line")
    started.until("a line", on="out")
    return started


def test_a_shell_goes_on_when_its_client_moves_to_another_network(home: RemoteHome) -> None:
    home.lab.move_away(Nat.CONE)
    with closing(shell(home)) as typed:
        home.lab.move_away(Nat.BLOCKED)
        typed.type("another line")
        typed.until("another line", on="out")
        typed.end_input()
        assert typed.end(code=0).out.splitlines()[-1] == "another line"


def test_a_shell_ends_with_the_access_of_its_user(home: RemoteHome) -> None:
    mia = home.stage.client("mia")
    mia.place = home.client.place
    home.introduce(mia, "mia", role="user")
    home.lab.move_away(Nat.BLOCKED)
    with closing(shell(replace(home, client=mia))) as typed:
        home.device.ask("users-remove", name="mia")
        assert typed.end().code != 0
