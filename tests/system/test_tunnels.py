"""`handfast tunnel` and `connect` as processes, with a daemon that restarts and a revocation."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.kit.waiting import TIMEOUT_SECONDS, block_until

if TYPE_CHECKING:
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow


class EchoService:
    """A TCP service that returns what it receives, and after its end "bye"."""

    def __init__(self) -> None:
        self.resets = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
                connection.sendall(b"bye")
            except ConnectionError:
                self.resets += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def service() -> Iterator[EchoService]:
    made = EchoService()
    yield made
    made.close()


@pytest.fixture
def home(stage: Stage, service: EchoService) -> tuple[Device, Client]:
    """A running device with the service `echo`, and its client `anna`."""
    device, anna = stage.device(), stage.client("anna")
    (device.home / "device.d" / "tunnel.toml").write_text(
        f'[tunnel.services]\necho = "127.0.0.1:{service.port}"\n'
    )
    device.boot()
    device.admit(anna, "anna", role="user")
    return device, anna


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    made.settimeout(TIMEOUT_SECONDS)
    return made


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    found = b""
    while len(found) < len(data) and (part := connection.recv(65_536)):
        found += part
    return found


def test_a_port_outlives_a_restart_of_the_device_and_ends_with_ctrl_c(
    home: tuple[Device, Client],
) -> None:
    device, anna = home
    tunnel = anna.start("--json", "tunnel", device.name, "echo:0")
    opened = json.loads(tunnel.until("\n", on="out"))
    assert (opened["service"], opened["host"]) == ("echo", "127.0.0.1")
    with closing(connected(opened["port"])) as first:
        assert echoed(first, b"one") == b"one"
        device.stop()
        with pytest.raises(ConnectionResetError):
            first.recv(1)
    device.boot()
    with closing(connected(opened["port"])) as second:
        assert echoed(second, b"two") == b"two"
        second.shutdown(socket.SHUT_WR)
        assert second.recv(100) == b"bye"
    tunnel.send(signal.SIGINT)
    tunnel.end(code=130)


def test_connect_passes_bytes_and_ends_both_ways(home: tuple[Device, Client]) -> None:
    device, anna = home
    words = [sys.executable, "-m", "client_app", "--home", str(anna.home)]
    done = subprocess.run(
        [*words, "connect", device.name, "echo"],
        input=b"\x00\xff" * 100_000,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"\x00\xff" * 100_000 + b"bye"


def test_a_revocation_ends_open_connections_and_refuses_others(
    home: tuple[Device, Client], service: EchoService
) -> None:
    device, anna = home
    tunnel = anna.start("--json", "tunnel", device.name, "echo")
    port = json.loads(tunnel.until("\n", on="out"))["port"]
    with closing(connected(port)) as connection:
        assert echoed(connection, b"one") == b"one"
        device.ask("users-remove", name="anna")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    block_until(lambda: service.resets == 1)
    with closing(connected(port)) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert "does not know your key" in tunnel.until("does not know your key")
    tunnel.send(signal.SIGTERM)
    tunnel.end(code=143)
