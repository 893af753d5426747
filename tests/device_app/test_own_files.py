"""The device follows no links and opens no files of other users, even if root runs it (CWE-59).

Also tested here: the memory of the daemon is protected, and SIGHUP is handled from the start.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from device_app import daemon
from device_app.cli import main
from device_app.console import offline
from device_app.console.console import Console
from device_app.console.control_server import ControlServer
from device_app.console.nabto_import import write_policy
from device_app.errors import AppError
from device_app.settings.paths import Paths
from iam import files as iam_files
from iam.errors import StoreError
from iam.store import Store
from peer import files as peer_files
from peer.errors import IdentityError
from peer.identity import Identity
from tests.kit.daemon import environment, run_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from device_app.console.views import StatusAnswer
    from tests.kit.device import Kit

OTHER = 54321  # a user ID without an account
VICTIM = b"precious\n"
NABTO = Path(__file__).parents[1] / "iam" / "nabto" / "thermostat.json"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    path.chmod(0o600)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def paths(home: Path) -> Paths:
    return Paths(home, home, home)


def status(home: Path) -> StatusAnswer:
    return offline.OfflineConsole(paths(home), warn=print).run(Console.status)


def symbolic_link(link: Path, target: Path) -> None:
    link.symlink_to(target)


def hard_link(link: Path, target: Path) -> None:
    link.hardlink_to(target)


WRITTEN = ["device.db", "device.db.lock", "device.db-wal", "device.db-shm"]
REFUSED = [*WRITTEN, "device.db.mark", "device-key.pem"]


@pytest.mark.parametrize(
    ("name", "make"),
    [*((name, symbolic_link) for name in REFUSED), *((name, hard_link) for name in WRITTEN)],
)
def test_a_link_instead_of_a_file_is_refused(
    name: str, make: Callable[[Path, Path], None], home: Path, victim: Path
) -> None:
    offline.init(paths(home), name="kitchen", force=False)
    (home / name).unlink(missing_ok=True)
    make(home / name, victim)
    with pytest.raises((StoreError, IdentityError), match="link"):
        status(home)
    assert victim.read_bytes() == VICTIM


DRAFTS = ["device.db.new", "device.db.mark.new", "device.db.aside.new", "device.toml.new"]


@pytest.mark.parametrize("make", [symbolic_link, hard_link])
@pytest.mark.parametrize("name", DRAFTS)
def test_a_new_file_is_not_written_through_a_link(
    name: str, make: Callable[[Path, Path], None], home: Path, victim: Path
) -> None:
    make(home / name, victim)
    offline.init(paths(home), name="kitchen", force=True)
    (home / "device.db").write_bytes(b"")
    recovery = status(home)["store"]["recovery"]
    assert recovery is not None
    assert recovery["reason"] == "damaged"
    assert victim.read_bytes() == VICTIM
    assert [path for path in home.iterdir() if path.is_symlink() or path.stat().st_nlink > 1] in (
        [],
        [home / name],
    )


async def test_the_control_socket_replaces_a_link(home: Path, victim: Path) -> None:
    symbolic_link(home / "control.sock", victim)
    server = await ControlServer.start(home / "control.sock", {})
    assert (home / "control.sock").is_socket()
    await server.close()
    assert victim.stat().st_size == len(VICTIM)  # noqa: ASYNC240


@pytest.mark.parametrize("library", [iam_files, peer_files])
def test_a_path_that_is_not_a_regular_file_is_refused_without_blocking(
    library: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            library.open_own(path, os.O_RDONLY)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_user_is_refused(name: str, home: Path) -> None:
    offline.init(paths(home), name="kitchen", force=False)
    (home / name).touch(mode=0o600)
    os.chown(home / name, OTHER, OTHER)
    with pytest.raises((StoreError, IdentityError), match="another user"):
        status(home)


# ---------------------------------------------------------------------------------- root's verbs


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """The state folder of a service that is not root; all users may enter the parent folders."""
    above = Path(tempfile.mkdtemp(prefix="handfast-"))
    above.chmod(0o755)
    folder = above / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, OTHER, OTHER)
    yield folder
    shutil.rmtree(above)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.iterdir()}


@pytest.mark.needs_root
async def test_verbs_run_by_root_create_only_files_of_the_service(service_folder: Path) -> None:
    for verb in (
        ["init", "--name", "kitchen"],
        ["users", "add", "olga", "--role", "owner", "--key", "ab" * 32],
        ["label"],
        ["invite", "mia"],
        ["status"],
        ["events"],
        ["fingerprint"],
        ["restore", str(service_folder / "device.db"), "--yes"],
        ["policy", "list"],
        ["reset", "--yes"],
    ):
        result = await run_process(service_folder, *verb)
        assert result.code == 0, (verb, result)
        assert owners(service_folder) == {OTHER}, verb

    def as_the_service() -> None:
        os.setgroups([])
        os.setresgid(OTHER, OTHER, OTHER)
        os.setresuid(OTHER, OTHER, OTHER)
        Identity.load(service_folder / "device-key.pem")
        with closing(Store.open(service_folder / "device.db")) as store:
            store.commit(store.state, attempts={"n": 1})

    assert in_child(as_the_service) == 0


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["device.db.lock", "device.db.new", "device.db-shm"])
def test_root_follows_no_link_that_the_service_created(
    name: str, service_folder: Path, victim: Path
) -> None:
    symbolic_link(service_folder / name, victim)
    try:
        offline.init(paths(service_folder), name="kitchen", force=False)
    except StoreError as error:
        assert "link" in str(error)  # noqa: PT017
    assert victim.read_bytes() == VICTIM
    assert victim.stat().st_uid == 0
    assert os.geteuid() == 0  # the effective user is root again


@pytest.mark.needs_root
@pytest.mark.parametrize("is_readable", [True, False])
def test_a_daemon_started_by_root_runs_as_the_owner_of_its_folder(
    service_folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_readable: bool
) -> None:
    """Runs in a child process, since it drops root; `is_readable`: that user can read Python."""
    where = Paths(service_folder, service_folder, service_folder / "run")

    def run_daemon() -> None:
        monkeypatch.setattr(os, "access", lambda *_: is_readable)
        with (
            pytest.raises(AppError, match="cannot read this Python")
            if not is_readable
            else nullcontext()
        ):
            daemon.protect(where)
        assert os.getresuid() == os.getresgid()[:3] == (OTHER, OTHER, OTHER)
        Identity.load_or_create(where.key)
        Store.open(where.store).close()
        assert (service_folder / "run").stat().st_uid == OTHER
        with pytest.raises(PermissionError):
            os.seteuid(0)

    assert in_child(run_daemon) == 0
    assert owners(service_folder) == {OTHER}


def in_child(work: Callable[[], None]) -> int:
    """Run a function in a forked process; returns the exit code."""
    if not (pid := os.fork()):
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -------------------------------------------------------------------------- memory and SIGHUP

PROBE = """
import ctypes
from pathlib import Path

