"""`SSLKEYLOGFILE`: with it captured traffic can be read; without it nothing is written."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from typing import TYPE_CHECKING

import pytest

from peer.dtls import key_log as dtls_key_log
from peer.net import key_log
from peer.net.address import Address
from peer.testing import Proxy
from tests.kit.device import fixed_port
from tests.kit.pcap import write_capture
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.device import Device, Kit

PORT = 5685


@pytest.fixture(autouse=True)
def stops_logging() -> Iterator[None]:
    yield
    dtls_key_log.set_sink(None)


async def captured_pairing(kit: Kit, device: Device, folder: Path) -> Path:
    """Pair through a proxy, and return the capture."""
    datagrams: list[tuple[bool, bytes]] = []

    def note(*, is_to_device: bool, data: bytes) -> bytes:
        datagrams.append((is_to_device, data))
        return data

    await device.open()
    proxy = await Proxy.start(
        Address("127.0.0.1", device.port(pairing=True)),
        to_device=lambda data: note(is_to_device=True, data=data),
        to_client=lambda data: note(is_to_device=False, data=data),
    )
    caller = kit.caller(device)
    caller.port = fixed_port(proxy.address.port)
    assert (await device.pair(caller, "anna")).code == "2.04"
    await caller.close()
    proxy.close()
    path = folder / "pairing.pcap"
    write_capture(path, datagrams, device_port=PORT)
    return path


async def dissected(capture: Path, keys: Path) -> list[str]:
    """The CoAP messages that tshark finds: method or code, and path."""
    process = await asyncio.create_subprocess_exec(
        *("tshark", "-r", str(capture), "-o", f"tls.keylog_file:{keys}"),
        *("-d", f"dtls.port=={PORT},coap", "-Y", "coap", "-T", "fields"),
        *("-e", "coap.code", "-e", "coap.opt.uri_path_recon"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode().splitlines()


@pytest.mark.needs_tool("tshark")
async def test_tshark_reads_a_pairing_with_the_logged_keys(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    path = tmp_path / "keys.txt"
    assert key_log.start({"SSLKEYLOGFILE": str(path)})
    capture = await captured_pairing(kit, device, tmp_path)
    found = await dissected(capture, path)
    assert [line for line in found if line.startswith("2\t")], found  # POST
    assert any("/pair" in line for line in found), found
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("")
    assert await dissected(capture, nothing) == []


async def test_nothing_is_logged_without_the_variable(
    kit: Kit, device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not key_log.start({})
    assert not key_log.start({"SSLKEYLOGFILE": ""})
    await captured_pairing(kit, device, tmp_path)
    assert dtls_key_log.sink() is None
    assert "SSLKEYLOGFILE" not in caplog.text


def test_the_log_is_private_and_appended_to_and_its_use_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("# earlier\n")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert key_log.start({"SSLKEYLOGFILE": str(path)})
        assert key_log.start({"SSLKEYLOGFILE": str(path)})
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    sink = dtls_key_log.sink()
    assert sink is not None
    sink(b"CLIENT_RANDOM 00 11")
    assert path.read_text() == "# earlier\nCLIENT_RANDOM 00 11\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["symbolic link", "folder", "pipe", "no folder"])
def test_a_log_that_cannot_be_trusted_is_not_written(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.txt"
    if kind == "symbolic link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "missing" / "keys.txt"
    assert not key_log.start({"SSLKEYLOGFILE": str(path)})
    assert dtls_key_log.sink() is None
    assert "not logged" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


def test_no_keys_are_logged_to_a_file_that_other_users_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some mounts of FAT accept a change of the mode and ignore it."""
    monkeypatch.setattr(os, "fchmod", lambda _file, _mode: None)
    path = tmp_path / "keys"
    path.touch(0o644)
    path.chmod(0o644)
    assert not key_log.start({"SSLKEYLOGFILE": str(path)})
    assert "other users could read it" in caplog.text
    assert not dtls_key_log.sink()
