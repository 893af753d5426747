"""The file of known devices with many entries, hostile names, links, and loss of power."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client_app.client import Client
from client_app.content import NUMBERS, Format, Reply
from client_app.errors import BookError
from client_app.known_devices import DeviceBook
from client_app.known_devices_format import book_bytes, book_untrusted
from client_app.limits import DEVICES_FILE_BYTES
from client_app.models import KnownDevice
from client_app.terminal.render import as_json, as_text, json_line
from peer.errors import IdentityError, Malformed
from peer.identity import Fingerprint, Identity
from tests.kit.shell import Shell

ROOT = Path(__file__).resolve().parents[2]
MANY = 10_000


def device(number: int, **fields: Any) -> KnownDevice:
    key = Fingerprint(number.to_bytes(32, "big"))
    return KnownDevice(f"d{number}", key, user="anna", **fields)


def devices(count: int) -> dict[str, KnownDevice]:
    """Create `count` devices with the longest fields that are allowed."""
    return {
        made.alias: made
        for made in (
            device(number, name="n" * 64, role="owner", last_seen="[2001:db8::1234:5678]:15684")
            for number in range(count)
        )
    }


@pytest.fixture
def book(tmp_path: Path) -> DeviceBook:
    return DeviceBook(tmp_path / "home" / "devices.json", lock_seconds=0)


def write_file(book: DeviceBook, content: bytes) -> None:
    book.path.parent.mkdir()
    book.path.write_bytes(content)
    book.path.chmod(0o600)


# ------------------------------------------------------------------------------------------- large


def test_ten_thousand_devices_can_be_stored(book: DeviceBook) -> None:
    many = devices(MANY)
    write_file(book, book_bytes(many))
    assert book.path.stat().st_size > 1 << 20, "a former limit was 1 MiB"
    newest = device(MANY)
    book.put(newest)
    assert book.forget("d1") == many["d1"]
    assert book.by_fingerprint(newest.fingerprint) == newest
    assert len(book.all()) == MANY


def test_reading_the_file_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts comparisons of keys, because times depend on the machine."""
    compared = 0
    equal = Fingerprint.__eq__

    def counted(one: Fingerprint, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(one, other)

    content = book_bytes(devices(1000))
    monkeypatch.setattr(Fingerprint, "__eq__", counted)
    assert len(book_untrusted(content)) == 1000
    assert compared <= 1000


def test_a_file_above_the_limit_is_refused_without_reading_all_of_it(
    shell: Shell, book: DeviceBook
) -> None:
    write_file(book, b" " * (DEVICES_FILE_BYTES + 1))
    with pytest.raises(BookError, match="longer than"):
        book.all()
    endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    try:
        done = shell("import", f"/proc/self/fd/{endless.stdout.fileno()}")  # type: ignore[union-attr]
    finally:
        endless.kill()
        endless.communicate()
    assert done.code == 1
    assert "longer than" in done.err


# ----------------------------------------------------------------------------------------- hostile


def test_the_file_and_its_export_contain_no_control_character(shell: Shell, tmp_path: Path) -> None:
    evil = "\x7f\x9b\u202e\u2066\x85\U000e0041"
    book = DeviceBook(shell.home / "devices.json")
    book.put(device(1, name=f"küche{evil}", role=evil, last_seen=""))
    exported = shell("export")
    for text in (book.path.read_text(), exported.out, exported.raw.decode()):
        assert "küche" in text
        assert not set(evil) & set(text)
    for words in (["devices"], ["devices", "--json"], ["address", "d1"], ["forget", "d1"]):
        done = shell(*words)
        assert not set(evil) & set(done.out + done.err), words
    (tmp_path / "file").write_bytes(exported.raw)
    assert shell("import", str(tmp_path / "file")).code == 0
    assert book.find("d1").name == f"küche{evil}"


def test_a_name_with_line_breaks_adds_no_line_to_the_completion(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    DeviceBook(shell.home / "devices.json").put(device(1, name="x\nplain\nrm\n_\x1b[2J"))
    monkeypatch.setenv("_HANDFAST_COMPLETE", "zsh_complete")
    monkeypatch.setenv("HANDFAST_HOME", str(shell.home))
    monkeypatch.setenv("COMP_WORDS", "handfast get d")
    monkeypatch.setenv("COMP_CWORD", "2")
    run = subprocess.run(
        [sys.executable, "-m", "client_app"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stdout.splitlines()[:2] == ["plain", "d1"]
    assert len(run.stdout.splitlines()) == 3
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize("depth", [33, 700, 100_000])
def test_deeply_nested_json_is_refused_without_an_internal_error(
    shell: Shell, tmp_path: Path, depth: int
) -> None:
    """700 brackets parse, but once exhausted Python's stack in the code that walks the value."""
    deep = "[" * depth + "]" * depth
    file = tmp_path / "deep.json"
    file.write_text(deep)
    imported = shell("import", str(file))
    sent = shell("put", "kitchen", "/x", "--format", "cbor", "--data", deep[: 100 * 1024])
    for done, code in ((imported, 1), (sent, 2)):
        assert done.code == code
        assert "internal error" not in done.err
    assert f"deeper than {32}" in imported.err
    answer = Reply("2.05", deep.encode(), NUMBERS[Format.JSON])
    assert as_text(answer)
    assert json_line(as_json(answer))
    with pytest.raises(Malformed):
        book_untrusted(f'{{"schema": 1, "devices": {deep}}}'.encode())


# ------------------------------------------------------------------------------------------- links


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["devices.json", "devices.lock"])
def test_a_symbolic_link_of_another_user_is_not_followed(
    book: DeviceBook, tmp_path: Path, name: str
) -> None:
    """CWE-59: a user who can write to the folder must not make the client use another file."""
    victim = tmp_path / "victim"
    book.path.parent.mkdir()
    (book.path.parent / name).symlink_to(victim)
    os.chown(book.path.parent / name, 12345, -1, follow_symlinks=False)
    with pytest.raises(BookError, match="symbolic link") as caught:
        book.put(device(1))
    assert caught.value.advice
    assert name in str(caught.value)
    assert not victim.exists(), "the target of the link was created"
    victim.write_bytes(book_bytes({}))
    with pytest.raises(BookError, match="symbolic link"):
        book.put(device(1))
    assert victim.read_bytes() == book_bytes({})


def test_a_lock_file_that_is_a_symbolic_link_is_refused(book: DeviceBook, tmp_path: Path) -> None:
    book.path.parent.mkdir()
    (book.path.parent / "devices.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(BookError, match=r"devices\.lock: it is a symbolic link"):
        book.put(device(1))
    assert not (tmp_path / "victim").exists()


def test_a_link_of_this_user_is_followed_and_stays(book: DeviceBook, tmp_path: Path) -> None:
    """Dotfile managers and synchronized folders replace the file by a link."""
    synced = tmp_path / "synced"
    synced.mkdir()
    book.path.parent.mkdir()
    book.path.symlink_to("../middle.json")
    (tmp_path / "middle.json").symlink_to(synced / "handfast.json")
    book.put(device(1))  # the target does not exist yet
    book.put(device(2))
    assert book.path.is_symlink()
    assert (tmp_path / "middle.json").is_symlink()
    assert DeviceBook(synced / "handfast.json").all() == book.all() == [device(1), device(2)]
    assert {one.name for one in synced.iterdir()} == {"handfast.json", "handfast.lock"}
    assert [one.name for one in book.path.parent.iterdir()] == ["devices.json"]
    with (synced / "handfast.lock").open() as lock:  # as another link to the file takes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BookError, match="locked by another program"):
            book.put(device(3))


def test_links_that_lead_nowhere_are_named_with_what_to_do(
    book: DeviceBook, tmp_path: Path
) -> None:
    book.path.parent.mkdir()
    book.path.symlink_to(book.path)
    with pytest.raises(BookError, match="Too many levels of symbolic links") as loop:
        book.all()
    assert "--home" in loop.value.advice
    book.path.unlink()
    book.path.symlink_to(tmp_path / "unmounted" / "devices.json")
    assert book.all() == []
    with pytest.raises(BookError, match="No such file or directory") as caught:
        book.put(device(1))
    assert "It is a symbolic link" in caught.value.advice
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.parametrize("name", ["devices.json", "devices.lock"])
def test_a_fifo_is_refused_without_blocking(book: DeviceBook, name: str) -> None:
    book.path.parent.mkdir()
    os.mkfifo(book.path.parent / name)
    with pytest.raises(BookError, match="not a regular file"):
        book.put(device(1))


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["devices.json", "devices.lock"])
def test_a_file_of_another_user_is_refused(book: DeviceBook, name: str) -> None:
    book.put(device(1))
    os.chown(book.path.parent / name, 12345, -1)
    with pytest.raises(BookError, match="another user"):
        book.put(device(2))


def test_a_key_file_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere.pem"
    home.mkdir()
    (home / "identity.pem").symlink_to(elsewhere)
    with pytest.raises(IdentityError, match="symbolic link"):
        _ = Client(home=home).identity
    assert not elsewhere.exists(), "a key was created at the target of the link"
    Identity.create().save(elsewhere)
    with pytest.raises(IdentityError, match="symbolic link"):
        _ = Client(home=home).identity


# ------------------------------------------------------------------------------------ loss of power

CUT = """
import os, pathlib, sys
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from peer.identity import Fingerprint

step, seen = int(sys.argv[2]), 0

def cut_at(work):
    def run(*args, **options):
        global seen
        seen += 1
        if seen == step:
            os._exit(9)  # without any cleanup
        return work(*args, **options)
    return run

os.fsync = cut_at(os.fsync)
pathlib.Path.replace = cut_at(pathlib.Path.replace)
DeviceBook(pathlib.Path(sys.argv[1])).put(KnownDevice("new", Fingerprint(b"n" * 32)))
"""


def test_loss_of_power_at_any_step_leaves_the_old_or_the_new_file(book: DeviceBook) -> None:
    """The content is synced before the file gets its name, and no temporary file remains."""
    book.put(device(1))
    before = book.path.read_bytes()
    outcomes = []
    for step in range(1, 10):
        book.path.write_bytes(before)
        run = subprocess.run(
            [sys.executable, "-c", CUT, str(book.path), str(step)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            timeout=60,
        )
        outcomes.append("new" in {one.alias for one in book.all()})
        if run.returncode == 0:
            break
        assert run.returncode == 9
        book.put(device(1000 + step))  # the lock ended with its process
        assert {one.name for one in book.path.parent.iterdir()} == {"devices.json", "devices.lock"}
    assert outcomes == [False, False, True, True], (
        "the steps are: sync the content, rename, sync the folder"
    )


def test_a_new_folder_is_synced_to_disk(book: DeviceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    book.put(device(1))
    assert synced[0] == book.path.parent.parent
    assert synced[1].parent == book.path.parent
    assert synced[2] == book.path.parent
    assert json.loads(book.path.read_bytes())["devices"]
