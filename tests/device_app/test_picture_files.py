"""Picture files of labels and invites, which contain secrets."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from device_app.terminal import picture_files
from peer.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_picture_is_readable_only_by_its_owner_and_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "code.png"
    picture_files.require_new(path)
    picture_files.write(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o600
    for refused in (path, tmp_path / "nowhere" / "code.png"):
        with pytest.raises(UsageError, match=r"code\.png"):
            picture_files.require_new(refused)
        with pytest.raises(UsageError, match="cannot be written"):
            picture_files.write(refused, b"two")
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize(
    ("mode", "what"), [(0o755, "read it"), (0o644, "read it"), (0o777, "change it")]
)
def test_a_picture_that_other_users_can_read_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: int,
    what: str,
) -> None:
    """On FAT a file has the mode of the mount, whatever mode it was created with."""
    found = os.fstat

    def fixed(handle: int) -> os.stat_result:
        return os.stat_result((stat.S_IFREG | mode, *list(found(handle))[1:]))

    monkeypatch.setattr(os, "fstat", fixed)
    path = tmp_path / "code.png"
    picture_files.write_all([(path, lambda _text, _caption: b"picture")], "text")
    assert path.read_bytes() == b"picture"
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {path} contains a secret")
    assert what in said
    assert f"{mode:04o}" in said


def test_a_private_picture_is_written_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture_files.write(tmp_path / "code.png", b"picture")
    assert not capsys.readouterr().err
