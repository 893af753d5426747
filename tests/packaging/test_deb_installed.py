"""The Debian packages of every suite and architecture: installed, upgraded, removed, purged.

`make deb-test` runs all of these. Each run of the tests installs, removes and purges the packages
of one suite. The systems are new ones in folders, entered with chroot in a mount namespace, so
nothing of them is left on the host. A booted system is tested elsewhere.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree, which

import pytest

from tests.kit import packages
from tests.kit.packages import HOST_ARCH, Package

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUITES = ("bookworm", "trixie")
FAST = ("--level", "1")
DEVICE = "handfast-device"
STATE = "var/lib/handfast"
WANTED = "etc/systemd/system/multi-user.target.wants/handfast-device.service"
IMPORT_ALL = """
import ctypes, importlib, pathlib, pkgutil, sys

site = pathlib.Path(sys.argv[1])
for package in ("handfast", "peer", "iam", "device_app", "client_app"):
    for found in pkgutil.walk_packages([str(site / package)], package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
compiled = 0
for path in site.rglob("*.so"):
    name = ".".join(path.relative_to(site).with_suffix("").parts).partition(".cpython")[0]
    if name.startswith("Crypto."):
        ctypes.CDLL(str(path))  # libraries that pycryptodome loads itself, not modules
    else:
        importlib.import_module(name.removesuffix(".abi3").removesuffix(".__init__"))
    compiled += 1
print(len(sys.modules), compiled)
"""


@dataclass(frozen=True)
class System:
    """A Debian in a folder."""

    folder: Path

    def run(self, *command: str, expected: int = 0) -> str:
        """Run a command in it, with a /proc of its own; return both of its outputs."""
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, self.folder, *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stdout
        return done.stdout

    def install(self, built: dict[str, Package]) -> str:
        for package in built.values():
            copy(package.path, self.folder)
        return self.run("dpkg", "-i", *(f"/{package.path.name}" for package in built.values()))

    def script(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return file

    def exists(self, path: str) -> bool:
        return (self.folder / path).exists() or (self.folder / path).is_symlink()


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.deb)])
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def new_system(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new Debian with what the packages need."""
    folder = tmp_path_factory.mktemp(suite) / "tree"
    command = ["mmdebstrap", "--quiet", "--variant=apt", "--include=python3,systemd"]
    subprocess.run([*command, suite, folder], check=True, timeout=500)
    (folder / "run" / "systemd" / "system").mkdir(parents=True)  # as on a booted system
    return folder


@pytest.fixture
def system(new_system: Path, tmp_path: Path) -> System:
    """A copy of it that starts no services, as an image that is being made."""
    copytree(new_system, tmp_path / "copy", symlinks=True, ignore=_devices)
    made = System(tmp_path / "copy")
    made.run("mknod", "-m", "666", "/dev/null", "c", "1", "3")
    made.run("mknod", "-m", "666", "/dev/urandom", "c", "1", "9")
    made.script("usr/sbin/policy-rc.d", "exit 101")
    return made


def _devices(folder: str, names: list[str]) -> set[str]:
    return set(names) if Path(folder).name == "dev" else set()


@pytest.fixture(scope="module")
def built(suite: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    return packages.build(tmp_path_factory.mktemp(suite) / "deb", HOST_ARCH, suite, *FAST)


@pytest.fixture(scope="module")
def older(suite: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    folder = tmp_path_factory.mktemp(suite) / "deb"
    return packages.build(folder, HOST_ARCH, suite, *FAST, "--version", "0.0.1")


needs_new_system = [
    pytest.mark.needs_root,
    pytest.mark.needs_tool("mmdebstrap", "dpkg-deb", "unshare"),
]


class TestInstalled:
    pytestmark = needs_new_system

    def test_the_service_is_enabled_and_the_policy_of_the_system_is_respected(
        self, system: System, built: dict[str, Package]
    ) -> None:
        output = system.install(built)
        assert "policy-rc.d returned 101, not running 'restart" in output
        assert system.exists(WANTED)
        assert f"{DEVICE}:" in system.run("getent", "passwd", DEVICE)
        assert "handfast:" in system.run("getent", "group", "handfast")
        assert list(system.folder.glob("usr/lib/handfast/lib/**/*.pyc"))
        for name in ("handfast", DEVICE):
            assert system.run(name, "--version").startswith(f"{name}, version ")

    @pytest.mark.deb
    def test_an_upgrade_keeps_the_key_and_the_choice_to_disable_the_service(
        self, system: System, older: dict[str, Package], built: dict[str, Package]
    ) -> None:
        system.install(older)
        system.run(DEVICE, "init")
        before = system.run(DEVICE, "fingerprint")
        # As `systemctl disable` does, which needs a booted system.
        (system.folder / WANTED).unlink()
        system.install(built)
        assert system.run(DEVICE, "fingerprint") == before
        assert not system.exists(WANTED)
        stored = system.run("dpkg-query", "-W", "-f", "${Version}", DEVICE)
        assert stored == built[DEVICE].control["Version"]

    def test_removing_keeps_the_state_and_purging_deletes_it(
        self, system: System, built: dict[str, Package]
    ) -> None:
        system.install(built)
        system.run(DEVICE, "init")
        system.run("dpkg", "--remove", DEVICE, "handfast")
        assert system.exists(f"{STATE}/device-key.pem")
        assert system.exists("etc/handfast/device.toml")
        assert not system.exists("usr/lib/handfast")
        system.run("dpkg", "--purge", DEVICE, "handfast")
        left = system.run("find", "/", "-xdev", "-name", "*handfast*", "-not", "-name", "*.deb")
        assert left.split() == []

    @pytest.mark.deb
    def test_a_service_that_does_not_start_does_not_break_the_installation(
        self, system: System, built: dict[str, Package]
    ) -> None:
        system.script("usr/local/bin/deb-systemd-invoke", '[ "$1" != restart ]')
        output = system.install(built)
        assert "the service did not start" in output
        assert system.run("dpkg", "--audit") == ""

    @pytest.mark.deb
    def test_a_full_disk_only_costs_the_compiled_modules(
        self, system: System, built: dict[str, Package]
    ) -> None:
        system.script("usr/local/bin/python-without-space", "exit 1")
        postinst = system.folder / "var/lib/dpkg/info/handfast.postinst"
        system.install({"handfast": built["handfast"]})
        text = postinst.read_text().replace("/usr/lib/handfast/bin/python3", "python-without-space")
        postinst.write_text(text)
        output = system.run("/var/lib/dpkg/info/handfast.postinst", "configure")
        assert "could not be compiled" in output


@pytest.mark.deb
@pytest.mark.parametrize("suite", SUITES)
def test_a_package_for_arm_has_only_modules_for_arm(suite: str, tmp_path: Path) -> None:
    built = packages.build(tmp_path / "deb", "arm64", suite, *FAST)
    machines = {packages.elf_machine(content) for content in built["handfast"].files.values()}
    assert machines == {None, packages.ELF_MACHINES["arm64"]}
    assert built["handfast"].control["Architecture"] == "arm64"
    assert built[DEVICE].control["Architecture"] == "all"


@pytest.mark.deb
@pytest.mark.needs_tool("arm-python", "qemu-aarch64")
def test_every_module_can_be_imported_on_arm(tmp_path: Path) -> None:
    """With Debian's Python for 64-bit ARM in an emulator."""
    built = packages.build(tmp_path / "deb", "arm64", "bookworm", *FAST)
    tree = built["handfast"].unpack(tmp_path / "tree")
    (site,) = tree.glob("usr/lib/handfast/lib/python3.*/site-packages")
    root = Path(which("arm-python") or "").resolve().parent / "root"
    done = subprocess.run(
        ["qemu-aarch64", "-L", root, root / "usr/bin/python3", "-s", "-c", IMPORT_ALL, site],
        env={"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules, compiled = map(int, done.stdout.split())
    assert modules > 300
    assert compiled > 20


@pytest.mark.deb
def test_the_package_of_the_device_is_the_same_for_all_architectures(tmp_path: Path) -> None:
    contents = set()
    for arch in ("amd64", "arm64"):
        built = packages.build(tmp_path / arch, arch, "bookworm", *FAST)
        contents.add(built[DEVICE].path.read_bytes())
    assert len(contents) == 1
