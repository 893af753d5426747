"""The file of known devices is replaced atomically, and never if it is damaged or not ours."""

import fcntl
import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client_app.aliases import alias_for, check_alias
from client_app.errors import BookError, NotKnown
from client_app.known_devices import DeviceBook
from client_app.known_devices_format import book_bytes, book_untrusted
from client_app.models import KnownDevice
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint


def device(alias: str, number: int = 1) -> KnownDevice:
    return KnownDevice(alias, Fingerprint(bytes([number]) * 32), name=alias, user="anna")


@pytest.fixture
def book(tmp_path: Path) -> DeviceBook:
    return DeviceBook(tmp_path / "home" / "devices.json", lock_seconds=0)


def test_a_missing_file_is_an_empty_list(book: DeviceBook) -> None:
    assert book.all() == []
    assert not book.path.parent.exists()


def test_a_stored_device_is_read_back_from_a_private_file(book: DeviceBook) -> None:
    kitchen = replace(device("kitchen"), addresses=("lamp.example:1",), last_seen="192.0.2.1:2")
    book.put(kitchen)
    book.put(device("attic", 2))
    again = DeviceBook(book.path)
    assert again.all() == [device("attic", 2), kitchen]
    assert again.find("kitchen") == kitchen
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(book.path.parent.stat().st_mode) == 0o700


def test_a_device_is_found_by_alias_id_and_fingerprint(book: DeviceBook) -> None:
    kitchen = device("kitchen")
    book.put(kitchen)
    assert book.find(kitchen.fingerprint.device_id.lower()) == kitchen
    assert book.find(kitchen.fingerprint.hex.upper()) == kitchen
    assert book.by_fingerprint(kitchen.fingerprint) == kitchen
    with pytest.raises(NotKnown) as caught:
        book.find("attic")
    assert "kitchen" in caught.value.advice


