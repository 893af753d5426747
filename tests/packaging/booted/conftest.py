"""A booted Debian with the packages of this checkout; `make board` prepares both."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.kit.booted import Container
from tests.kit.distribution import ROOT
from tests.kit.installed import HostClient, Suite, install, pair

TREES: Final = ROOT / ".venv" / "board"
PACKAGES: Final = ROOT / "build" / "deb"
MARKS: Final = {"bookworm": "deb12", "trixie": "deb13"}
"""The mark of each suite in the version of a package."""
SUITES: Final = os.environ.get("SUITES", "bookworm").split()


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """A tree with our packages and the accounts anna, of the group `handfast`, and mia."""
    tree = TREES / request.param
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    mark = MARKS[request.param]
    packages = [*PACKAGES.glob(f"*{mark}_{machine}.deb"), *PACKAGES.glob(f"*{mark}_all.deb")]
    assert len(packages) == 2, "run `make board`, which builds the packages"
    folder = tmp_path_factory.mktemp("installed")
    with closing(Container(folder, [tree])) as container:
        container.boot()
        install(container, packages)
        container.shell(
            "systemctl stop handfast-device; rm -rf /var/lib/handfast/* /tmp/*.deb;"
            "useradd --create-home --groups handfast anna; useradd --create-home mia"
        )
        container.power_off()
    return Suite(request.param, tree, folder / "upper", packages)


@pytest.fixture
def new_container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Makes containers that end with the test."""
    made: list[Container] = []

    def add(*layers: Path) -> Container:
        made.append(Container(tmp_path / f"container{len(made)}", layers))
        return made[-1]

    yield add
    for container in made:
        container.close()


@pytest.fixture(scope="module")
def board(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A board after its first boot, which the tests of a file share."""
    folder = tmp_path_factory.mktemp("board")
    with closing(Container(folder, [suite.installed, suite.tree])) as container:
        container.boot()
        yield container


@pytest.fixture(scope="module")
def owner(board: Container, tmp_path_factory: pytest.TempPathFactory) -> HostClient:
    """The owner of that board, who has paired over the cable."""
    return pair(board, tmp_path_factory.mktemp("owner"), "anna")
