"""`restore` of a whole device: all of it or nothing, and no users by mistake."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.device_restore import merged_attempts
from iam.model import State
from iam.staged_store import Present
from iam.store import Store
from peer.identity import Identity
from tests.kit import former_backups
from tests.kit.daemon import run

if TYPE_CHECKING:
    from tests.kit.device import Kit
    from tests.kit.process import Result

WORDS = "four random words here"
POLICY = '[policies.none]\nstatements = [{effect = "deny", actions = ["Hello:Get"]}]\n'

pytestmark = pytest.mark.usefixtures("quick_scrypt")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The options with the passphrase."""
    path = tmp_path / "words"
    path.write_text(WORDS)
    return ["--passphrase-file", str(path)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "kitchen.backup")


def value(result: Result) -> Any:
    assert result.code == 0, result.err
    return result.value


async def new_device(home: Path, *users: str, name: str = "kitchen") -> None:
    assert (await run(home, "init", "--name", name)).code == 0
    for number, user in enumerate(users):
        key = f"{number:032x}{name.encode().hex():0>32}"
        value(await run(home, "--json", "users", "add", user, "--role", "owner", "--key", key))


def fingerprint(home: Path) -> str:
    return Identity.load(home / "device-key.pem").fingerprint.hex


async def names(home: Path) -> list[str]:
    return [one["name"] for one in value(await run(home, "--json", "users", "list"))["users"]]


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder, but the lock and SQLite's index of the log."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", "-shm"))
    }


