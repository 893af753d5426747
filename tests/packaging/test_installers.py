"""`pipx install` and `uv tool install` install the wheel in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.kit.distribution import ROOT, build

pytestmark = pytest.mark.slow

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our wheel and those of all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    lock = ["--require-hashes", "-r", str(ROOT / "requirements.lock")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *lock],
        check=True,
    )
    build("wheel", folder)
    return folder


@pytest.mark.parametrize("installer", ["pipx", "uv"])
def test_the_wheel_installs_without_a_network(installer: str, wheels: Path, tmp_path: Path) -> None:
    (wheel,) = wheels.glob("handfast-*.whl")
    own_packages = ["--offline", "--no-index", "--find-links", str(wheels)]
    options = {
        "pipx": ["pipx", "install"],
        "uv": ["uv", "tool", "install", *own_packages],
    }[installer]
    command = [sys.executable, "-m", *options, "--python", sys.executable, str(wheel)]
    bin_folder = tmp_path / "bin"
    foreign = ("PIP_", "UV_", "PIPX_", "XDG_", "PYTHON", "COV_")
    environment = {key: text for key, text in os.environ.items() if not key.startswith(foreign)}
    environment |= {
        "HOME": str(tmp_path),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(bin_folder),
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(bin_folder),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    subprocess.run(command, env=environment, check=True)
    for name in ("handfast", "handfast-device"):
        done = subprocess.run(
            [bin_folder / name, "--version"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{name}, version {VERSION}\n"