def resources(board):
    PR_GET_DUMPABLE = 3
    Path({path!r}).write_text(str(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)))
    return []
"""


async def test_no_other_process_can_read_the_memory_of_the_daemon(kit: Kit, tmp_path: Path) -> None:
    written = tmp_path / "written"
    (kit.home / "modules").mkdir(parents=True)
    (kit.home / "modules" / "probe.py").write_text(PROBE.format(path=str(written)))
    (kit.home / "device.toml").write_text('[resources]\nmodules = ["probe"]\n')
    process = await kit.daemon()
    assert written.read_text() == "0"
    assert await process.stop() == 0


EARLY = """
import os, signal, sys

class Early:
    \"\"\"Sends SIGHUP to its own process before each import of a module of the product.\"\"\"

    def find_spec(self, name, path=None, target=None):
        ours = name.startswith(("device_app.", "iam", "peer", "click", "zeroconf"))
        if ours and name != "device_app.__main__":
            os.kill(os.getpid(), signal.SIGHUP)

if "device_app" in " ".join(sys.orig_argv) and "run" in sys.orig_argv:
    sys.meta_path.insert(0, Early())
"""


async def test_sighup_during_the_start_does_not_end_the_daemon(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(EARLY)
    path = f"{tmp_path / 'early'}:{environment()['PYTHONPATH']}"
    process = await kit.daemon(env={"PYTHONPATH": path})
    assert (await process.json("status"))["running"]
    assert await process.stop() == 0


def attributes(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of everything below the folders."""
    found = {}
    for path in (each for folder in folders for each in (folder, *folder.rglob("*"))):
        seen = path.lstat()
        found[str(path)] = (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777)
    return found


@pytest.mark.needs_root
def test_root_keeps_owner_and_mode_of_each_file_that_it_replaces(
    service_folder: Path, tmp_path: Path
) -> None:
    """Settings belong to root and the group of the service; the service may read and not write."""
    config = service_folder.parent / "config"
    folders = {"STATE_DIRECTORY": str(service_folder), "CONFIGURATION_DIRECTORY": str(config)}
    env = folders | {"RUNTIME_DIRECTORY": str(service_folder.parent / "run")}
    policy = config / "policy.d" / "nabto.toml"
    nabto = ["policy", "import-nabto", str(NABTO), "--out", str(policy)]

    def run(*words: str) -> None:
        done = CliRunner().invoke(main, words, env=env)
        assert done.exit_code == 0, (words, done.stderr)

    run("init", "--name", "kitchen")
    run(*nabto)
    for path in (config / "device.toml", policy):
        os.chown(path, 0, OTHER)
        path.chmod(0o640)
    for name in ("device.db", "device.db.mark"):
        (service_folder / name).chmod(0o640)
    before = attributes(service_folder, config)
    copy = tmp_path / "copy.db"
    copy.write_bytes((service_folder / "device.db").read_bytes())
    for verb in (
        ["users", "add", "olga", "--role", "owner", "--key", "ab" * 32],
        ["label"],
        ["clock", "--trust-system"],
        ["init", "--force", "--name", "attic"],
        [*nabto, "--force"],
        ["restore", str(copy), "--yes"],
        ["reset", "--yes", "--keep-identity"],
        ["reset", "--yes"],
    ):
        run(*verb)
        now = attributes(service_folder, config)
        assert {path: now[path] for path in before} == before, verb
        assert {owner for path, (owner, *_) in now.items() if "/state/" in path} == {OTHER}, verb
    (service_folder / "device.db").write_bytes(b"damaged")
    run("status")
    found = attributes(service_folder, config)
    assert {path: found[path] for path in before} == before


@pytest.mark.needs_root
def test_the_settings_that_root_creates_can_be_read_by_the_service(
    service_folder: Path,
) -> None:
    """Also if root's umask is strict."""
    config = service_folder.parent / "config"
    before = os.umask(0o077)
    try:
        offline.init(Paths(config, service_folder, config), name="kitchen", force=False)
        write_policy(config / "policy.d" / "nabto.toml", "", force=False)
    finally:
        os.umask(before)

    def as_the_service() -> None:
        os.setgroups([])
        os.setresgid(OTHER, OTHER, OTHER)
        os.setresuid(OTHER, OTHER, OTHER)
        assert "kitchen" in (config / "device.toml").read_text()
        assert (config / "policy.d" / "nabto.toml").exists()

    assert in_child(as_the_service) == 0