async def test_a_new_board_becomes_the_device_of_the_backup(
    kit: Kit, tmp_path: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna", "bert")
    (kit.home / "device.d").mkdir()
    (kit.home / "device.d" / "10.toml").write_text("[limits]\nusers = 7\n")
    (kit.home / "policy.d").mkdir()
    (kit.home / "policy.d" / "a.toml").write_text("# nothing\n")
    value(await run(kit.home, "--json", "invite", "eve"))
    made = value(await run(kit.home, "--json", "backup", *words, file))["backup"]
    assert made["settings"] == ["device.toml", "device.d/10.toml"]
    assert made["policies"] == ["a.toml"]
    board = tmp_path / "board"
    asked = await run(board, "restore", *words, file)
    assert asked.code == 2
    assert not (board / "device-key.pem").exists()
    for shown in ("user anna: owner", "key 0000 0000", "Withdrawn: 1 invite", "policy.d/a.toml"):
        assert shown in asked.err
    restored = value(await run(board, "--json", "restore", *words, "--yes", file))
    assert restored["restored"]
    assert [one["name"] for one in restored["users"]] == ["anna", "bert"]
    assert fingerprint(board) == fingerprint(kit.home)
    assert (board / "device.d" / "10.toml").read_text() == "[limits]\nusers = 7\n"
    assert (board / "policy.d" / "a.toml").read_text() == "# nothing\n"
    assert stat.S_IMODE((board / "device-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((board / "device.db").stat().st_mode) == 0o600
    assert await names(board) == ["anna", "bert"]
    with closing(Store.open(board / "device.db")) as store:
        assert (store.recovery, store.had_owner, dict(store.state.invites)) == (None, True, {})
        assert store.audit.verify() is None
        [event] = store.audit.latest(1)
        before = store.audit.latest(2)[0]
        assert (event.event.kind, event.previous) == ("restored", before.digest)
        assert f"event {before.seq} {before.digest}" in event.event.result
        assert event.event.fingerprint == fingerprint(board)
    assert not [path.name for path in board.iterdir() if "restore" in path.name]


async def test_users_are_replaced_only_if_that_is_asked_for(
    kit: Kit, tmp_path: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    board = tmp_path / "board"
    await new_device(board, "carl", name="attic")
    (board / "policy.d").mkdir()
    (board / "policy.d" / "own.toml").write_text("# own\n")
    before, was = snapshot(board), fingerprint(board)
    refused = await run(board, "restore", *words, "--yes", file)
    assert refused.code == 2
    assert "--replace" in refused.err
    assert snapshot(board) == before
    restored = value(await run(board, "--json", "restore", *words, "--replace", "--yes", file))
    assert {one["change"] for one in restored["changes"]} == {"added", "removed"}
    assert await names(board) == ["anna"]
    assert fingerprint(board) == fingerprint(kit.home) != was
    assert (board / "device.toml.before-restore").read_bytes() == before["device.toml"]
    assert (board / "policy.d" / "own.toml.before-restore").read_text() == "# own\n"
    assert not (board / "policy.d" / "own.toml").exists()
    with closing(Store.open(board / "device.db")) as store:  # no event of the other device
        assert [record.event.kind for record in store.audit.iterate()] == ["user-added", "restored"]
    with closing(Store.open(Path(restored["replaced"]))) as store:
        assert list(store.state.users) == ["carl"]
    assert Path(restored["replaced"]).name == "device.db.before-restore"
    value(await run(board, "--json", "reset", "--yes"))
    files = snapshot(board)
    del files["device-key.pem"]  # its base64 text may contain any short word
    left = b"".join(files.values())
    assert b"carl" not in left
    assert b"anna" not in left


async def test_a_board_with_a_key_and_no_users_is_replaced_at_once(
    kit: Kit, tmp_path: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    board = tmp_path / "board"
    await new_device(board, name="attic")
    value(await run(board, "--json", "restore", *words, "--yes", file))
    assert fingerprint(board) == fingerprint(kit.home)


async def test_a_running_daemon_is_not_replaced_and_says_what_to_do(
    kit: Kit, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    daemon = await kit.daemon()
    refused = await daemon.run("restore", *words, "--replace", "--yes", file)
    assert refused.code == 1
    assert "Stop it" in refused.err
    assert "--users-only" in refused.err
    assert daemon.is_running
    await daemon.stop()
    with closing(Store.open(kit.home / "device.db")):  # another command
        busy = await run(kit.home, "restore", *words, "--replace", "--yes", file)
    assert busy.code == 1
    assert "in use by process" in busy.err
    value(await run(kit.home, "--json", "restore", *words, "--replace", "--yes", file))


async def test_the_trail_of_the_same_device_goes_on(kit: Kit, words: list[str], file: str) -> None:
    """Events after the backup are kept, and it is told who comes back and who had removed them."""
    await new_device(kit.home, "anna", "bert")
    value(await run(kit.home, "--json", "backup", *words, file))
    value(await run(kit.home, "--json", "users", "remove", "bert"))
    asked = await run(kit.home, "restore", *words, "--replace", file)
    assert "+ user bert: owner  (removed 2" in asked.err
    value(await run(kit.home, "--json", "restore", *words, "--replace", "--yes", file))
    with closing(Store.open(kit.home / "device.db")) as store:
        kinds = [record.event.kind for record in store.audit.iterate()]
        assert kinds == ["user-added", "user-added", "user-removed", "restored"]
        assert store.audit.verify() is None
        assert sorted(store.state.users) == ["anna", "bert"]


def spoil(file: Path, words: Path, fault: str) -> None:
    data = bytearray(file.read_bytes())
    if fault == "passphrase":
        words.write_text("quite other words")
    elif fault == "byte":
        data[-20] ^= 1
    elif fault == "cut":
        del data[-1]
    else:
        data[0] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("fault", ["passphrase", "byte", "cut", "no backup"])
async def test_what_cannot_be_opened_changes_nothing(
    kit: Kit, tmp_path: Path, words: list[str], file: str, fault: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    spoil(Path(file), Path(words[1]), fault)
    before = snapshot(kit.home)
    board = tmp_path / "board"
    for home in (kit.home, board):
        refused = await run(home, "restore", *words, "--replace", "--yes", file)
        assert refused.code == 6, refused
        assert refused.err
    assert snapshot(kit.home) == before
    assert not board.exists()


async def test_a_plain_copy_replaces_the_store_of_a_later_version(kit: Kit, tmp_path: Path) -> None:
    """The way back after an upgrade: the copy that the migration has made."""
    await new_device(kit.home, "anna")
    copy = tmp_path / "device.db.v4"
    former_backups.write(kit.home, copy)
    with closing(sqlite3.connect(kit.home / "device.db")) as db:
        db.execute("PRAGMA user_version = 99")
    (kit.home / "device.db.mark").unlink()
    too_new = await run(kit.home, "restore", "--yes", str(copy))
    assert "schema 99" in too_new.err
    refused = await run(kit.home, "restore", "--with-key", "--yes", str(copy))
    assert refused.code == 1
    value(await run(kit.home, "--json", "restore", "--replace", "--yes", str(copy)))
    assert await names(kit.home) == ["anna"]


def test_attempts_are_never_fewer_than_before() -> None:
    def present(**attempts: object) -> Present:
        return Present(State.of(()), attempts, 0.0)

    few, many = {"failures": 2, "remaining": 0.0}, {"failures": 11, "remaining": 60.0}
    damaged = {"failures": "none"}
    assert merged_attempts({"pairing": few}, present(pairing=many))["pairing"] == many
    assert merged_attempts({"pairing": many}, present(pairing=few))["pairing"] == many
    assert merged_attempts({"pairing": many}, present(pairing=damaged))["pairing"] == damaged
    assert merged_attempts({}, present(pairing=many))["pairing"] == many
    assert merged_attempts({"pairing": few}, None)["pairing"] == few
    assert merged_attempts({"pairing": few}, Present(State.of(()), None, 0.0))["pairing"] == few
    label = {"token": "ab", "code": "cd", "failures": 1}
    for before, kept in (({**label, "failures": 9}, 9), ({**label, "token": "ff"}, 1)):
        merged = merged_attempts({"label": label}, present(label=before))
        assert merged["label"] == {**label, "failures": kept}


async def test_a_link_in_the_folder_of_settings_is_replaced_and_not_followed(
    kit: Kit, tmp_path: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    (kit.home / "policy.d").mkdir()
    (kit.home / "policy.d" / "a.toml").write_text("# of the backup\n")
    value(await run(kit.home, "--json", "backup", *words, file))
    board, victim = tmp_path / "board", tmp_path / "victim"
    board.mkdir()
    (board / "policy.d").mkdir()
    for name in ("device.toml", "device-key.pem", "policy.d/a.toml", "restore.new"):
        (board / name).symlink_to(victim)
    victim.write_text("# precious\n")
    value(await run(board, "--json", "restore", *words, "--yes", file))
    assert victim.read_text() == "# precious\n"
    assert fingerprint(board) == fingerprint(kit.home)
    assert not (board / "policy.d" / "a.toml").is_symlink()


async def test_a_folder_with_the_name_of_a_file_is_found_before_anything_changes(
    kit: Kit, tmp_path: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    board = tmp_path / "board"
    (board / "device.toml").mkdir(parents=True)
    refused = await run(board, "restore", *words, "--yes", file)
    assert refused.code == 1
    assert "is a folder" in refused.err
    assert not (board / "device-key.pem").exists()


OTHER = 65534


def stats(folder: Path) -> dict[str, os.stat_result]:
    return {path.name: path.stat() for path in folder.iterdir()}


@pytest.fixture
def service() -> Iterator[Path]:
    """A state folder of another user, in a folder that all users may enter."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    found = folder / "state"
    found.mkdir(mode=0o700)
    os.chown(found, OTHER, OTHER)
    yield found
    shutil.rmtree(folder)


@pytest.mark.needs_root
async def test_files_that_root_restores_belong_to_the_service(
    kit: Kit, service: Path, words: list[str], file: str
) -> None:
    await new_device(kit.home, "anna")
    value(await run(kit.home, "--json", "backup", *words, file))
    value(await run(service, "--json", "restore", *words, "--yes", file))
    value(await run(service, "--json", "restore", *words, "--replace", "--yes", file))
    found = stats(service)
    assert {"device.db", "device.db.mark", "device-key.pem", "device.toml"} <= set(found)
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(OTHER, OTHER)}
    secret = [found[name].st_mode & 0o777 for name in found if not name.startswith("device.toml")]
    assert set(secret) == {0o600}
