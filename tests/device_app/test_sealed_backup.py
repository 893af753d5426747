"""The file of a backup: each change of it is refused, and no field of it is believed before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from device_app.console import passphrases, sealed_backup
from device_app.console.sealed_backup import (
    MAGIC,
    RANDOM_BYTES,
    Contents,
    Header,
    Kind,
    SealedBackup,
    kind_of,
    seal,
)
from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError, DamagedBackup, exit_code
from device_app.limits import BACKUP_HEADER_BYTES_MAX, SEALED_BACKUP_BYTES_MAX
from peer import cbor
from peer.errors import Malformed, PeerError, UsageError, WrongCode
from peer.identity import Identity
from peer.terminal.exit_codes import ExitCode

WORDS = "four random words here"
RANDOM = bytes(range(RANDOM_BYTES))
LENGTH = 2


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.create()


@pytest.fixture
def contents(identity: Identity) -> Contents:
    settings = SettingsFiles({"device.toml": "name = 'x'\n"}, {"a.toml": "# é\n"})
    return Contents(identity, b"the bytes of a store", settings, ("lamp",))


@pytest.fixture
def data(contents: Contents, request: pytest.FixtureRequest) -> bytes:
    """The bytes of a backup."""
    request.getfixturevalue("quick_scrypt")
    return seal(contents, WORDS, made=1_700_000_000, random_bytes=RANDOM)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kitchen.backup"


def opened(path: Path, data: bytes, passphrase: str = WORDS) -> Contents:
    path.write_bytes(data)
    return SealedBackup.read_untrusted(path).opened(passphrase)


def header_of(data: bytes) -> dict[str, Any]:
    at = len(MAGIC) + LENGTH
    found = cbor.decode_untrusted(data[at : at + int.from_bytes(data[len(MAGIC) : at])])
    assert isinstance(found, dict)
    return found


def with_header(data: bytes, header: bytes) -> bytes:
    at = len(MAGIC) + LENGTH
    end = at + int.from_bytes(data[len(MAGIC) : at])
    return MAGIC + len(header).to_bytes(LENGTH) + header + data[end:]


def test_a_backup_holds_what_was_sealed_and_shows_none_of_it(
    path: Path, data: bytes, contents: Contents, identity: Identity
) -> None:
    found = opened(path, data)
    assert found.identity.fingerprint == identity.fingerprint
    assert (found.store, found.settings, found.modules) == (
        contents.store,
        contents.settings,
        contents.modules,
    )
    assert kind_of(path) is Kind.SEALED
    sealed = SealedBackup.read_untrusted(path).header
    assert (sealed.device_id, sealed.made) == (identity.fingerprint.device_id, 1_700_000_000)
    assert contents.store not in data
    assert b"lamp" not in data


def test_the_real_scrypt_opens_a_backup(path: Path, contents: Contents) -> None:
    made = seal(contents, WORDS, made=0, random_bytes=RANDOM)
    assert opened(path, made).store == contents.store
    with pytest.raises(WrongCode):
        SealedBackup.read_untrusted(path).opened("quite other words")


def test_no_byte_of_a_backup_can_be_changed(path: Path, data: bytes) -> None:
    """Magic, length, each field of the header, body and tag: exit code 6 or no backup at all."""
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        if kind_of(path) is not Kind.SEALED:
            assert at < len(MAGIC)
            continue
        with pytest.raises((WrongCode, AppError)) as caught:
            SealedBackup.read_untrusted(path).opened(WORDS)
        assert isinstance(caught.value, AppError | PeerError)
        is_version = at == len(MAGIC) - len("1\n")
        assert (exit_code(caught.value) == ExitCode.WRONG_CODE) is not is_version, at


def test_no_part_of_a_backup_can_be_cut_or_added(path: Path, data: bytes) -> None:
    for length in (len(MAGIC), len(MAGIC) + 1, len(MAGIC) + LENGTH, *range(30, len(data), 7)):
        with pytest.raises((WrongCode, DamagedBackup)):
            opened(path, data[:length])
    with pytest.raises(WrongCode):
        opened(path, data + b"\0")
    with pytest.raises(WrongCode):
        opened(path, data[:-17] + data[-16:])


def test_a_wrong_passphrase_opens_nothing(path: Path, data: bytes) -> None:
    for wrong in ("", "four random words her", "Four random words here", "x" * 5000):
        with pytest.raises(WrongCode, match="passphrase is wrong"):
            opened(path, data, wrong)


def test_parts_of_two_backups_do_not_fit(path: Path, data: bytes, contents: Contents) -> None:
    """The header is authenticated along with the contents."""
    other = seal(contents, WORDS, made=1_800_000_000, random_bytes=RANDOM)
    with pytest.raises(WrongCode):
        opened(path, with_header(data, Header(**header_fields(other)).encode()))


def header_fields(data: bytes) -> dict[str, Any]:
    header = Header.parse_untrusted(cbor.encode(header_of(data)))
    return {
        "stretching": header.stretching,
        "nonce": header.nonce,
        "device_id": header.device_id,
        "made": header.made,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1 << 40},
        {"n": 1 << 18},
        {"n": 1 << 18, "r": 1},
        {"n": 3},
        {"n": 0},
        {"n": 1},
        {"n": -2},
        {"n": "32768"},
        {"n": True},
        {"n": 32768.0},
        {"n": None},
        {"r": 1 << 20},
        {"r": 0},
        {"r": 33},
        {"p": 1 << 20},
        {"p": 0},
        {"salt": b""},
        {"salt": b"x" * 17},
        {"salt": "x" * 16},
        {"nonce": b"x" * 13},
        {"nonce": None},
        {"id": "K7QM2ZX"},
        {"id": "K7QM2ZX\n"},
        {"id": 7},
        {"made": -1},
        {"made": 1 << 60},
        {"made": True},
        {"made": 1.5},
        {"kdf": "argon2id"},
        {"kdf": None},
    ],
    ids=str,
)
def test_a_header_is_checked_before_it_decides_about_memory_and_time(
    path: Path, data: bytes, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_called(**_parameters: object) -> None:
        raise AssertionError("scrypt was called")

    monkeypatch.setattr(passphrases, "Scrypt", not_called)
    path.write_bytes(with_header(data, cbor.encode(header_of(data) | change)))
    with pytest.raises(DamagedBackup) as caught:
        SealedBackup.read_untrusted(path)
    assert caught.value.code == ExitCode.WRONG_CODE


@pytest.mark.parametrize(
    "header",
    [b"", b"\xa0", b"\x80", b"\x18", b"\xc0\xa0", b"\xbf\xff", b"\xa1" * 200, b"\xff", b"x" * 5000],
)
def test_a_header_that_is_no_map_of_its_fields_is_refused(
    path: Path, data: bytes, header: bytes
) -> None:
    path.write_bytes(with_header(data, header))
    with pytest.raises(DamagedBackup):
        SealedBackup.read_untrusted(path)
    assert BACKUP_HEADER_BYTES_MAX < 5000


@pytest.mark.parametrize("length", [0, 1, 0xFFFF])
def test_a_wrong_length_of_the_header_is_refused(path: Path, data: bytes, length: int) -> None:
    at = len(MAGIC)
    path.write_bytes(data[:at] + length.to_bytes(LENGTH) + data[at + LENGTH :])
    with pytest.raises(DamagedBackup):
        SealedBackup.read_untrusted(path)


def test_a_file_longer_than_any_backup_is_not_read(
    path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a sparse file of more than the bound, so reading it would be noticed."""
    path.write_bytes(data)
    os.truncate(path, SEALED_BACKUP_BYTES_MAX + 1)
    monkeypatch.setattr(Header, "parse_untrusted", lambda _data: pytest.fail("it was read"))
    with pytest.raises(DamagedBackup, match="longer than"):
        SealedBackup.read_untrusted(path)


