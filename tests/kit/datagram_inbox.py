"""Sockets of systemd that a test owns: they keep every datagram that a daemon sends to them."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.kit.waiting import TIMEOUT_SECONDS


class DatagramInbox:
    """A local datagram socket, read by a thread, so that its queue never fills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._received: list[bytes] = []
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and remove the socket."""
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join(TIMEOUT_SECONDS)
        self._socket.close()
        self.path.unlink()

    def _read(self) -> None:
        while data := self._socket.recv(1 << 20):
            with self._changed:
                self._received.append(data)
                self._changed.notify_all()

    @property
    def received(self) -> list[bytes]:
        """The datagrams so far."""
        with self._changed:
            return [*self._received]

    async def until(self, holds: Callable[[list[bytes]], object]) -> list[bytes]:
        """Wait for datagrams that meet a condition; return all of them."""

        def wait() -> list[bytes]:
            with self._changed:
                assert self._changed.wait_for(lambda: holds(self._received), TIMEOUT_SECONDS), (
                    self._received
                )
                return [*self._received]

        return await asyncio.to_thread(wait)


Message = dict[str, str]


class Manager(DatagramInbox):
    """The socket of a service manager (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._seen = 0

    def environment(self, *, watchdog_seconds: float = 0.0) -> dict[str, str]:
        """The variables that it sets for a service."""
        found = {"NOTIFY_SOCKET": str(self.path)}
        if watchdog_seconds:
            found["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))
        return found

    async def next(self, name: str, *, times: int = 1) -> list[Message]:
        """Wait for messages with this field; return those after the last call until the last."""
        start = self._seen

        def end(all_data: list[bytes]) -> int:
            left = times
            for number, data in enumerate(all_data[start:], start):
                left -= name in parsed(data)
                if not left:
                    return number + 1
            return 0

        found = await self.until(end)
        self._seen = end(found)
        return [parsed(data) for data in found[start : self._seen]]


def parsed(data: bytes) -> Message:
    """The assignments of a message: one a line, each name once."""
    pairs = [line.partition("=") for line in data.decode().split("\n")]
    assert all(equals for _, equals, _ in pairs), data
    assert len({name for name, *_ in pairs}) == len(pairs), data
    return {name: value for name, _, value in pairs}


def systemd_journal_fields(data: bytes) -> list[tuple[str, str]]:
    """The fields of an entry in journald's native protocol, in their order."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            [size] = struct.unpack_from("<Q", rest)
            value, end = rest[8 : 8 + size], rest[8 + size : 9 + size]
            assert end == b"\n"
            data = rest[9 + size :]
        found.append((name.decode("ascii"), value.decode()))
    return found
