"""Debian packages of this project: building them, and looking into them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

from tests.kit.distribution import ROOT

BUILD = "packaging/deb/build.py"
BUILD_SECONDS = 300.0
EPOCH = 1_700_000_000
HOST_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
ELF_MACHINES = {"amd64": 62, "arm64": 183}
"""The number of each architecture in the header of an ELF file."""


def host_suite() -> str:
    """The suite whose Python is the one in /usr/bin."""
    return "trixie" if Path("/usr/bin/python3.13").exists() else "bookworm"


@dataclass(frozen=True)
class Package:
    """A built package."""

    path: Path

    @cached_property
    def control(self) -> dict[str, str]:
        text = _output("dpkg-deb", "--field", self.path).decode()
        lines = [line for line in text.splitlines() if not line.startswith(" ")]
        return dict(line.split(": ", 1) for line in lines)

    @cached_property
    def members(self) -> dict[str, tarfile.TarInfo]:
        """All files, folders and links, by their path without a leading slash."""
        with self._archive("--fsys-tarfile") as archive:
            return {one.name.removeprefix("./"): one for one in archive}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of all regular files."""
        with self._archive("--fsys-tarfile") as archive:
            return {
                one.name.removeprefix("./"): archive.extractfile(one).read()  # type: ignore[union-attr]
                for one in archive
                if one.isfile()
            }

    @cached_property
    def control_members(self) -> dict[str, tarfile.TarInfo]:
        with self._archive("--ctrl-tarfile") as archive:
            return {one.name.removeprefix("./"): one for one in archive}

    def unpack(self, folder: Path) -> Path:
        _output("dpkg-deb", "--extract", self.path, folder)
        return folder

    def _archive(self, kind: str) -> tarfile.TarFile:
        return tarfile.open(fileobj=BytesIO(_output("dpkg-deb", kind, self.path)))


def build(
    output: Path, arch: str, suite: str, *options: str, root: Path = ROOT, **variables: str
) -> dict[str, Package]:
    """Build both packages from the tree `root`; return them by name."""
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONPATH": str(root), **variables}
    subprocess.run(
        [sys.executable, root / BUILD, arch, suite, "--output", output, *options],
        env={**os.environ, **environment},
        cwd=output.parent,
        timeout=BUILD_SECONDS,
        check=True,
    )
    return {path.name.partition("_")[0]: Package(path) for path in output.glob("*.deb")}


def elf_machine(content: bytes) -> int | None:
    """The machine of an ELF file; None if it is another file."""
    return int.from_bytes(content[18:20], "little") if content.startswith(b"\x7fELF") else None


def _output(*command: str | Path) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout
