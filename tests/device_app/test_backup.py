"""`backup` and `restore`: consistent while the device changes, and honest about what comes back."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from device_app.cli import main
from device_app.console import backup, incoming, sealed_key
from device_app.console.sealed_key import RANDOM_BYTES, seal, unsealed_untrusted
from device_app.errors import AppError
from device_app.limits import PASSPHRASE_CHARACTERS_MIN
from device_app.settings.paths import Paths
from iam import backup as store_backup
from iam import mark, restored_rows, salvage
from iam.model import Key, State, User
from iam.store import Store
from peer.errors import Malformed, PeerError, UsageError, WrongCode
from peer.identity import Identity
from tests.kit.daemon import run

if TYPE_CHECKING:
    from tests.kit.device import Kit
    from tests.kit.process import Result

WORDS = "four random words here"


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


def test_each_backup_during_changes_is_a_state_that_was_in_force(tmp_path: Path) -> None:
    """Both users of a change are in a backup, or neither, and what was removed is not."""
    path = tmp_path / "device.db"
    Store.open(path).close()
    started, enough = threading.Event(), threading.Event()

    def change() -> None:
        with closing(Store.open(path)) as store:
            for number in range(2, 10_000, 2):
                store.commit(State.of((user(0), user(number), user(number + 1))))
                started.set()
                if enough.is_set():
                    return

    writer = threading.Thread(target=change)
    writer.start()
    started.wait()
    states = set()
    try:
        Identity.create().save(tmp_path / "device-key.pem")
        for number in range(12):
            made = backup.make(
                paths(tmp_path), name="kitchen", now=0, passphrase=None, random_bytes=b""
            )
            file = tmp_path / f"{number}.backup"
            backup.write(made, file, force=False)
            content = salvage.read_copy(file)
            assert content.is_sealed
            names = sorted(restored_rows.state_of(content.rows).users)
            numbers = sorted(int(name.partition("-")[2]) for name in names)
            assert numbers == [0, numbers[1], numbers[1] + 1]
            states.add(numbers[1])
    finally:
        enough.set()
        writer.join()
    assert len(states) > 1, "the store was not changed meanwhile"


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


def test_what_was_deleted_is_not_in_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "device.db"
    with closing(Store.open(path)) as store:
        store.commit(State.of((User("gone-for-good", "owner", (Key("ab" * 32, "", "given"),)),)))
        store.commit(State.of((user(1),)))
        content, _ = store_backup.copy_of(path, "note")
    assert b"gone-for-good" not in content
    assert b"user-1" in content


@pytest.mark.parametrize("is_running", [True, False], ids=["daemon", "files"])
async def test_a_backup_brings_back_who_was_removed_and_says_so(
    kit: Kit, tmp_path: Path, is_running: bool
) -> None:
    """Restoring asks, shows who comes back and who is lost, and agrees with the mark."""
    await device_with_users(kit.home, 2)
    daemon = await kit.daemon() if is_running else None
    file = str(tmp_path / "kitchen.backup")
    view = value(await run(kit.home, "--json", "backup", file))["backup"]
    assert (view["users"], view["keys"], view["has_key"]) == (2, 2, False)
    assert os.stat(file).st_mode & 0o777 == 0o600  # noqa: PTH116 - Path blocks as well
    await run(kit.home, "users", "remove", "user-1")
    await run(kit.home, "users", "add", "eve", "--key", "ee" * 32)
    asked = await run(kit.home, "restore", file)
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
    restored = value(await run(kit.home, "--json", "restore", file, "--yes"))
    assert restored["copy"] == file
    assert restored["backup"]["is_this"]
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
    await run(kit.home, "backup", str(tmp_path / "kitchen.backup"))
    assert (await run(tmp_path / "attic", "init", "--name", "attic")).code == 0
    shown = await run(tmp_path / "attic", "restore", str(tmp_path / "kitchen.backup"))
    assert "on kitchen (" in shown.err
    assert "This is a backup of another device" in shown.err


async def test_a_file_is_replaced_only_if_that_is_asked_for(kit: Kit, tmp_path: Path) -> None:
    await device_with_users(kit.home, 1)
    file = tmp_path / "kitchen.backup"
    file.write_text("precious")
    refused = await run(kit.home, "backup", str(file))
    assert (refused.code, file.read_text()) == (2, "precious")
    assert (await run(kit.home, "backup", "--force", str(file))).code == 0
    missing = await run(kit.home, "backup", str(tmp_path / "missing" / "x.backup"))
    assert missing.code == 1
    assert "cannot be written" in missing.err


async def test_what_is_no_backup_is_refused_and_leaves_nothing(kit: Kit, tmp_path: Path) -> None:
    await device_with_users(kit.home, 1)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, code in (("text", 1), ("folder", 2), ("missing", 2)):
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
        backup.BackupNote.parse_untrusted(note)


def test_a_note_that_is_too_long_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE backup (note)")
        db.execute("INSERT INTO backup VALUES (?)", ("x" * 9000,))
        db.commit()
    assert store_backup.note_untrusted(file) is None
    assert store_backup.note_untrusted(tmp_path / "missing") is None


# ----------------------------------------------------------------------------------------- the key


async def test_a_backup_with_the_key_replaces_a_board(kit: Kit, tmp_path: Path, words: str) -> None:
    await device_with_users(kit.home, 2)
    file = str(tmp_path / "kitchen.backup")
    made = value(await run(kit.home, "--json", "backup", "--passphrase-file", words, file))
    assert made["backup"]["has_key"]
    board = tmp_path / "board"
    restored = await run(board, "restore", file, "--with-key", "--passphrase-file", words, "--yes")
    assert restored.code == 0, restored.err
    assert "Never run the other board again" in restored.out
    old, new = (Identity.load(home / "device-key.pem") for home in (kit.home, board))
    assert new.fingerprint == old.fingerprint
    assert (board / "device-key.pem").stat().st_mode & 0o777 == 0o600
    listed = value(await run(board, "--json", "users", "list"))["users"]
    assert [one["name"] for one in listed] == ["user-0", "user-1"]
    with closing(Store.open(board / "device.db")) as store:
        assert store.had_owner, "no window for an owner opens by itself"
        assert store.recovery is None


async def test_a_key_is_restored_only_where_no_other_is_in_use(
    kit: Kit, tmp_path: Path, words: str
) -> None:
    await device_with_users(kit.home, 1)
    with_key, without = str(tmp_path / "key.backup"), str(tmp_path / "plain.backup")
    await run(kit.home, "backup", "--passphrase-file", words, with_key)
    await run(kit.home, "backup", without)
    restore = ("--with-key", "--passphrase-file", words, "--yes")
    other = tmp_path / "other"
    await device_with_users(other, 1)
    before = (other / "device-key.pem").read_bytes()
    refused = await run(other, "restore", with_key, *restore)
    assert "has users, and another key" in refused.err
    no_key = await run(other, "restore", without, *restore)
    assert "there is no key in" in no_key.err
    assert (refused.code, no_key.code) == (1, 1)
    assert (other / "device-key.pem").read_bytes() == before
    daemon = await kit.daemon()
    running = await daemon.run("restore", with_key, *restore)
    assert "the daemon is running" in running.err
    await daemon.stop()
    assert (await run(kit.home, "restore", with_key, *restore)).code == 0


async def test_a_wrong_passphrase_changes_nothing(kit: Kit, tmp_path: Path, words: str) -> None:
    await device_with_users(kit.home, 1)
    file = str(tmp_path / "kitchen.backup")
    await run(kit.home, "backup", "--passphrase-file", words, file)
    wrong = tmp_path / "wrong"
    wrong.write_text("quite other words")
    board = tmp_path / "board"
    options = ("--with-key", "--passphrase-file", str(wrong), "--yes")
    refused = await run(board, "restore", file, *options)
    assert refused.code == 6
    assert "passphrase is wrong" in refused.err
    assert not (board / "device-key.pem").exists()


async def test_a_passphrase_is_long_and_never_shown(kit: Kit, tmp_path: Path, words: str) -> None:
    await device_with_users(kit.home, 1)
    short = tmp_path / "short"
    short.write_text("x" * (PASSPHRASE_CHARACTERS_MIN - 1))
    file = tmp_path / "kitchen.backup"
    refused = await run(kit.home, "backup", "--passphrase-file", str(short), str(file))
    assert (refused.code, file.exists()) == (2, False)
    made = await run(kit.home, "-vv", "backup", "--passphrase-file", words, str(file))
    assert WORDS not in made.out + made.err
    content = file.read_bytes()
    assert WORDS.encode() not in content
    pem = (kit.home / "device-key.pem").read_bytes()
    assert not any(line in content for line in pem.splitlines())
    key = Identity.load(kit.home / "device-key.pem").private_key.private_numbers().private_value
    assert key.to_bytes(32) not in content


def test_a_passphrase_is_asked_for_twice_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_app.terminal.output.can_confirm", lambda: True)
    home, file = str(tmp_path / "home"), str(tmp_path / "kitchen.backup")
    shell = CliRunner()
    shell.invoke(main, ["--home", home, "init"])
    typed = f"{WORDS}\nsomething else\n{WORDS}\n{WORDS}\n"
    made = shell.invoke(main, ["--home", home, "backup", "--with-key", file], input=typed)
    assert made.exit_code == 0, made.output
    assert made.stderr.count("Passphrase of the backup") == 2
    board = str(tmp_path / "board")
    restored = shell.invoke(
        main, ["--home", board, "restore", "--with-key", "--yes", file], input=f"{WORDS}\n"
    )
    assert restored.exit_code == 0, restored.output


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.create()


@pytest.fixture(scope="module")
def record(identity: Identity) -> dict[str, Any]:
    """A sealed key, as it is read from a file."""
    made: dict[str, Any] = json.loads(json.dumps(seal(identity, WORDS, bytes(range(RANDOM_BYTES)))))
    return made


def test_a_key_is_sealed_with_all_that_belongs_to_it(
    identity: Identity, record: dict[str, Any]
) -> None:
    opened = unsealed_untrusted(record, WORDS, identity.fingerprint)
    assert opened.fingerprint == identity.fingerprint
    with pytest.raises(WrongCode):
        unsealed_untrusted(record, WORDS, Identity.create().fingerprint)
    with pytest.raises(WrongCode):
        unsealed_untrusted({**record, "p": record["p"] - 1}, WORDS, identity.fingerprint)


def test_the_accents_of_a_passphrase_may_be_typed_in_any_way(identity: Identity) -> None:
    made = seal(identity, "fünf Gürteltiere", bytes(RANDOM_BYTES))
    decomposed = "fu\u0308nf Gu\u0308rteltiere"
    opened = unsealed_untrusted({**made}, decomposed, identity.fingerprint)
    assert opened.fingerprint == identity.fingerprint
    with pytest.raises(UsageError):
        seal(identity, "e\u0301" * (PASSPHRASE_CHARACTERS_MIN - 1), bytes(RANDOM_BYTES))


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1 << 40},
        {"n": 1 << 24},
        {"n": 1 << 19, "p": 1},
        {"n": 3},
        {"n": 0},
        {"n": -2},
        {"n": 1},
        {"n": "32768"},
        {"n": True},
        {"n": 32768.0},
        {"r": 1 << 20},
        {"r": 0},
        {"p": 1 << 20},
        {"p": 0},
        {"p": None},
        {"salt": ""},
        {"salt": "!!"},
        {"salt": 7},
        {"nonce": "AAAA"},
        {"sealed": ""},
        {"sealed": "A" * 100_000},
        {"sealed": []},
        {"kdf": "argon2id"},
        {"cipher": "none"},
    ],
    ids=str,
)
def test_parameters_from_a_file_are_bounded_before_they_are_used(
    identity: Identity,
    record: dict[str, Any],
    change: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They decide about memory and time."""

    class NotUsed:
        def __init__(self, **parameters: Any) -> None:
            memory = 128 * parameters["n"] * parameters["r"]
            assert memory <= 1 << 28, "the memory is not bounded"
            assert memory * parameters["p"] <= 1 << 30, "the work is not bounded"
            assert parameters["n"].bit_count() == 1, "scrypt takes powers of two only"
            raise Malformed("not used")

    monkeypatch.setattr(sealed_key, "Scrypt", NotUsed)
    with pytest.raises(PeerError):
        unsealed_untrusted(record | change, WORDS, identity.fingerprint)
