"""The command line finds the daemon with other folders for the control socket than its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.commands import common
from device_app.console import running
from device_app.console.console import Console
from device_app.console.control_client import ControlClient
from device_app.errors import AppError, NoDaemon
from iam import openfile
from iam.store import Store
from tests.kit.daemon import environment
from tests.kit.process import Program, Result
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.device import Kit

SERVICE = 54321  # a user ID without an account


def in_folders(home: Path, run_folder: Path, *words: str) -> Program:
    """`handfast-device` where all folders but the control socket's are one."""
    run_folder.mkdir(mode=0o700, exist_ok=True)
    folders = {
        "CONFIGURATION_DIRECTORY": str(home),
        "STATE_DIRECTORY": str(home),
        "RUNTIME_DIRECTORY": str(run_folder),
    }
    return Program([sys.executable, "-m", "device_app", *words], environment() | folders)


def done_by(program: Program) -> Result:
    try:
        return program.end()
    finally:
        program.close()


def test_a_verb_reaches_the_daemon_of_another_login(tmp_path: Path) -> None:
    """As with two values of `XDG_RUNTIME_DIR`."""
    home, theirs, ours = tmp_path / "home", tmp_path / "a", tmp_path / "b"
    assert done_by(in_folders(home, ours, "init", "--name", "kitchen")).code == 0
    options = ["--port", "0", "--pairing-port", "0", "--listen", "127.0.0.1", "--allow-loopback"]
    daemon = in_folders(home, theirs, "run", *options)
    try:
        daemon.until("ready\n")
        opened = done_by(in_folders(home, ours, "open", "--no-wait"))
        assert opened.code == 0, opened
        (theirs / "control.sock").unlink()
        for words in (["pending"], ["status"]):
            gone = done_by(in_folders(home, ours, *words))
            assert gone.code == 1
            assert f"process {daemon.process.pid} runs this device" in gone.err
            assert f"its control socket {theirs / 'control.sock'} is gone" in gone.err
    finally:
        daemon.close()
    assert done_by(in_folders(home, ours, "pending")).code == 3


async def test_every_kind_of_verb_reaches_the_daemon(kit: Kit, tmp_path: Path) -> None:
    device = await kit.device()
    client = ControlClient(tmp_path / "elsewhere", store=device.app.paths.store)
    assert (await client.do(Console.status))["running"]
    assert not (await client.ask(Console.close))["closed"]
    await client.follow(Console.open, print)
    with pytest.raises(NoDaemon):
        await ControlClient(tmp_path / "elsewhere").do(Console.status)


async def test_a_socket_that_is_gone_is_named(kit: Kit) -> None:
    device = await kit.device()
    path = device.app.paths.socket
    path.unlink()
    with pytest.raises(AppError, match=f"control socket {path} is gone") as caught:
        await ControlClient(path, store=device.app.paths.store).do(Console.status)
    assert not isinstance(caught.value, NoDaemon)


def test_a_lock_file_without_a_daemon_names_none(tmp_path: Path) -> None:
    """A note of a process that has ended, a process that is no daemon, and no lock file."""
    path = tmp_path / "device.db"
    assert running.daemon_of(path) is None
    with closing(Store.open(path)) as store:
        held = openfile.holder(path)
        assert held is not None
        assert held == openfile.Holder(os.getpid(), b"", is_held=True)
        assert running.daemon_of(path) is None
        for note in (b"relative/path", b"/with/a\0zero"):
            store.leave_note(note)
            assert running.daemon_of(path) is None
        store.leave_note(os.fsencode(tmp_path) + b"/\xff\n.sock")
        daemon = running.daemon_of(path)
        assert daemon is not None
        assert os.fsencode(daemon.socket) == os.fsencode(tmp_path) + b"/\xff\n.sock"
    ended = openfile.holder(path)
    assert ended is not None
    assert not ended.is_held
    assert running.daemon_of(path) is None
    (tmp_path / "device.db.lock").write_bytes(b"not a number\n/x")
    assert openfile.holder(path) == openfile.Holder(0, b"/x", is_held=False)
    assert not running.is_expected(path)
    (tmp_path / "device.db.lock").write_bytes(b"%d\nrestarting" % os.getpid())
    assert running.is_expected(path)
    assert running.is_between(path)


async def test_reading_the_lock_file_takes_no_lock(kit: Kit) -> None:
    """A daemon that starts at the same moment must not find the store in use."""
    path = kit.home / "device.db"
    kit.home.mkdir()
    Store.open(path).close()
    for _ in range(20):
        openfile.holder(path)
        Store.open(path).close()


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """The folder of a service that is not root, in a folder that all users may enter."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    state = folder / "state"
    state.mkdir(mode=0o700)
    os.chown(state, SERVICE, SERVICE)
    yield state
    shutil.rmtree(folder)


@pytest.mark.needs_root
async def test_root_follows_the_lock_file_only_where_its_owner_could_go(
    service_folder: Path, tmp_path: Path
) -> None:
    """A service could name the socket of another program, which answers to root alone."""
    asked = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    private = tmp_path / "private.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(private))
    private.chmod(0o600)
    server = await asyncio.start_unix_server(serve, sock=listener)
    path = service_folder / "device.db"
    store = Store.open(path)
    store.leave_note(os.fsencode(private))
    for name in ("device.db", "device.db.lock", "device.db.mark"):
        os.chown(service_folder / name, SERVICE, SERVICE)
    with pytest.raises(AppError, match="belongs to another user"):
        await ControlClient(tmp_path / "elsewhere", store=path).do(Console.status)
    assert not asked.is_set()
    assert os.geteuid() == 0
    server.close()
    store.close()


async def test_a_command_waits_for_a_daemon_that_restarts(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a script that restores a backup and continues."""
    monkeypatch.setattr(common, "DAEMON_START_SECONDS", TIMEOUT_SECONDS)
    daemon = await kit.daemon()
    for _ in range(3):
        assert (await daemon.run("reset", "--yes", "--keep-identity")).code == 0
        for words in (["status"], ["pending"]):
            done = await daemon.run(*words)
            assert done.code == 0, done
