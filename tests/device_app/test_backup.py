"""`backup` and `restore`: consistent while the device changes, and honest about what comes back."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.access_control import AccessControl
from device_app.access.clock import SystemClocks
from device_app.console import backup, incoming, restore
from device_app.console.backup_note import BackupNote
from device_app.console.sealed_backup import RANDOM_BYTES, SealedBackup
from device_app.errors import AppError
from device_app.settings.paths import Paths
from iam import backup as store_backup
from iam import mark, restored_rows, salvage
from iam.access import Access
from iam.audit import AuditTrail, Event
from iam.model import Key, State, User
from iam.store import Store
from peer.errors import Malformed
from peer.identity import Identity
from tests.kit import former_backups
from tests.kit.daemon import run
from tests.kit.waiting import block_until

if TYPE_CHECKING:
    from iam.schema import Content
    from tests.kit.device import Kit
    from tests.kit.process import Result

WORDS = "four random words here"
EVENT = Event(kind="user-added", boot="b", monotonic=1.0, wall=2.0)


@pytest.fixture
def words(tmp_path: Path) -> str:
    """The file with the passphrase."""
    path = tmp_path / "words"
    path.write_text(f"{WORDS}\n")
    return str(path)


def paths(home: Path) -> Paths:
    return Paths(home, home, home)


def user(number: int, role: str = "owner") -> User:
    return User(f"user-{number}", role, (Key(f"{number:064x}", "", "given"),))


async def device_with_users(home: Path, count: int) -> None:
    assert (await run(home, "init", "--name", "kitchen")).code == 0
    for number in range(count):
        added = ("add", f"user-{number}", "--role", "owner", "--key", f"{number:064x}")
        assert (await run(home, "users", *added)).code == 0


async def names(home: Path) -> list[str]:
    return [one["name"] for one in value(await run(home, "--json", "users", "list"))["users"]]


def value(result: Result) -> Any:
    assert result.code == 0, result.err
    return result.value


# ---------------------------------------------------------------------------------------- the copy


@pytest.mark.usefixtures("quick_scrypt")
def test_each_backup_during_changes_is_a_state_that_was_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both users of a change are in a backup, or neither, and what was removed is not."""
    monkeypatch.setattr(backup, "BACKUP_TRIES", 1000)  # a busy disk takes seconds for a change
    path = tmp_path / "device.db"
    Store.open(path).close()
    committed, enough = [0], threading.Event()

    def change() -> None:
        with closing(Store.open(path)) as store:
            for number in itertools.count(2, 2):
                store.commit(State.of((user(0), user(number), user(number + 1))), EVENT)
                committed[0] = number
                if enough.is_set():
                    return

    writer = threading.Thread(target=change)
    writer.start()
    states = {0}
    try:
        Identity.create().save(tmp_path / "device-key.pem")
        for number in range(12):
            block_until(lambda: committed[0] > max(states))
            made = backup.make(
                paths(tmp_path),
                name="kitchen",
                now=0,
                modules=(),
                passphrase=WORDS,
                random_bytes=bytes(RANDOM_BYTES),
            )
            file = tmp_path / f"{number}.backup"
            backup.write(made, file, force=False)
            copy = tmp_path / f"{number}.db"
            copy.write_bytes(SealedBackup.read_untrusted(file).opened(WORDS).store)
            content = salvage.read_copy(copy)
            assert content.is_sealed
            with closing(sqlite3.connect(copy)) as db:
                assert AuditTrail(db, keep=0).verify() is None
            names = sorted(restored_rows.state_of(content.rows).users)
            numbers = sorted(int(name.partition("-")[2]) for name in names)
            assert numbers == [0, numbers[1], numbers[1] + 1]
            states.add(numbers[1])
    finally:
        enough.set()
        writer.join()
    assert len(states) == 1 + 12, "the store was not changed meanwhile"


def test_a_store_that_differs_from_its_mark_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "device.db"
    with closing(Store.open(path)) as store:
        store.commit(State.of((user(1),)))
        before = mark.path_of(path).read_bytes()
        store.commit(State.of((user(2),)))
    mark.path_of(path).write_bytes(before)
    with pytest.raises(store_backup.ChangesNow, match="its mark differ"):
        store_backup.copy_of(path, "")
    mark.path_of(path).unlink()
    with pytest.raises(store_backup.ChangesNow):
        store_backup.copy_of(path, "")


