"""TCP services on loopback for tunnels: they note what they receive, and do what a test wants."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from peer.remote.stream_copy import Pair


class TcpService:
    """A TCP server whose connections a test takes from `accepted`.

    Before `start`, its port is its own and refuses connections.
    """

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Pair] = asyncio.Queue()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._socket)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.accepted.put_nowait((reader, writer))

    def discard(self) -> None:
        """Free the port of a service that was never started."""
        self._socket.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        self.discard()


@asynccontextmanager
async def tcp_service() -> AsyncIterator[TcpService]:
    service = TcpService()
    await service.start()
    try:
        yield service
    finally:
        await service.close()
