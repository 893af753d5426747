"""The file of settings for reaching devices: what it stores, refuses, and never shows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.errors import BookError
from client_app.known_device import KnownDevice
from client_app.known_devices import DeviceBook
from client_app.limits import REMOTE_RETRY_SECONDS, REMOTE_SETTINGS_BYTES
from client_app.remote_settings import (
    RemoteBook,
    RemoteEntry,
    entries_bytes,
    entries_untrusted,
    settings_untrusted,
)
from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.remote.settings import RemoteSettings
from tests.kit.remote_settings import PASSWORD, SECRET, remote_settings
from tests.kit.shell import Shell
from tests.kit.threads import BoardThread

OWN, OTHER = Fingerprint(bytes([1]) * 32), Fingerprint(bytes([2]) * 32)
KITCHEN, ATTIC = Fingerprint(bytes([3]) * 32), Fingerprint(bytes([4]) * 32)
NOW = 1_800_000_000.0


@pytest.fixture
def book(tmp_path: Path) -> RemoteBook:
    return RemoteBook(tmp_path / "home" / "remote.json", lock_seconds=0)


def with_settings(entry: RemoteEntry, settings: RemoteSettings | None = None) -> RemoteEntry:
    settings = settings or remote_settings()
    return entry.with_settings(settings, settings.encode(), NOW)


def test_settings_are_stored_for_the_owner_of_the_file_only(book: RemoteBook) -> None:
    assert book.find(KITCHEN, own=OWN) is None
    book.update(KITCHEN, with_settings, own=OWN)
    entry = book.find(KITCHEN, own=OWN)
    assert entry is not None
    assert entry.settings("kitchen") == remote_settings()
    assert entry.revision == remote_settings().revision
    assert (entry.fetched, entry.asked) == (NOW, NOW)
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_settings_of_another_client_key_are_left_out_and_replaced(book: RemoteBook) -> None:
    """The secret belongs to a pair of keys: with a new key of this client it opens nothing."""
    book.update(KITCHEN, with_settings, own=OTHER)
    assert book.find(KITCHEN, own=OWN) is None
    book.update(ATTIC, with_settings, own=OWN)
    assert book.find(KITCHEN, own=OTHER) is None
    assert SECRET.hex() in book.path.read_text()
    assert KITCHEN.hex not in book.path.read_text()


def test_a_forgotten_device_leaves_no_secret(book: RemoteBook) -> None:
    assert not book.forget(KITCHEN)
    book.update(KITCHEN, with_settings, own=OWN)
    assert book.forget(KITCHEN)
    assert SECRET.hex() not in book.path.read_text()
    assert not book.forget(KITCHEN)


def test_an_unchanged_entry_is_not_written_again(book: RemoteBook) -> None:
    book.update(KITCHEN, with_settings, own=OWN)
    before = book.path.stat().st_ino
    book.update(KITCHEN, lambda one: one, own=OWN)
    assert book.path.stat().st_ino == before


def test_settings_are_due_at_each_session_unless_the_device_has_not_answered() -> None:
    empty = RemoteEntry(KITCHEN)
    assert empty.is_due(NOW)
    held = with_settings(empty)
    assert held.is_due(NOW)
    silent = replace(held, asked=held.fetched + 10)
    assert not silent.is_due(NOW + 10)
    assert not silent.is_due(NOW + 10 + REMOTE_RETRY_SECONDS - 1)
    assert silent.is_due(NOW + 10 + REMOTE_RETRY_SECONDS)
    assert silent.is_due(NOW - 1), "the clock was set back"
    assert with_settings(silent).is_due(NOW)
    none = held.with_settings(None, b"", NOW)
    assert not none.encoded
    assert not none.is_due(NOW + REMOTE_RETRY_SECONDS - 1)
    assert none.is_due(NOW + REMOTE_RETRY_SECONDS)
    assert held.with_stated(held.revision) is held
    stated = held.with_stated(held.revision ^ 1)
    assert stated.is_outdated
    assert stated.is_due(NOW)
    asked = replace(stated, asked=int(NOW))
    assert not asked.is_due(NOW), "a device that does not answer is not asked at each command"
    assert not with_settings(stated).is_outdated


# --------------------------------------------------------------------------------- hostile content


def records(**changes: Any) -> Any:
    """The content of the file, with one entry that has other values."""
    record = with_settings(RemoteEntry(KITCHEN)).record()
    return {"schema": 1, "client": OWN.hex, "devices": [{**record, **changes}]}


def without(name: str) -> Any:
    whole = records()
    del whole["devices"][0][name]
    return whole


DAMAGED = {
    "empty": b"",
    "not json": b"{",
    "deep": b"[" * 5000,
    "not utf-8": b"\xff{}",
    "a list": b"[]",
    "no schema": {"client": OWN.hex, "devices": []},
    "a schema that is true": {**records(), "schema": True},
    "a newer schema": {**records(), "schema": 2},
    "more keys": {**records(), "more": 1},
    "no client": {**records(), "client": ""},
    "no list": {**records(), "devices": {}},
    "an entry that is no object": {**records(), "devices": [1]},
    "a device twice": {**records(), "devices": records()["devices"] * 2},
    "a short fingerprint": records(fingerprint="aa"),
    "a lacking field": without("stated"),
    "an unknown field": records(more=1),
    "settings that are not hexadecimal": records(settings="zz"),
    "settings that are too long": records(settings="00" * (REMOTE_SETTINGS_BYTES + 1)),
    "a revision that is text": records(revision="1"),
    "a revision that is true": records(revision=True),
    "a time before 1970": records(fetched=-1),
    "a time too late": records(asked=1 << 60),
    "an unknown route": records(route="carrier pigeon"),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_with_advice_and_not_changed(
    book: RemoteBook, content: Any
) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    book.path.parent.mkdir()
    book.path.write_bytes(data)
    book.path.chmod(0o600)
    with pytest.raises(Malformed):
        entries_untrusted(data)
    calls: list[Callable[[], object]] = [
        lambda: book.find(KITCHEN, own=OWN),
        lambda: book.update(ATTIC, with_settings, own=OWN),
        lambda: book.forget(KITCHEN),
    ]
    for call in calls:
        with pytest.raises(BookError) as caught:
            call()
        assert caught.value.advice
        assert SECRET.hex() not in f"{caught.value} {caught.value.advice}"
    assert book.path.read_bytes() == data


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_a_file_that_other_users_can_use_is_refused(book: RemoteBook, mode: int) -> None:
    book.update(KITCHEN, with_settings, own=OWN)
    book.path.chmod(mode)
    with pytest.raises(BookError, match="other users") as caught:
        book.find(KITCHEN, own=OWN)
    assert caught.value.advice


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\xff", b"\xa0", b"\x00" * (REMOTE_SETTINGS_BYTES + 1), remote_settings().encode()[:-1]],
    ids=["none", "no CBOR", "no members", "too long", "cut off"],
)
def test_settings_that_do_not_decode_are_refused_when_they_are_used(
    book: RemoteBook, encoded: bytes
) -> None:
    with pytest.raises(Malformed):
        settings_untrusted(encoded)
    if 0 < len(encoded) <= REMOTE_SETTINGS_BYTES:
        book.update(KITCHEN, lambda one: replace(one, encoded=encoded), own=OWN)
        entry = book.find(KITCHEN, own=OWN)
        assert entry is not None, "an address is tried whatever the settings are"


def test_no_text_of_an_entry_has_the_secret_or_a_password() -> None:
    entry = with_settings(RemoteEntry(KITCHEN))
    settings = entry.settings("kitchen")
    for text in (repr(entry), str(entry), repr(settings), str(settings)):
        assert SECRET.hex() not in text
        assert repr(SECRET)[2:-1] not in text
        assert PASSWORD not in text


def test_the_entries_survive_a_round_trip() -> None:
    entries = {
        KITCHEN: replace(with_settings(RemoteEntry(KITCHEN)), route="relay", stated=7),
        ATTIC: RemoteEntry(ATTIC, asked=5),
    }
    assert entries_untrusted(entries_bytes(OWN, entries)) == (OWN, entries)


# ---------------------------------------------------------------------------------------- the verbs


@pytest.fixture
def kitchen(home: Path, shell: Shell) -> RemoteBook:
    """The client of the shell has a device `kitchen`, and its settings."""
    done = shell("fingerprint", "--json")
    own = Fingerprint.parse(json.loads(done.out)["fingerprint"])
    DeviceBook(home / "devices.json").put(
        KnownDevice("kitchen", KITCHEN, last_seen="192.0.2.1:5684")
    )
    book = RemoteBook(home / "remote.json")
    book.update(KITCHEN, with_settings, own=own)
    return book


def test_the_verb_shows_the_servers_and_no_secret(kitchen: RemoteBook, shell: Shell) -> None:
    for words in (("remote",), ("remote", "kitchen", "--json"), ("remote", "-vv", "kitchen")):
        done = shell(*words)
        assert done.code == 0, done.err
        assert "mqtts://mqtt.example" in done.out
        assert "turn:relay.example" in done.out
        assert "alice" in done.out
        for text in (done.out, done.err):
            assert PASSWORD not in text
            assert SECRET.hex() not in text
            assert kitchen.path.read_text() not in text
    stated = json.loads(shell("remote", "--json").out)
    assert stated["stored"] is True
    assert stated["revision"] == remote_settings().revision
    assert stated["fetched"] == NOW
    assert stated["last_route"] == "address"


def test_an_outdated_revision_is_shown(kitchen: RemoteBook, shell: Shell) -> None:
    client, _ = entries_untrusted(kitchen.path.read_bytes())
    kitchen.update(KITCHEN, lambda one: one.with_stated(1), own=client)
    assert "outdated" in shell("remote").out


def test_nothing_of_the_settings_is_exported_or_listed(kitchen: RemoteBook, shell: Shell) -> None:
    assert kitchen.path.exists()
    for words in (("export",), ("devices", "--json"), ("devices",), ("rename", "kitchen", "k2")):
        done = shell(*words)
        assert done.code == 0, done.err
        assert SECRET.hex() not in done.out + done.err
        assert "mqtt.example" not in done.out + done.err
    assert shell("remote", "k2").code == 0, "the settings belong to the key, not to the alias"


def test_forget_removes_the_settings_of_the_device(kitchen: RemoteBook, shell: Shell) -> None:
    assert shell("forget", "kitchen").code == 0
    assert SECRET.hex() not in kitchen.path.read_text()


def test_forget_removes_the_device_although_the_settings_are_damaged(
    kitchen: RemoteBook, shell: Shell
) -> None:
    kitchen.path.write_bytes(b"{")
    done = shell("forget", "kitchen")
    assert done.code == 0
    assert "cannot be used" in done.err
    assert shell("devices").out == ""


def test_the_settings_alone_are_removed_on_request(kitchen: RemoteBook, shell: Shell) -> None:
    done = shell("remote", "kitchen", "--forget")
    assert done.code == 0
    assert "are removed" in done.err
    assert SECRET.hex() not in kitchen.path.read_text()
    assert "were not stored" in shell("remote", "kitchen", "--forget").err
    assert "none are stored" in shell("remote", "kitchen").out


def test_contradicting_options_are_refused(shell: Shell, kitchen: RemoteBook) -> None:
    assert kitchen.path.exists()
    assert shell("remote", "kitchen", "--forget", "--refresh").code == 2


def test_settings_that_do_not_decode_end_the_verb_with_an_error(
    kitchen: RemoteBook, shell: Shell
) -> None:
    client, _ = entries_untrusted(kitchen.path.read_bytes())
    kitchen.update(KITCHEN, lambda one: replace(one, encoded=b"\xff"), own=client)
    done = shell("remote", "kitchen")
    assert done.code == 1
    assert "the stored settings for reaching kitchen are not valid" in done.err
    assert "remote kitchen --forget" in done.err


# ------------------------------------------------------------------------------- `remote --refresh`


def test_the_settings_are_fetched_on_request(
    paired_shell: Shell, board_thread: BoardThread
) -> None:
    assert "has none for this client" in paired_shell("remote").out
    board_thread.board.remote = remote_settings().encode()
    done = paired_shell("remote", "kitchen", "--refresh")
    assert done.code == 0, done.err
    assert "mqtts://mqtt.example" in done.out
    assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize(
    ("body", "is_denied", "code", "said"),
    [
        (None, False, 8, "is not set up to be reached from other networks"),
        (b"\xff", False, 1, "has sent settings that are not valid"),
        (remote_settings().encode()[:-1], False, 1, "has sent settings that are not valid"),
        (remote_settings().encode(), True, 7, "policy"),
    ],
    ids=["none", "malformed", "cut off", "denied"],
)
def test_settings_that_cannot_be_fetched_are_an_error_on_request(
    paired_shell: Shell,
    board_thread: BoardThread,
    body: bytes | None,
    is_denied: bool,
    code: int,
    said: str,
) -> None:
    board_thread.board.remote = body
    if is_denied:
        board_thread.board.denied.add(("remote",))
    done = paired_shell("remote", "kitchen", "--refresh")
    assert done.code == code
    assert said in done.err
    assert PASSWORD not in done.out + done.err
    assert not json.loads(paired_shell("remote", "--json").out)["stored"]
