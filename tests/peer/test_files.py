"""Durable writes. `peer` and `iam` never import each other, so each has its own function."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import iam.files
import peer.files

Write = Callable[[Path, bytes], None]


@pytest.fixture(params=[peer.files.atomic_write, iam.files.atomic_write], ids=["peer", "iam"])
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.param
    return found


def test_the_content_is_replaced_and_only_readable_by_its_owner(
    write: Write, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"the second, which is longer", b""):
        write(path, content)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]


def test_a_write_syncs_the_content_before_the_rename_and_the_folder_after(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    steps: list[tuple[str, bytes]] = []
    synced_sizes: list[int] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        kind = "folder" if Path(f"/proc/self/fd/{handle}").readlink() == tmp_path else "file"
        steps.append((kind, path.read_bytes()))
        if kind == "file":
            synced_sizes.append(os.fstat(handle).st_size)
        sync(handle)

    def noted_replace(one: Path, other: Path) -> Path:
        steps.append(("name", path.read_bytes()))
        return replace(one, other)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write(path, b"new")
    assert steps == [("file", b"old"), ("name", b"old"), ("folder", b"new")]
    assert synced_sizes == [3], "all data had left the buffer of the process"


def test_an_error_leaves_the_old_content_and_no_temporary_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def no_space(_handle: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_is_replaced_and_not_followed(write: Write, tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_bytes(b"untouched")
    path.symlink_to(target)
    write(path, b"new")
    assert target.read_bytes() == b"untouched"
    assert (path.is_symlink(), path.read_bytes()) == (False, b"new")


def test_without_replace_an_existing_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    peer.files.atomic_write(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        peer.files.atomic_write(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert path.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_given_mode(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    peer.files.atomic_write(path, b"", mode=0o644)
    assert path.stat().st_mode & 0o777 == 0o644
