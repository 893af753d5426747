"""The wheel and the source archive of this project, and environments in which a wheel is installed.

An environment has what pip would install for the wheel without extras: the wheel itself, and the
declared dependencies with theirs, as links to those of this Python.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("handfast", "peer", "iam", "device_app", "client_app")
TEST_SECONDS = 120.0

MADE_BY_TOOLS = re.compile(
    r"^(\.git|\.venv|build|dist|__pycache__|\..+_cache|\.hypothesis|\.coverage.*|.+\.egg-info)$"
)


def our_files() -> list[Path]:
    """Every file of the project, found without git so that an unpacked archive can be tested."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not MADE_BY_TOOLS.match(name)]
        found += [Path(folder, name) for name in files if not MADE_BY_TOOLS.match(name)]
    return found


def build(kind: Literal["wheel", "sdist"], folder: Path) -> Path:
    """Build from a copy of our files, as the backend does for pip; return the archive."""
    tree = folder / "tree"
    for file in our_files():
        copy = tree / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    script = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=tree, check=True, capture_output=True
    )
    (archive,) = folder.glob("handfast-*.whl" if kind == "wheel" else "handfast-*.tar.gz")
    return archive


class Environment:
    """A virtual environment with a wheel of this project and what the wheel requires."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.packages,) = (folder / "lib").glob("python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.packages)
        (about,) = self.packages.glob("handfast-*.dist-info")
        for one in _closure(Distribution.at(about)):
            for name in {file.parts[0] for file in one.files or () if file.parts[0] != ".."}:
                place = self.packages / name
                if not place.exists() and name != "__pycache__":
                    place.symlink_to(Path(str(one.locate_file(name))))
        compileall.compile_dir(self.packages, quiet=2)  # as pip does; it follows no link

    def run(
        self, *arguments: str, folder: Path, expected: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python in a folder, with the exit code that is expected."""
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=folder,
            env={**_environment(), **variables},
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS,
            check=False,
        )
        assert done.returncode == expected, done
        return done


def _environment() -> dict[str, str]:
    foreign = re.compile(r"PYTHON|COV|MYPY|_?HANDFAST")
    return {name: value for name, value in os.environ.items() if not foreign.match(name)}


def _closure(of: Distribution) -> list[Distribution]:
    """The distributions that one requires without extras, with those that they require."""
    found: dict[str, Distribution] = {}
    waiting = [(of, frozenset[str]())]
    while waiting:
        current, extras = waiting.pop()
        for text in current.requires or ():
            need = Requirement(text)
            wanted = any(
                need.marker is None or need.marker.evaluate({"extra": extra})
                for extra in ("", *extras)
            )
            if wanted and need.name not in found:
                found[need.name] = distribution(need.name)
                waiting.append((found[need.name], frozenset(need.extras)))
    return list(found.values())
