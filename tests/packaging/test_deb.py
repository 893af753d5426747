"""The Debian packages of this machine's architecture: equal builds, complete and clean contents."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.kit import packages
from tests.kit.distribution import PACKAGES, ROOT
from tests.kit.packages import EPOCH, HOST_ARCH, Package

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_tool("dpkg-deb"),
    pytest.mark.timeout(300),  # lintian on a busy machine
]

SUITE = packages.host_suite()
NAMES = ("handfast", "handfast-device")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LOCK = "requirements-remote.lock"
LOCKED = re.findall(r"^(\S+)==(\S+)", (ROOT / LOCK).read_text(), re.MULTILINE)
RUN_TIME = {(name, version) for name, version in LOCKED if name != "setuptools"}
FAST = ("--level", "1")  # xz takes most of the time of a build

both = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    return packages.build(tmp_path_factory.mktemp("one") / "deb", HOST_ARCH, SUITE, *FAST)


@pytest.fixture(scope="module")
def tree(built: dict[str, Package], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages unpacked into one folder."""
    folder = tmp_path_factory.mktemp("tree")
    for package in built.values():
        package.unpack(folder)
    return folder


def copy_of_the_project(folder: Path) -> Path:
    for name in (*PACKAGES, "packaging"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", LOCK):
        shutil.copy(ROOT / name, folder)
    return folder


def test_two_builds_have_the_same_checksum(built: dict[str, Package], tmp_path: Path) -> None:
    """In another folder, by a user with another umask, time zone, language and home."""
    copy = copy_of_the_project(tmp_path / "elsewhere")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = os.umask(0o077)
    try:
        again = packages.build(
            tmp_path / "deb",
            HOST_ARCH,
            SUITE,
            *FAST,
            root=copy,
            TZ="Pacific/Chatham",
            LANG="tr_TR.UTF-8",
            LC_ALL="tr_TR.UTF-8",
            TMPDIR=str(scratch),
            PYTHONHASHSEED="7",
        )
    finally:
        os.umask(before)
    assert again.keys() == built.keys() == set(NAMES)
    for name in NAMES:
        sums = {
            hashlib.sha256(one.path.read_bytes()).hexdigest() for one in (built[name], again[name])
        }
        assert len(sums) == 1, name


@both
def test_owners_modes_and_times_do_not_depend_on_the_build(
    name: str, built: dict[str, Package]
) -> None:
    package = built[name]
    for path, member in {**package.members, **package.control_members}.items():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "root", "root"), path
        assert member.mtime == EPOCH, path
        commands = {f"usr/bin/{name}", "postinst", "prerm", "postrm"}
        wanted = 0o755 if member.isdir() or path in commands else 0o644
        assert member.issym() or member.mode == wanted, path


def test_no_file_names_the_folder_of_the_build(built: dict[str, Package]) -> None:
    for package in built.values():
        for path, content in package.files.items():
            assert str(ROOT).encode() not in content, path
            assert b"/tmp/tmp" not in content, path


def test_the_environment_has_the_locked_packages_and_nothing_else(tree: Path) -> None:
    (site,) = tree.glob("usr/lib/handfast/lib/python3.*/site-packages")
    abouts = {path.name for path in site.glob("*.dist-info")}
    wanted = {(name.replace("-", "_"), version) for name, version in RUN_TIME}
    assert abouts == {
        f"{name}-{version}.dist-info" for name, version in {*wanted, ("handfast", VERSION)}
    }
    volatile = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    assert not [path for path in site.rglob("*") if path.name in volatile]
    assert not [path for path in tree.rglob("*") if path.name == "__pycache__"]
    for package in PACKAGES:
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert {path.relative_to(site) for path in (site / package).rglob("*.py")} == ours


def test_every_compiled_module_is_for_the_architecture(built: dict[str, Package]) -> None:
    modules = {
        path: packages.elf_machine(content)
        for path, content in built["handfast"].files.items()
        if path.endswith(".so") or packages.elf_machine(content) is not None
    }
    assert len(modules) > 20
    assert set(modules.values()) == {packages.ELF_MACHINES[HOST_ARCH]}


