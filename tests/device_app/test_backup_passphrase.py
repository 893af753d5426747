"""The key in a backup of the former format, and the passphrases of both formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from device_app.cli import main
from device_app.console import passphrases
from device_app.console.sealed_key import unsealed_untrusted
from device_app.limits import PASSPHRASE_CHARACTERS_MIN
from peer.errors import Malformed, PeerError, UsageError, WrongCode
from peer.identity import Identity
from tests.kit import former_backups
from tests.kit.daemon import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Kit

WORDS = "four random words here"


@pytest.fixture
def words(tmp_path: Path) -> str:
    """The file with the passphrase."""
    path = tmp_path / "words"
    path.write_text(f"{WORDS}\n")
    return str(path)


async def device_with_users(home: Path, count: int) -> None:
    assert (await run(home, "init", "--name", "kitchen")).code == 0
    for number in range(count):
        added = ("add", f"user-{number}", "--role", "owner", "--key", f"{number:064x}")
        assert (await run(home, "users", *added)).code == 0


async def test_a_former_backup_with_the_key_replaces_a_board(
    kit: Kit, tmp_path: Path, words: str
) -> None:
    await device_with_users(kit.home, 2)
    file = tmp_path / "kitchen.backup"
    former_backups.write(kit.home, file, passphrase=WORDS)
    board = tmp_path / "board"
    options = ("--with-key", "--passphrase-file", words, "--yes")
    restored = await run(board, "restore", str(file), *options)
    assert restored.code == 0, restored.err
    assert "Two boards with one key must not both run" in restored.out
    old, new = (Identity.load(home / "device-key.pem") for home in (kit.home, board))
    assert new.fingerprint == old.fingerprint
    assert (board / "device-key.pem").stat().st_mode & 0o777 == 0o600
    listed = (await run(board, "--json", "users", "list")).value["users"]
    assert [one["name"] for one in listed] == ["user-0", "user-1"]


async def test_a_former_backup_without_the_key_has_none_to_restore(
    kit: Kit, tmp_path: Path, words: str
) -> None:
    await device_with_users(kit.home, 1)
    file = tmp_path / "kitchen.backup"
    former_backups.write(kit.home, file)
    board = tmp_path / "board"
    options = ("--with-key", "--passphrase-file", words, "--yes")
    refused = await run(board, "restore", str(file), *options)
    assert refused.code == 1
    assert "there is no key in" in refused.err
    assert not board.exists()


async def test_a_wrong_passphrase_of_a_former_backup_changes_nothing(
    kit: Kit, tmp_path: Path
) -> None:
    await device_with_users(kit.home, 1)
    file, wrong, board = tmp_path / "kitchen.backup", tmp_path / "wrong", tmp_path / "board"
    former_backups.write(kit.home, file, passphrase=WORDS)
    wrong.write_text("quite other words")
    options = ("--with-key", "--passphrase-file", str(wrong), "--yes")
    refused = await run(board, "restore", str(file), *options)
    assert refused.code == 6
    assert "passphrase is wrong" in refused.err
    assert not board.exists()


async def test_a_passphrase_of_ones_own_is_long_and_never_shown(
    kit: Kit, tmp_path: Path, words: str
) -> None:
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
    assert b"user-0" not in content


async def test_a_script_gets_no_passphrase_that_a_log_would_keep(kit: Kit, tmp_path: Path) -> None:
    await device_with_users(kit.home, 1)
    file = tmp_path / "kitchen.backup"
    refused = await run(kit.home, "backup", str(file))
    assert (refused.code, file.exists()) == (2, False)
    assert "--passphrase-file" in refused.err


def test_a_passphrase_that_was_made_is_shown_once_and_opens_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no output that a script keeps, and may be typed in small letters."""
    monkeypatch.setattr("device_app.commands.passphrase.can_show", lambda: True)
    home, file, board = (str(tmp_path / name) for name in ("home", "kitchen.backup", "board"))
    shell = CliRunner()
    shell.invoke(main, ["--home", home, "init"])
    made = shell.invoke(main, ["--home", home, "--json", "backup", file])
    assert made.exit_code == 0, made.output
    [line] = [line for line in made.stderr.splitlines() if "Passphrase of the backup" in line]
    passphrase = line.split()[-1]
    assert passphrase not in made.stdout
    assert len(passphrase.replace("-", "")) == passphrases.MADE_SYMBOLS
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(passphrase.encode() in content for content in kept)
    (tmp_path / "typed").write_text(passphrase.lower().replace("-", " "))
    words = ["--passphrase-file", str(tmp_path / "typed"), "--yes"]
    restored = shell.invoke(main, ["--home", board, "restore", file, *words])
    assert restored.exit_code == 0, restored.output


def test_a_passphraseis_typed_twice_for_a_backup_and_once_to_restore_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_app.terminal.output.can_confirm", lambda: True)
    monkeypatch.setattr("device_app.commands.passphrase.is_typed", lambda _file: True)
    home, file, board = (str(tmp_path / name) for name in ("home", "kitchen.backup", "board"))
    shell = CliRunner()
    shell.invoke(main, ["--home", home, "init"])
    typed = f"{WORDS}\nsomething else\n{WORDS}\n{WORDS}\n"
    backup = ["--home", home, "backup", "--passphrase-file", "-", file]
    made = shell.invoke(main, backup, input=typed)
    assert made.exit_code == 0, made.output
    assert made.stderr.count("Passphrase of the backup") == 2
    restored = shell.invoke(main, ["--home", board, "restore", "--yes", file], input=f"{WORDS}\n")
    assert restored.exit_code == 0, restored.output


def test_made_passphrases_have_a_hundred_random_bits() -> None:
    alphabet = passphrases.made(bytes(13)), passphrases.made(b"\xff" * 13)
    assert alphabet == ("0000-0000-0000-0000-0000", "ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ")
    each_bit = {passphrases.made((1 << bit).to_bytes(13)) for bit in range(100)}
    assert len(each_bit) == 100
    assert passphrases.plain("zzzz zzzz-zzzzzzzz-ZZZO") == b"Z" * 19 + b"0"
    assert passphrases.plain("four random words") == b"four random words"


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.create()


@pytest.fixture(scope="module")
def record(identity: Identity) -> dict[str, Any]:
    """A sealed key, as it is read from a file."""
    made: dict[str, Any] = json.loads(json.dumps(former_backups.sealed_key(identity, WORDS)))
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
    made = former_backups.sealed_key(identity, "fünf Gürteltiere")
    decomposed = "fu\u0308nf Gu\u0308rteltiere"
    opened = unsealed_untrusted({**made}, decomposed, identity.fingerprint)
    assert opened.fingerprint == identity.fingerprint
    with pytest.raises(UsageError):
        passphrases.check("e\u0301" * (PASSPHRASE_CHARACTERS_MIN - 1))


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1 << 40},
        {"n": 1 << 24},
        {"n": 1 << 18, "p": 1},
        {"n": 1 << 18, "r": 1},
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
            assert memory <= 1 << 27, "the memory is not bounded"
            assert memory * parameters["p"] <= 1 << 30, "the work is not bounded"
            assert parameters["n"] <= 1 << 17, "the cost is not bounded"
            assert parameters["n"].bit_count() == 1, "scrypt takes powers of two only"
            raise Malformed("not used")

    monkeypatch.setattr(passphrases, "Scrypt", NotUsed)
    with pytest.raises(PeerError):
        unsealed_untrusted(record | change, WORDS, identity.fingerprint)
