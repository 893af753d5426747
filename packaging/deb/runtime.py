"""The Python packages that a Debian package contains: pinned wheels, and our own.

`pip install --target` selects the wheels of another machine and another Python, so a package for
64-bit ARM is built on any machine. What differs between two installations is removed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
"""The version of Python in each suite of Debian."""
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
"""The name of each architecture in the names of wheels."""
GLIBC: Final = 28
"""Wheels may need this minor version of the GNU C library 2 or an older one."""
PACKAGES: Final = ("handfast", "peer", "iam", "device_app", "client_app")

_NOT_INSTALLED: Final = ("setuptools",)  # the lock pins it to build handfast, not to run it
_VOLATILE: Final = ("direct_url.json", "REQUESTED", "RECORD", "INSTALLER")
"""Files of pip: the first has the path of our wheel, and RECORD has the hash of the first."""


def install(site: Path, work: Path, arch: str, suite: str, epoch: int) -> None:
    """Install handfast and all that it needs at run time into the folder `site`."""
    requirements = work / "requirements.txt"
    wheel = _wheel(work, epoch)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    own = f"handfast @ {wheel.as_uri()} --hash=sha256:{digest}\n"
    requirements.write_text(_runtime_lock() + own, encoding="utf-8")
    python = PYTHONS[suite]
    options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]
    options += ["--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:"]
    options += ["--implementation", "cp", "--python-version", python]
    options += ["--abi", f"cp{python.replace('.', '')}"]
    for platform in _platforms(MACHINES[arch]):
        options += ["--platform", platform]
    pip = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*pip, "--target", str(site), "-r", str(requirements)], check=True)
    shutil.rmtree(site / "bin", ignore_errors=True)
    for about in site.glob("*.dist-info"):
        for name in _VOLATILE:
            (about / name).unlink(missing_ok=True)


def _runtime_lock() -> str:
    """Return the lock of the dependencies at run time, without the tools of the build.

    The extras `remote` and `tunnel` are part of it, since packages cannot be added to it later.
    """
    text = (ROOT / "requirements-remote.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if block.partition("==")[0] not in _NOT_INSTALLED)


def _platforms(machine: str) -> list[str]:
    """Return the tags of wheels for a machine, the preferred ones first."""
    numbered = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    return [*numbered, *(f"manylinux{year}_{machine}" for year in ("2014", "2010", "1"))]


def _wheel(work: Path, epoch: int) -> Path:
    """Build our wheel from a copy of the source, since the build writes into its folder."""
    source = work / "source"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", script, work],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (wheel,) = work.glob("handfast-*.whl")
    return wheel
