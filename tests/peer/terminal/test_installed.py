"""The version of the installed distribution, read without `importlib.metadata`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from peer.terminal.installed import VERSION, version_in

if TYPE_CHECKING:
    from pathlib import Path


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("handfast") == VERSION == version_in(sys.path)


def test_the_first_folder_that_has_the_distribution_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        about = tmp_path / str(number) / f"handfast-{number}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Name: handfast\nVersion: {number}.0+local\n\nVersion: 9")
    folders = [str(tmp_path / name) for name in ("none", "2", "1")]
    assert version_in(folders) == "2.0+local"
    assert version_in(folders[:1]) == ""