async def test_a_copy_is_read_once_to_be_compared_and_restored(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The users put in force are those whose digest a person has compared."""
    await device_with_users(kit.home, 2)
    former_backups.write(kit.home, tmp_path / "kitchen.backup")
    file = str(tmp_path / "kitchen.backup")
    with closing(Store.open(paths(kit.home).store)) as store:
        access = AccessControl.create(store, Access(), SystemClocks())
        seen = restore.show(access, file, name=None, device=None)
        store.commit(State.of([user(5)]))
        read: list[Path] = []
        real = salvage.read_copy

        def noted(path: Path) -> Content:
            content = real(path)
            read.append(path)
            path.unlink()
            return content

        monkeypatch.setattr(salvage, "read_copy", noted)
        with pytest.raises(AppError, match="there is no file"):
            restore.restore(access, f"{file}.other", seen["total"], name=None, device=None)
        answer = restore.restore(access, file, seen["total"], name=None, device=None)
        assert answer["restored"]
        assert sorted(store.state.users) == ["user-0", "user-1"]
    assert read == [Path(file)]


def test_what_was_deleted_is_not_in_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "device.db"
    with closing(Store.open(path)) as store:
        store.commit(State.of((User("gone-for-good", "owner", (Key("ab" * 32, "", "given"),)),)))
        store.commit(State.of((user(1),)))
        content, _ = store_backup.copy_of(path, "note")
    assert b"gone-for-good" not in content
    assert b"user-1" in content


@pytest.mark.parametrize("is_running", [True, False], ids=["daemon", "files"])
@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "former"])
async def test_a_backup_brings_back_who_was_removed_and_says_so(
    kit: Kit, tmp_path: Path, words: str, is_running: bool, is_sealed: bool
) -> None:
    """Restoring asks, shows who comes back and who is lost, and agrees with the mark."""
    await device_with_users(kit.home, 2)
    daemon = await kit.daemon() if is_running else None
    file = str(tmp_path / "kitchen.backup")
    options = ["--users-only", "--passphrase-file", words] if is_sealed else []
    if is_sealed:
        made = await run(kit.home, "--json", "backup", "--passphrase-file", words, file)
        view = value(made)["backup"]
        assert (view["users"], view["keys"], view["has_key"]) == (2, 2, True)
        assert os.stat(file).st_mode & 0o777 == 0o600  # noqa: PTH116 - Path blocks as well
    else:
        former_backups.write(kit.home, Path(file))
    await run(kit.home, "users", "remove", "user-1")
    await run(kit.home, "users", "add", "eve", "--key", "ee" * 32)
    asked = await run(kit.home, "restore", *options, file)
    assert asked.code == 2
    assert "--yes" in asked.err
    shown = asked.err.splitlines()
    back, lost = shown.index("Comes back:"), shown.index("Is lost:")
    assert "+ user user-1: owner  (removed 2" in shown[back + 1]
    assert "(removed 2" in shown[back + 2]
    assert shown[lost + 1].strip() == "- user eve: guest"
    assert await names(kit.home) == [
        "eve",
        "user-0",
    ]
    restored = value(await run(kit.home, "--json", "restore", *options, file, "--yes"))
    assert restored["copy"] == file
    assert restored["backup"]["is_this"]
    if daemon is not None:
        await daemon.until("ready\n", times=2)
    assert await names(kit.home) == [
        "user-0",
        "user-1",
    ]
    if daemon is not None:
        await daemon.stop()
    assert not list(kit.home.glob("*.incoming*"))
    status = value(await run(kit.home, "--json", "status"))
    assert status["store"]["recovery"] is None, "store and mark agree at the next start"
    assert (await run(kit.home, "events", "--verify")).code == 0


async def test_a_backup_of_another_device_is_named(kit: Kit, tmp_path: Path) -> None:
    await device_with_users(kit.home, 1)
    former_backups.write(kit.home, tmp_path / "kitchen.backup")
    assert (await run(tmp_path / "attic", "init", "--name", "attic")).code == 0
    shown = await run(tmp_path / "attic", "restore", str(tmp_path / "kitchen.backup"))
    assert "on kitchen (" in shown.err
    assert "This is a backup of another device" in shown.err


async def test_a_file_is_replaced_only_if_that_is_asked_for(
    kit: Kit, tmp_path: Path, words: str
) -> None:
    await device_with_users(kit.home, 1)
    file = tmp_path / "kitchen.backup"
    file.write_text("precious")
    given = ("--passphrase-file", words)
    refused = await run(kit.home, "backup", *given, str(file))
    assert (refused.code, file.read_text()) == (2, "precious")
    assert (await run(kit.home, "backup", *given, "--force", str(file))).code == 0
    missing = await run(kit.home, "backup", *given, str(tmp_path / "missing" / "x.backup"))
    assert missing.code == 1
    assert "cannot be written" in missing.err


async def test_what_is_no_backup_is_refused_and_leaves_nothing(kit: Kit, tmp_path: Path) -> None:
    await device_with_users(kit.home, 1)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, code in (("text", 6), ("folder", 2), ("missing", 2)):
        refused = await run(kit.home, "restore", str(tmp_path / name), "--yes")
        assert refused.code == code, refused
        assert str(tmp_path / name) in refused.err
        assert "incoming" not in refused.err
    assert not list(kit.home.glob("*.incoming*"))


def test_a_copy_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(tmp_path / "device.db").close()
    monkeypatch.setattr(incoming, "BACKUP_BYTES_MAX", 10)
    (tmp_path / "long").write_bytes(bytes(11))
    with (
        pytest.raises(AppError, match="longer than 10 bytes"),
        incoming.copied(tmp_path / "long", tmp_path / "device.db"),
    ):
        pass
    assert not list(tmp_path.glob("*.incoming*"))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        '{"schema": 1}',
        '{"schema": 2, "fingerprint": "' + "ab" * 32 + '", "name": "k"}',
        '{"schema": 1, "fingerprint": "ab", "name": "k"}',
        '{"schema": 1, "fingerprint": "' + "ab" * 32 + '", "name": "\\u001b[31m"}',
        '{"schema": true, "fingerprint": "' + "ab" * 32 + '", "name": "k"}',
    ],
)
def test_a_note_that_is_damaged_is_refused(note: str) -> None:
    with pytest.raises(Malformed):
        BackupNote.parse_untrusted(note)


def test_a_note_that_is_too_long_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE backup (note)")
        db.execute("INSERT INTO backup VALUES (?)", ("x" * 9000,))
        db.commit()
    assert store_backup.note_untrusted(file) is None
    assert store_backup.note_untrusted(tmp_path / "missing") is None