@pytest.mark.usefixtures("quick_scrypt")
def test_no_backup_is_made_that_could_not_be_restored(
    contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_backup, "SEALED_BACKUP_BYTES_MAX", 100)
    with pytest.raises(AppError, match="longer than 100 bytes"):
        seal(contents, WORDS, made=0, random_bytes=RANDOM)
    with pytest.raises(UsageError, match="shorter than"):
        seal(contents, "too short", made=0, random_bytes=RANDOM)


def test_a_backup_of_a_later_version_is_named(path: Path, data: bytes) -> None:
    path.write_bytes(data.replace(MAGIC, b"HANDFAST-BACKUP 2\n"))
    with pytest.raises(AppError, match="a later version made"):
        SealedBackup.read_untrusted(path)


NAMES = [
    "../device.toml",
    "/etc/passwd",
    "device.d/../../x.toml",
    "device.d/x/y.toml",
    "device.d/",
    "device.d/.x.toml",
    "device.d/x",
    "device.d/x.toml\0",
    "device.d/x\n.toml",
    "other.toml",
    "policy.d/x.toml",
    "",
    ".",
    "device.d/" + "x" * 250 + ".toml",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_leads_out_of_the_folder_of_settings(name: str) -> None:
    with pytest.raises(Malformed):
        SettingsFiles.parse_untrusted({name: ""}, {})


@pytest.mark.parametrize("name", ["../x.toml", "/x.toml", "a/b.toml", ".x.toml", "x", "x.toml\0"])
def test_a_name_never_leads_out_of_the_folder_of_policies(name: str) -> None:
    with pytest.raises(Malformed):
        SettingsFiles.parse_untrusted({}, {name: ""})


@pytest.mark.usefixtures("quick_scrypt")
@pytest.mark.parametrize(
    "change",
    [
        {"key": b"no key"},
        {"key": "text"},
        {"key": None},
        {"store": "text"},
        {"config": []},
        {"config": {"device.toml": b""}},
        {"config": {"../x.toml": ""}},
        {"policies": {1: "x"}},
        {"policies": {f"{number}.toml": "" for number in range(1025)}},
        {"modules": "lamp"},
        {"modules": ["m"] * 1025},
    ],
    ids=lambda change: next(iter(change)),
)
def test_contents_that_fit_the_passphrase_are_checked_as_well(
    path: Path,
    contents: Contents,
    change: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup may come from someone else, together with its passphrase."""
    real = cbor.encode

    def changed(value: Any, **options: int) -> bytes:
        return real(value | change if "store" in value else value, **options)

    monkeypatch.setattr(cbor, "encode", changed)
    made = seal(contents, WORDS, made=0, random_bytes=RANDOM)
    with pytest.raises(DamagedBackup):
        opened(path, made)


@pytest.mark.usefixtures("quick_scrypt")
def test_the_key_is_the_one_that_the_header_names(
    path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cbor.encode
    other = Identity.create().key_pem()
    monkeypatch.setattr(
        cbor,
        "encode",
        lambda value, **more: real(value | {"key": other} if "key" in value else value, **more),
    )
    made = seal(contents, WORDS, made=0, random_bytes=RANDOM)
    with pytest.raises(DamagedBackup, match="another key"):
        opened(path, made)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "missing", "."):
        with pytest.raises((AppError, PeerError)) as caught:
            kind_of(tmp_path / name)
        assert isinstance(caught.value, AppError | PeerError)
        assert exit_code(caught.value) == ExitCode.USAGE
