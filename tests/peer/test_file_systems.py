"""File systems without hard links, permissions or sync of folders: FAT, exFAT, some FUSE and NFS.

A kernel that can mount FAT is rare where tests run, so the calls fail as they do there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import iam.files
import peer.files
from client_app.client import Client
from client_app.errors import BookError
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.console import offline
from device_app.settings.paths import Paths
from peer.errors import IdentityError
from peer.identity import Fingerprint, Identity

DEVICE = KnownDevice("kitchen", Fingerprint(bytes(32)), user="anna")
Fault = Callable[..., None]


def failing(number: int) -> Fault:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def no_hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(request.param))


@pytest.fixture(params=[errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def no_folder_sync(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(request.param, os.strerror(request.param))
        sync(handle)

    monkeypatch.setattr(os, "fsync", only_files)


@pytest.fixture
def no_permissions(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that makes every file have a mode, as a mount of FAT does."""

    def fix(mode: int) -> None:
        found = os.fstat

        def fixed(handle: int) -> os.stat_result:
            real = found(handle)
            if not stat.S_ISREG(real.st_mode):
                return real
            return os.stat_result((stat.S_IFREG | mode, *list(real)[1:]))

        monkeypatch.setattr(os, "fstat", fixed)
        monkeypatch.setattr(os, "fchmod", failing(errno.EPERM))

    return fix


@pytest.mark.usefixtures("no_hard_links")
def test_a_new_file_is_written_without_hard_links_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "key"
    peer.files.atomic_write(path, b"first", replace=False)
    for existing in (path, tmp_path / "link"):
        if existing != path:
            existing.symlink_to("nowhere")
        with pytest.raises(FileExistsError):
            peer.files.atomic_write(existing, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert {one.name for one in tmp_path.iterdir()} == {"key", "link"}


@pytest.mark.usefixtures("no_hard_links")
def test_of_many_writers_without_hard_links_one_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def write(number: int) -> int | None:
        try:
            peer.files.atomic_write(path, str(number).encode(), replace=False)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        written = [one for one in pool.map(write, range(32)) if one is not None]
    assert [path.read_text()] == [str(one) for one in written]


@pytest.mark.usefixtures("no_hard_links")
def test_the_folder_is_locked_while_a_name_is_taken_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = os.path.lexists
    attempts: list[bool] = []

    def locked(path: Path) -> bool:
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            attempts.append(True)
        finally:
            os.close(folder)
        return exists(path)

    monkeypatch.setattr(os.path, "lexists", locked)
    peer.files.atomic_write(tmp_path / "key", b"", replace=False)
    assert attempts


def test_an_error_of_the_disk_is_not_taken_for_missing_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        peer.files.atomic_write(tmp_path / "key", b"", replace=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_hard_links", "no_folder_sync")
def test_a_client_and_a_device_keep_their_files_without_both(tmp_path: Path) -> None:
    _ = Client(home=tmp_path / "client").identity
    DeviceBook(tmp_path / "client" / "devices.json").put(DEVICE)
    folder = tmp_path / "device"
    offline.init(Paths(folder, folder, folder), name="kitchen", force=False)
    assert {"device-key.pem", "device.db", "device.toml"} <= {one.name for one in folder.iterdir()}


@pytest.mark.parametrize("write", [peer.files.atomic_write, iam.files.atomic_write])
def test_an_error_of_the_disk_in_the_sync_of_a_folder_is_reported(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def failing_folder(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing_folder)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "file", b"")


def test_a_file_that_does_not_sync_is_an_error_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    for write in (peer.files.atomic_write, iam.files.atomic_write):
        with pytest.raises(OSError, match="Invalid argument"):
            write(tmp_path / "file", b"")


@pytest.mark.parametrize("mode", [0o755, 0o644, 0o777])
def test_no_key_is_written_where_other_users_could_read_it(
    tmp_path: Path, no_permissions: Callable[[int], None], mode: int
) -> None:
    no_permissions(mode)
    with pytest.raises(OSError, match="its file system stores no permissions"):
        Identity.create().save(tmp_path / "identity.pem")
    assert not list(tmp_path.iterdir())
    with pytest.raises(IdentityError, match="its file system stores no permissions"):
        _ = Client(home=tmp_path).identity


def test_a_key_is_written_where_the_mount_hides_it_from_other_users(
    tmp_path: Path, no_permissions: Callable[[int], None]
) -> None:
    no_permissions(0o700)
    assert Client(home=tmp_path).identity.fingerprint == Client(home=tmp_path).identity.fingerprint


def test_the_list_of_devices_may_be_read_by_others_and_not_written(
    tmp_path: Path, no_permissions: Callable[[int], None]
) -> None:
    """It contains fingerprints, which are trusted, and no secret."""
    book = DeviceBook(tmp_path / "devices.json")
    no_permissions(0o755)
    book.put(DEVICE)
    assert book.all() == [DEVICE]
    no_permissions(0o777)
    with pytest.raises(BookError, match="writable by other users"):
        book.put(KnownDevice("cellar", Fingerprint(b"\1" * 32)))


def test_a_read_only_file_system_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = DeviceBook(tmp_path / "devices.json")
    book.put(DEVICE)
    monkeypatch.setattr("tempfile.mkstemp", failing(errno.EROFS))
    for change in (book.check_writable, lambda: book.forget("kitchen")):
        with pytest.raises(BookError, match="Read-only file system") as caught:
            change()
        assert "--home" in caught.value.advice
    assert book.all() == [DEVICE]
