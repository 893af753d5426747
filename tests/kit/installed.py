"""Our packages on a booted Debian, and clients at the host's end of its cable."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kit.booted import Container
from tests.kit.process import Program, Result
from tests.kit.waiting import TIMEOUT_SECONDS

UNIT: Final = "handfast-device.service"
CABLE: Final = "host0"
CABLE_SETTING: Final = "/etc/handfast/device.d/10-cable.toml"
NewContainer = Callable[..., Container]
"""Makes a container from layers."""


@dataclass(frozen=True)
class Suite:
    """A Debian suite: its tree, the tree with our packages installed, and the packages."""

    name: str
    tree: Path
    installed: Path
    packages: list[Path]


class HostClient:
    """A `handfast` client at the host's end of the cable."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, board: Container, *words: str) -> Program:
        """Start a command of the client."""
        program = [sys.executable, "-m", "client_app", "--home", str(self.home)]
        return board.from_host(*program, *words)

    def run(self, board: Container, *words: str, code: int = 0) -> Result:
        """Run a command of the client to its end, and check the exit code."""
        return self.start(board, *words).end(code=code)


def make_cable_local(container: Container) -> None:
    """Name the cable in the configuration of the device.

    It leads to another network namespace, so nothing else can make it local.
    """
    container.shell(
        "mkdir -p /etc/handfast/device.d\n"
        f"printf '[network]\\nlocal_interfaces = [\"{CABLE}\"]\\n' > {CABLE_SETTING}"
    )


def install(container: Container, packages: list[Path]) -> None:
    """Copy packages into a container, and install them as an owner does."""
    make_cable_local(container)
    files = [container.put(package, "/tmp") for package in packages]
    container.shell(f"apt-get install -qq -y --no-install-recommends {' '.join(files)}")


def pair(board: Container, home: Path, name: str, *, role: str = "owner") -> HostClient:
    """Pair a client at the host's end by the code that the board shows."""
    shown = board.shell(f"handfast-device open --role {role} --no-wait")
    code = re.search(r"\d{4}-\d{4}", shown)
    assert code is not None, shown
    client = HostClient(home)
    device_id = board.run("handfast-device", "status", "--json").value["id"]
    client.run(board, "pair", device_id, "--name", name, "--as", "kitchen", "--code", code[0])
    return client


def with_version(package: Path, version: str, folder: Path) -> Path:
    """A copy of a Debian package with another version number."""
    tree = folder / package.stem
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=TIMEOUT_SECONDS)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    old = next(line for line in lines if line.startswith("Version: ")).split()[1]
    control.write_text("\n".join(line.replace(old, version) for line in lines) + "\n")
    made = folder / f"{version}-{package.name}"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, made],
        check=True,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    shutil.rmtree(tree)
    return made
