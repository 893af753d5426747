"""A power cut at any step of a restore leaves the old or the new device, and never half of each."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.console import backup as backups
from device_app.console import device_restore, pending_restore
from device_app.console.backup_note import BackupNote
from device_app.console.device_restore import Restoration
from device_app.console.interrupted_restore import finish_interrupted
from device_app.console.sealed_backup import RANDOM_BYTES, SealedBackup
from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError
from device_app.settings.paths import Paths
from iam import backup, mark
from iam.model import Key, State, User
from iam.store import Store
from peer.identity import Identity
from tests.kit.daemon import run

if TYPE_CHECKING:
    from collections.abc import Callable

#: The steps that change a name or open a file, as Python reports them (sys.addaudithook).
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "sqlite3.connect"}


def paths_of(folder: Path) -> Paths:
    return Paths(folder / "config", folder / "state", folder / "run")


def make_device(paths: Paths, name: str) -> None:
    """Create a device whose key, store, settings and policies all have this name."""
    (paths.config / "policy.d").mkdir(parents=True)
    paths.config_file.write_text(f"name = '{name}'\n")
    (paths.policies / "all.toml").write_text(f"# {name}\n")
    (paths.policies / f"{name}.toml").write_text(f"# {name}\n")
    Identity.create().save(paths.key)
    with closing(Store.open(paths.store)) as store:
        key = Key(name.encode().hex().rjust(64, "0"), "", "given")
        store.commit(State.of((User(name, "owner", (key,)),)))


def device_at(paths: Paths) -> dict[str, set[str]]:
    """Each part of a device, by the name or key that it has."""
    with closing(Store.open(paths.store)) as store:
        assert store.recovery is None
        assert store.audit.verify() is None
        users = set(store.state.users)
    settings = SettingsFiles.read(paths)
    texts = {*settings.config.values(), *settings.policies.values()}
    return {
        "users": users,
        "key": {Identity.load(paths.key).fingerprint.hex},
        "texts": texts,
        "files": set(settings.policies),
    }


@pytest.fixture
def old(tmp_path: Path) -> Paths:
    paths = paths_of(tmp_path / "old")
    make_device(paths, "old")
    return paths


@pytest.fixture
def restoration(tmp_path: Path) -> Restoration:
    paths = paths_of(tmp_path / "new")
    make_device(paths, "new")
    identity = Identity.load(paths.key)
    note = BackupNote("new", identity.fingerprint, 1_700_000_000)
    store, _ = backup.copy_of(paths.store, note.text("1"))
    return Restoration(tmp_path / "file", store, identity, SettingsFiles.read(paths))


def restore(paths: Paths, restoration: Restoration) -> None:
    with device_restore.checked(paths, restoration, replace=True) as ready:
        device_restore.restore_device(paths, ready)


def killed(last: int, act: Callable[[], None]) -> bool:
    """Run something in a process of its own that is killed before a step; true if it was."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False
    seen = 0

    def step(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        is_write = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
        if is_write or event in STEPS:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(step)
        act()
        os._exit(0)
    finally:
        os._exit(1)


def contents_of(paths: Paths) -> dict[str, bytes]:
    """The files of a device: what a start reads."""
    folders = (paths.config, paths.policies, paths.state)
    found = (path for folder in folders for path in folder.iterdir() if path.is_file())
    return {
        path.name: path.read_bytes()
        for path in found
        if path.suffix in {".toml", ".pem", ".db", ".mark"} and "before-restore" not in path.name
    }


@pytest.fixture
def copies(
    tmp_path: Path, old: Paths, restoration: Restoration, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Paths]:
    """Return a new copy of the device `old` at each call.

    Killing a process does not lose what it wrote, so there is no need to wait for the disk. The new
    store is created once: until it is in place, no start reads it.
    """
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    shutil.copytree(old.state.parent, tmp_path / "prepared")
    prepared = paths_of(tmp_path / "prepared")
    store = prepared.restore_steps / "device.db"
    with monkeypatch.context() as patch:
        patch.setattr(pending_restore, "finish", lambda _paths: None)
        restore(prepared, restoration)
    made = {path: path.read_bytes() for path in (store, mark.path_of(store))}

    def stage(path: Path, *_more: object) -> None:
        for one, content in made.items():
            (path.parent / one.name).write_bytes(content)

    monkeypatch.setattr(device_restore, "stage", stage)
    board = tmp_path / "board"

    def copy() -> Paths:
        shutil.rmtree(board, ignore_errors=True)
        shutil.copytree(tmp_path / "old", board)
        return paths_of(board)

    return copy


def test_a_power_cut_at_any_step_leaves_one_device(
    tmp_path: Path, copies: Callable[[], Paths], old: Paths, restoration: Restoration
) -> None:
    before = contents_of(old)
    restore(board := copies(), restoration)
    becomes = contents_of(board)
    assert device_at(board) == device_at(paths_of(tmp_path / "new"))
    decided = 0
    for last in range(1, 1000):
        board = copies()
        was_killed = killed(last, lambda board=board: restore(board, restoration))  # type: ignore[misc]
        is_decided = board.restore_steps.exists() or not was_killed
        assert is_decided or contents_of(board) == before or decided, last
        finish_interrupted(board)
        if is_decided or decided:
            assert contents_of(board).items() >= becomes.items(), last
            assert "old.toml" not in contents_of(board), last
            decided += 1
        else:
            assert contents_of(board) == before, last
        assert not board.restore_steps.exists()
        assert not board.restore_draft.exists()
        assert not (board.config / "restore.pending").exists()
        if not was_killed:
            break
    assert decided > 20
    assert last - decided > 10


def test_a_second_power_cut_while_the_first_is_mended_leaves_the_new_device(
    copies: Callable[[], Paths],
    old: Paths,
    restoration: Restoration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pending_restore, "finish", lambda _paths: None)
        restore(old, restoration)
    assert old.restore_steps.exists()
    for last in range(1, 200):
        board = copies()
        was_killed = killed(last, lambda board=board: finish_interrupted(board))  # type: ignore[misc]
        finish_interrupted(board)
        found = contents_of(board)
        assert found["device.toml"] == b"name = 'new'\n"
        assert found["device-key.pem"] == restoration.identity.key_pem()  # type: ignore[union-attr]
        assert b"new" in found["device.db"]
        assert {"all.toml", "new.toml"} <= set(found)
        assert "old.toml" not in found
        if not was_killed:
            break
    assert last > 10


async def test_the_next_command_finishes_a_restore(
    tmp_path: Path, restoration: Restoration, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(pending_restore, "finish", lambda _paths: None)
        restore(Paths(home, home, home), restoration)
    assert not (home / "device-key.pem").exists()
    shown = await run(home, "--json", "status")
    assert shown.value["user_count"] == 1
    assert shown.value["name"] == "new"
    assert not (home / "restore.steps").exists()


def test_no_file_in_the_state_folder_changes_the_settings(tmp_path: Path, old: Paths) -> None:
    """The daemon's user may write there, and the settings belong to root."""
    made = tmp_path / "made"
    settings = SettingsFiles({"device.toml": "name = 'evil'\n"}, {})
    made_paths = paths_of(made)
    make_device(made_paths, "evil")

    def store(path: Path) -> None:
        with closing(Store.open(path)):
            pass

    pending_restore.prepare(made_paths, identity=None, settings=settings, make_store=store)
    shutil.copytree(made_paths.restore_steps, old.restore_steps)
    (old.config / "restore.pending").write_bytes(b"of an earlier restore")
    with pytest.raises(AppError, match="another restore"):
        finish_interrupted(old)
    (old.config / "restore.pending").unlink()
    finish_interrupted(old)
    assert "evil" not in old.config_file.read_text()


def test_a_restore_that_cannot_be_prepared_changes_nothing(
    old: Paths, restoration: Restoration, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = device_at(old)

    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(device_restore, "stage", full)
        with pytest.raises(AppError, match="No space left"):
            restore(old, restoration)
    finish_interrupted(old)
    assert device_at(old) == was


def test_no_file_of_a_backup_or_a_restore_is_ever_readable_by_others(
    tmp_path: Path, old: Paths
) -> None:
    """With any umask: every file is looked at before each step, in a process of its own."""
    folder = tmp_path / "watched"
    folder.mkdir()
    board = paths_of(folder)

    def act() -> None:
        os.umask(0)
        made = backups.make(
            old,
            name="old",
            now=0,
            modules=(),
            passphrase="four random words here",
            random_bytes=bytes(RANDOM_BYTES),
        )
        backups.write(made, folder / "old.backup", force=False)
        sealed = SealedBackup.read_untrusted(folder / "old.backup")
        contents = sealed.opened("four random words here")
        found = Restoration(folder, contents.store, contents.identity, contents.settings)
        restore(board, found)
        restore(board, found)

    child = os.fork()
    if child == 0:
        seen: set[str] = set()

        def look(event: str, _args: tuple[object, ...]) -> None:
            if event in STEPS or event == "open":
                for path in Path(folder).rglob("*"):
                    is_setting = ".toml" in path.name
                    if path.is_file() and not is_setting:
                        seen.add(path.name)
                        if path.stat().st_mode & 0o077:
                            os.write(2, f"{path} is readable by others\n".encode())
                            os._exit(2)

        try:
            sys.addaudithook(look)
            act()
            os._exit(0 if {"plan", "old.backup"} <= seen else 3)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
