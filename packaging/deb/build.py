"""Build the Debian packages `handfast` and `handfast-device`: `build.py ARCH SUITE`.

Two builds of one commit are equal byte by byte. No file of a package depends on the machine, the
folder, the user or the time of the build: all times are those of the commit, or of
`$SOURCE_DATE_EPOCH`.
"""

import argparse
import datetime
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from click.shell_completion import get_completion_class

import man_pages
import runtime
import texts

ROOT: Final = runtime.ROOT
HERE: Final = Path(__file__).resolve().parent
HOME: Final = "usr/lib/handfast"
SUITES: Final = {"bookworm": "deb12", "trixie": "deb13"}
"""The end of a version for each suite, so that an upgrade of Debian upgrades the package."""
_LAUNCHER: Final = """#!/{home}/bin/python3 -I
from handfast.__main__ import {function}

{function}()
"""
_COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/{name}",
    "zsh": "usr/share/zsh/vendor-completions/_{name}",
    "fish": "usr/share/fish/vendor_completions.d/{name}.fish",
}
_KIB: Final = 1024


class Build:
    """One build: an architecture, a suite, and the values that all files share."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arch: str = arguments.arch
        self.suite: str = arguments.suite
        self.output: Path = arguments.output
        self.level: int = arguments.level
        self.work = work
        self.epoch = source_date()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.upstream: str = arguments.version or project["version"]
        self.version = f"{self.upstream}-1~{SUITES[self.suite]}"
        self.maintainer: str = arguments.maintainer

    def run(self) -> Iterator[Path]:
        """Build both packages and yield their paths."""
        self.output.mkdir(parents=True, exist_ok=True)
        man = self.work / "man"
        man.mkdir()
        day = datetime.datetime.fromtimestamp(self.epoch, datetime.UTC).date().isoformat()
        man_pages.write(man, self.upstream, day)
        yield self._client(man)
        yield self._device(man)

    def _client(self, man: Path) -> Path:
        python = runtime.PYTHONS[self.suite]
        major, minor = python.split(".")
        tree = self.work / "handfast"
        home = tree / HOME
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python3").symlink_to(f"../../../bin/python{python}")
        (home / "pyvenv.cfg").write_text(
            f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
        )
        site = home / "lib" / f"python{python}" / "site-packages"
        runtime.install(site, self.work, self.arch, self.suite, self.epoch)
        pages = [page for page in man.iterdir() if not page.name.startswith("handfast-device")]
        pages += man.glob("handfast-devices*")  # a verb of the client
        self._common(tree, "main", pages, texts.copyright_of(site))
        depends = f"python3 (>= {python}), python3 (<< {major}.{int(minor) + 1})"
        depends += f", libc6 (>= 2.{runtime.GLIBC})"
        return self._package(tree, self.arch, depends)

    def _device(self, man: Path) -> Path:
        tree = self.work / "handfast-device"
        for source, target in (
            ("handfast-device.service", "usr/lib/systemd/system/handfast-device.service"),
            ("sysusers.conf", "usr/lib/sysusers.d/handfast.conf"),
        ):
            (tree / target).parent.mkdir(parents=True)
            shutil.copyfile(ROOT / "packaging" / "systemd" / source, tree / target)
        pages = [*man.glob("handfast-device.1"), *man.glob("handfast-device-*")]
        self._common(tree, "device", pages, texts.own_copyright())
        depends = f"handfast (= {self.version}), python3, init-system-helpers (>= 1.54~)"
        return self._package(tree, "all", f"{depends}, systemd | systemd-standalone-sysusers")

    def _common(self, tree: Path, function: str, pages: list[Path], legal: str) -> None:
        """Add what both packages have: command, man pages, completions, documents."""
        name = tree.name
        launcher = tree / "usr" / "bin" / name
        launcher.parent.mkdir(parents=True)
        launcher.write_text(_LAUNCHER.format(home=HOME, function=function))
        for page in pages:
            _gzip(tree / "usr/share/man/man1" / f"{page.name}.gz", page.read_bytes())
        for shell, target in _COMPLETIONS.items():
            path = tree / target.format(name=name)
            path.parent.mkdir(parents=True)
            path.write_text(completion(name, shell), encoding="utf-8")
        documents = tree / "usr/share/doc" / name
        _gzip(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_bytes())
        log = texts.changelog(name, self._releases(), self.suite, self.maintainer)
        _gzip(documents / "changelog.Debian.gz", log.encode())
        (documents / "copyright").write_text(legal, encoding="utf-8")
        overrides = tree / "usr/share/lintian/overrides" / name
        overrides.parent.mkdir(parents=True)
        shutil.copyfile(HERE / name / "lintian-overrides", overrides)

    def _releases(self) -> list[tuple[str, float]]:
        """Return the version and date of this release and of those before it."""
        found: list[tuple[str, float]] = [(self.version, self.epoch)]
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        for version, day in re.findall(r"^## \[(\d\S*)\] - (\S+)$", text, re.MULTILINE):
            if version != self.upstream:
                date = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC)
                found.append((f"{version}-1~{SUITES[self.suite]}", date.timestamp()))
        return found

    def _package(self, tree: Path, arch: str, depends: str) -> Path:
        """Add the control files, make modes and times equal, and pack the tree."""
        files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
        size = sum(-(-path.stat().st_size // _KIB) for path in files)
        sums = [
            f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
            f"  {path.relative_to(tree)}\n"
            for path in files
        ]
        fields = {
            "Version": self.version,
            "Architecture": arch,
            "Maintainer": self.maintainer,
            "Installed-Size": str(size),
            "Depends": depends,
            "Section": "net",
            "Priority": "optional",
        }
        debian = tree / "DEBIAN"
        debian.mkdir()
        (debian / "control").write_text(texts.control(tree.name, fields), encoding="utf-8")
        (debian / "md5sums").write_text("".join(sums), encoding="utf-8")
        scripts = ("postinst", "prerm", "postrm")
        for script in filter(Path.exists, (HERE / tree.name / name for name in scripts)):
            text = script.read_text(encoding="utf-8")
            (debian / script.name).write_text(
                text.replace("@PYTHON@", runtime.PYTHONS[self.suite]), encoding="utf-8"
            )
        executable = {debian / name for name in scripts}
        executable.add(tree / "usr" / "bin" / tree.name)
        for path in (tree, *tree.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path in executable else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)
        package = self.output / f"{tree.name}_{self.version}_{arch}.deb"
        # One thread: the result of several depends on their number.
        command = ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", f"-z{self.level}"]
        subprocess.run(
            [*command, "--build", str(tree), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch), "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return package


def completion(name: str, shell: str) -> str:
    """Return click's completion script of a command, as its verb `completion` prints it."""
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    return kind(man_pages.COMMANDS[name], {}, name, variable).source() + "\n"


def source_date() -> int:
    """Return the time that all files get: `$SOURCE_DATE_EPOCH`, or that of the commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    archived = ROOT / "PKG-INFO"
    if archived.exists():  # in an unpacked source archive, with the time of its making
        return int(archived.stat().st_mtime)
    shown = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(shown, capture_output=True, check=True).stdout)


def _gzip(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description="Build the Debian packages of handfast.")
    parser.add_argument("arch", choices=sorted(runtime.MACHINES))
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "deb", metavar="FOLDER")
    parser.add_argument("--version", help="the version, if it is not that of pyproject.toml")
    parser.add_argument("--level", type=int, default=6, help="of the compression, 0 to 9")
    parser.add_argument(
        "--maintainer", default="The contributors of handfast <handfast@example.org>"
    )
    with tempfile.TemporaryDirectory() as work:
        for package in Build(parser.parse_args(), Path(work)).run():
            sys.stdout.write(f"{package}\n")


if __name__ == "__main__":
    main()