def test_the_packages_need_the_python_they_were_built_for(built: dict[str, Package]) -> None:
    python = {"bookworm": ("3.11", "3.12"), "trixie": ("3.13", "3.14")}[SUITE]
    needs = built["handfast"].control["Depends"].split(", ")
    assert {f"python3 (>= {python[0]})", f"python3 (<< {python[1]})"} <= set(needs)
    version = built["handfast"].control["Version"]
    assert version.startswith(f"{VERSION}-1~deb1")
    assert f"handfast (= {version})" in built["handfast-device"].control["Depends"].split(", ")
    assert built["handfast"].control["Architecture"] == HOST_ARCH


def test_an_upgrade_of_debian_upgrades_the_package() -> None:
    order = ["dpkg", "--compare-versions", f"{VERSION}-1~deb12", "lt", f"{VERSION}-1~deb13"]
    subprocess.run(order, check=True)


def test_the_service_is_that_of_the_source(built: dict[str, Package]) -> None:
    files = built["handfast-device"].files
    for target, source in (
        ("usr/lib/systemd/system/handfast-device.service", "handfast-device.service"),
        ("usr/lib/sysusers.d/handfast.conf", "sysusers.conf"),
    ):
        assert files[target] == (ROOT / "packaging" / "systemd" / source).read_bytes()


@both
def test_the_completions_are_those_of_the_verb(name: str, built: dict[str, Package]) -> None:
    module = {"handfast": "handfast", "handfast-device": "device_app"}[name]
    for shell, path in (
        ("bash", f"usr/share/bash-completion/completions/{name}"),
        ("zsh", f"usr/share/zsh/vendor-completions/_{name}"),
        ("fish", f"usr/share/fish/vendor_completions.d/{name}.fish"),
    ):
        command = [sys.executable, "-m", module, "completion", shell]
        printed = subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout
        assert built[name].files[path].split() == printed.split(), shell


@both
def test_the_changelog_begins_with_the_version(name: str, built: dict[str, Package]) -> None:
    folder = f"usr/share/doc/{name}"
    text = gzip.decompress(built[name].files[f"{folder}/changelog.Debian.gz"]).decode()
    assert text.startswith(f"{name} ({built[name].control['Version']}) {SUITE}; urgency=medium\n")
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    found = re.findall(rf"^{name} \((\S+)-1~deb\d+\)", text, re.MULTILINE)
    assert found == list(dict.fromkeys([VERSION, *released]))
    changes = gzip.decompress(built[name].files[f"{folder}/changelog.gz"])
    assert changes == (ROOT / "CHANGELOG.md").read_bytes()


def test_the_copyright_file_has_every_license(built: dict[str, Package]) -> None:
    text = built["handfast"].files["usr/share/doc/handfast/copyright"].decode()
    heads = {
        (name.lower().replace("_", "-"), version)
        for name, version in re.findall(r"^(\S+) (\S+)\nSource: \S", text, re.MULTILINE)
    }
    assert heads == RUN_TIME
    assert text.count("\nLicense: ") == len(RUN_TIME)
    assert "END OF TERMS AND CONDITIONS" not in text  # these are in /usr/share/common-licenses


@pytest.mark.needs_tool("lintian")
def test_lintian_finds_no_error_no_warning_and_no_unused_override(
    built: dict[str, Package],
) -> None:
    paths = [str(package.path) for package in built.values()]
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unused" not in done.stdout, done.stdout


@both
def test_every_lintian_override_has_a_reason(name: str) -> None:
    lines = (ROOT / "packaging" / "deb" / name / "lintian-overrides").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or before.startswith("# "), line


@pytest.mark.needs_root
@both
def test_the_installed_command_starts_and_imports_only_its_own_packages(
    name: str, tree: Path, tmp_path: Path
) -> None:
    """The unpacked packages are laid over /usr in a mount namespace of the command's own."""
    foreign = tmp_path / "handfast"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('a foreign package was imported')")
    script = 'mount -t overlay overlay -o "lowerdir=$1:/usr" /usr && exec "$2" --version'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tree / "usr", f"/usr/bin/{name}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name}, version {VERSION}\n"