def test_a_second_entry_for_a_key_replaces_the_first(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    book.put(device("cellar"))
    assert [one.alias for one in book.all()] == ["cellar"]


def test_an_alias_of_another_key_is_refused(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    with pytest.raises(UsageError):
        book.put(device("kitchen", 2))
    assert book.find("kitchen") == device("kitchen")


def test_devices_can_be_renamed_and_forgotten(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    book.put(device("attic", 2))
    with pytest.raises(UsageError):
        book.rename("kitchen", "attic")
    with pytest.raises(UsageError):
        book.rename("kitchen", "a b")
    assert book.rename("kitchen", "kitchen").alias == "kitchen"
    assert book.rename("kitchen", "cellar").alias == "cellar"
    assert book.forget("cellar").alias == "cellar"
    with pytest.raises(NotKnown):
        book.forget("cellar")
    assert [one.alias for one in book.all()] == ["attic"]


BROKEN = {
    "empty": b"",
    "not json": b"{",
    "deep": b"[" * 100_000,
    "not utf-8": b"\xff",
    "a list": b"[]",
    "no schema": b'{"devices": []}',
    "more keys": b'{"schema": 1, "devices": [], "x": 1}',
    "no list": b'{"schema": 1, "devices": {}}',
    "a newer schema": b'{"schema": 2, "devices": []}',
    "huge": b" " * (1 << 21),
}


def fields(**changes: object) -> bytes:
    record = {**device("kitchen").record(), **changes}
    return json.dumps({"schema": 1, "devices": [record]}).encode()


BROKEN |= {
    "an alias with a blank": fields(alias="a b"),
    "a short fingerprint": fields(fingerprint="12"),
    "a port that is text": fields(port="1"),
    "a port that is true": fields(port=True),
    "a port out of range": fields(port=0),
    "an unknown field": fields(trust="all"),
    "addresses that are no text": fields(addresses=[1]),
    "a device twice": json.dumps(
        {"schema": 1, "devices": [device("a").record(), device("b").record()]}
    ).encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_file_is_refused_with_advice_and_not_changed(
    book: DeviceBook, content: bytes
) -> None:
    book.path.parent.mkdir()
    book.path.write_bytes(content)
    book.path.chmod(0o600)
    changes: list[Callable[[], object]] = [
        book.all,
        book.check_writable,
        lambda: book.put(device("attic", 2)),
        lambda: book.forget("kitchen"),
    ]
    for call in changes:
        with pytest.raises(BookError) as caught:
            call()
        assert caught.value.advice
    assert book.path.read_bytes() == content


def test_a_file_that_other_users_can_write_is_refused(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    book.path.chmod(0o620)
    with pytest.raises(BookError, match="writable by other users"):
        book.find("kitchen")


def test_a_link_to_another_file_or_a_file_of_another_user_is_refused(
    book: DeviceBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.put(device("kitchen"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    lock = book.path.with_suffix(".lock")
    for path in (book.path, lock):
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(elsewhere)
        with pytest.raises(BookError, match="symbolic link" if path == lock else "not JSON"):
            book.put(device("attic", 2))
        path.unlink()
        path.write_bytes(content)
        path.chmod(0o600)
    assert elsewhere.read_bytes() == b"precious"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(BookError, match="another user"):
        book.all()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_an_editor_of_another_system_wrote_is_read(
    book: DeviceBook, mark: bytes
) -> None:
    book.put(device("kitchen"))
    book.path.write_bytes(mark + book.path.read_bytes().replace(b"\n", b"\r\n"))
    assert book.all() == [device("kitchen")]
    book.put(device("attic", 2))
    assert not book.path.read_bytes().startswith(b"\xef")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_named_with_what_to_do(book: DeviceBook, encoding: str) -> None:
    book.put(device("kitchen"))
    book.path.write_bytes(book.path.read_text().encode(encoding))
    with pytest.raises(BookError, match="not UTF-8: it is UTF-16") as caught:
        book.all()
    assert caught.value.advice == "Save it as UTF-8."


def test_a_file_of_zero_bytes_is_named_with_what_to_do(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    book.path.write_bytes(bytes(100))
    with pytest.raises(BookError, match="it has nothing but zero bytes") as caught:
        book.all()
    assert "power failure" in caught.value.advice


def test_a_full_disk_leaves_the_file_unchanged(
    book: DeviceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.put(device("kitchen"))
    before = book.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BookError, match="No space left"):
        book.put(device("attic", 2))
    assert book.path.read_bytes() == before
    assert sorted(one.name for one in book.path.parent.iterdir()) == [
        "devices.json",
        "devices.lock",
    ]


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = DeviceBook(tmp_path / "file" / "devices.json")
    with pytest.raises(BookError):
        book.check_writable()
    with pytest.raises(BookError):
        book.all()


def test_a_second_writer_is_refused_while_the_lock_is_held(book: DeviceBook) -> None:
    book.put(device("kitchen"))
    with book.path.with_suffix(".lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BookError, match="another program"):
            book.put(device("attic", 2))
        assert book.find("kitchen").alias == "kitchen"  # reading needs no lock
    book.put(device("attic", 2))


def test_concurrent_writers_lose_no_device(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"

    def write(number: int) -> None:
        DeviceBook(path, lock_seconds=60).put(device(f"d{number}", number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(DeviceBook(path).all()) == 12


def test_an_encoded_list_decodes_to_the_same_devices() -> None:
    devices = {one.alias: one for one in (device("küche"), device("台所", 2))}
    assert book_untrusted(book_bytes(devices)) == devices
    with pytest.raises(Malformed):
        book_untrusted(book_bytes(devices)[:-3])


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("Kitchen", "kitchen"),
        ("Küche 1.OG", "küche-1.og"),
        ("a/b; rm -rf", "a-b-rm-rf"),
        ("\x1b[2J", "2j"),
        ("--", "abcd0123"),
        ("", "abcd0123"),
    ],
)
def test_the_alias_is_derived_from_the_name_of_the_device(name: str, alias: str) -> None:
    assert alias_for(name, "ABCD0123") == alias
    assert check_alias(alias) == alias


@pytest.mark.parametrize("text", ["", "-a", "a b", "a/b", "a" * 65, "a\u202eb", "\x1b", "--json"])
def test_an_invalid_alias_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_alias(text)
