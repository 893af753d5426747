"""Tunnels of foreign DTLS clients for CoAP clients that have UDP only."""

import os
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from peer.net.address import Address
from tests.kit.waiting import TIMEOUT_SECONDS

HOST: Final = "127.0.0.1"
DATAGRAM_BYTES: Final = 65535


class Tunnel:
    """A foreign DTLS client whose standard input and output are datagrams.

    Both are one socket of the kind SOCK_SEQPACKET, so each `read` of the program is one datagram to
    encrypt, and each `write` is one that it has decrypted. A UDP port takes the datagrams of a CoAP
    client and returns the answers to the source of the last one.
    """

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.command = list(command)
        self._inside, program_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((HOST, 0))
        self._log = b""
        self._client: tuple[str, int] | None = None
        self._process = subprocess.Popen(
            self.command,
            env=env,
            stdin=program_side.fileno(),
            stdout=program_side.fileno(),
            stderr=subprocess.PIPE,
        )
        program_side.close()
        self._threads = [
            threading.Thread(target=step, daemon=True)
            for step in (self._outwards, self._inwards, self._read_log)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> Address:
        """The address to which a CoAP client sends its datagrams."""
        return Address(HOST, int(self._udp.getsockname()[1]))

    def end_input(self) -> None:
        """Let the program read an end of file. It may read on, for example on a new session."""
        self._inside.send(b"")

    def _outwards(self) -> None:
        with suppress(OSError):  # the tunnel or the program has been closed
            while True:
                data, self._client = self._udp.recvfrom(DATAGRAM_BYTES)
                if not data:
                    return
                self._inside.send(data)

    def _inwards(self) -> None:
        with suppress(OSError):
            while data := self._inside.recv(DATAGRAM_BYTES):
                if self._client is not None:
                    self._udp.sendto(data, self._client)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        while data := os.read(self._process.stderr.fileno(), DATAGRAM_BYTES):
            self._log += data

    def close(self) -> None:
        """Kill the program and free the sockets."""
        self._process.kill()
        self._process.wait(TIMEOUT_SECONDS)
        with suppress(OSError):  # unblocks `recvfrom`
            self._udp.sendto(b"", self._udp.getsockname())
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        self._inside.close()
        self._udp.close()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{' '.join(self.command)}\n{self._log.decode('utf-8', 'replace')}"
