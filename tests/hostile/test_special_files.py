"""A FIFO or a device node instead of a regular file is refused or passed over without blocking.

A thread writes valid content into each FIFO. A reader that opened it would not block but succeed,
so the test would fail.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client_app.errors import BookError
from client_app.known_devices import DeviceBook
from client_app.terminal.picture import text_in_picture
from device_app.access.policies import PolicySet, check
from device_app.console.nabto_import import NabtoImport
from device_app.errors import AppError, ConfigError, ModuleError
from device_app.modules import loading
from device_app.resource_spec import Board
from device_app.settings import config
from device_app.settings.paths import Paths
from peer.errors import UsageError
from peer.files import open_regular, read_regular
from peer.terminal.qr import png
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Kit

POLICY = b'[[role]]\nid = "reader"\nrank = 5\npolicies = []\n'
MODULE = b"def resources(board):\n    return []\n"
NABTO = b'{"Version": 1, "Config": {}, "Policies": [], "Roles": []}'

MakeFifo = Callable[[Path, bytes], Path]


@pytest.fixture
def fifo() -> Iterator[MakeFifo]:
    """A function that creates a FIFO with a writer that waits for a reader."""
    made: list[tuple[Path, threading.Thread]] = []

    def make(path: Path, content: bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path, 0o600)

        def write() -> None:
            # It waits for a reader, which may close the FIFO without reading.
            with suppress(BrokenPipeError), open(path, "wb") as pipe:  # noqa: PTH123
                pipe.write(content)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        made.append((path, thread))
        return path

    yield make
    for path, thread in made:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # ends the wait of the writer
        thread.join(TIMEOUT_SECONDS)
        os.close(reader)
        assert not thread.is_alive()


def test_a_regular_file_is_read_directly_and_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    link = tmp_path / "b"
    link.symlink_to(path)
    assert read_regular(path, 10) == read_regular(link, 10) == b"0123456789"
    with pytest.raises(OSError, match="longer than 9 bytes"):
        read_regular(path, 9)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "c", 9)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 9)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_node_is_not_opened(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args))
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(Path(device), 9)
    assert not opened


def test_a_fifo_that_replaces_the_file_before_the_opening_is_refused(
    tmp_path: Path, fifo: MakeFifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced between the check and the opening."""
    path = tmp_path / "a"
    path.write_bytes(b"before")
    other = fifo(tmp_path / "b", b"after")
    real = os.open
    flags_seen: list[int] = []

    def swapped(_name: str, flags: int) -> int:
        flags_seen.append(flags)
        return real(other, flags | os.O_NONBLOCK)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)
    assert flags_seen[0] & os.O_NONBLOCK


def test_a_fifo_as_configuration_file_is_refused(tmp_path: Path, fifo: MakeFifo) -> None:
    paths = Paths(tmp_path, tmp_path, tmp_path)
    fifo(paths.config_file, b'name = "kitchen"\n')
    with pytest.raises(ConfigError, match=r"device\.toml: cannot be read: it is not a regular"):
        config.load(paths.config_files)


def test_a_fifo_in_the_configuration_folder_is_not_opened(tmp_path: Path, fifo: MakeFifo) -> None:
    paths = Paths(tmp_path, tmp_path, tmp_path)
    path = fifo(tmp_path / "device.d" / "a.toml", b'name = "kitchen"\n')
    assert config.load(paths.config_files).name == ""
    assert paths.config_drop_ins.warnings == (f"{path.parent}: passed over: a.toml (a FIFO)",)
    with pytest.raises(ConfigError, match=r"a\.toml: cannot be read: it is not a regular"):
        config.load([path])  # it took the place of a file after the folder was read


def test_a_fifo_as_policy_file_is_not_opened(tmp_path: Path, fifo: MakeFifo) -> None:
    path = fifo(tmp_path / "policy.d" / "a.toml", POLICY)
    read = PolicySet.read(path.parent, {})
    assert "reader" not in read.access.roles
    assert read.warnings == (f"{path.parent}: passed over: a.toml (a FIFO)",)
    with pytest.raises(ConfigError, match=r"a\.toml: cannot be read: it is not a regular"):
        check([path])


def test_the_total_size_of_policy_files_is_bounded(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml", "c.toml"):
        (tmp_path / name).write_bytes(b"#" * 2000 + b"\n" + b"\n" * 1_500_000)
    with pytest.raises(ConfigError, match=r"c\.toml: cannot be read: it is longer than"):
        PolicySet.read(tmp_path, {})
    (tmp_path / "c.toml").unlink()
    assert PolicySet.read(tmp_path, {}).files


@pytest.mark.parametrize("name", ["my_lamp.py", "my_lamp/__init__.py", "my_lamp/__init__.so"])
def test_a_fifo_as_module_is_refused(
    tmp_path: Path, fifo: MakeFifo, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    fifo(tmp_path / "modules" / name, MODULE)
    board = Board("kitchen", "B9X7HK54", subject=lambda _request: pytest.fail("no request"))
    with pytest.raises(ModuleError, match="is not a regular file, so nothing in"):
        loading.load(["my_lamp"], tmp_path / "modules", board, installed=False)
    with pytest.raises(ModuleError, match="is not a regular file, so nothing in"):
        loading.load([], tmp_path / "modules", board, installed=False)


def test_a_fifo_as_nabto_file_is_refused(tmp_path: Path, fifo: MakeFifo) -> None:
    path = fifo(tmp_path / "iam_config.json", NABTO)
    with pytest.raises(AppError, match="cannot be read: it is not a regular file"):
        NabtoImport.read(path, None)


def test_a_fifo_as_list_of_known_devices_is_refused(tmp_path: Path, fifo: MakeFifo) -> None:
    path = fifo(tmp_path / "devices.json", b'{"version": 1, "devices": []}')
    with pytest.raises(BookError, match="not a regular file"):
        DeviceBook(path).all()


def test_a_fifo_as_picture_is_refused(tmp_path: Path, fifo: MakeFifo) -> None:
    with pytest.raises(UsageError, match="is not a readable picture"):
        text_in_picture(fifo(tmp_path / "box.png", png("HANDFAST:1:A")))


async def test_a_running_device_does_not_open_a_fifo_and_continues(
    kit: Kit, fifo: MakeFifo
) -> None:
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    fifo(kit.home / "policy.d" / "test.toml", POLICY)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert not (await device.app.policies.reload())["changed_roles"]
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert "test.toml (a FIFO)" in device.app.status()["policy"]["warnings"][0]
