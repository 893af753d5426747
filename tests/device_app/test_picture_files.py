"""Picture files of labels and invites, which contain secrets."""

from __future__ import annotations

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
