"""TLS servers that misbehave as brokers, and record what a client sent."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from peer.remote.settings import Server
from peer.secret import Secret
from tests.kit.brokers import LOOPBACK
from tests.kit.tls_files import TlsFiles, tls_files

CONNACK = bytes.fromhex("20020000")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FalseBroker:
    """A listener, the bytes that clients sent after TLS, and how many connections have ended."""

    port: int
    tls: TlsFiles
    received: bytearray = field(default_factory=bytearray)
    connections: int = 0
    ended: int = 0

    def server(self, *, pin: bytes | None = None) -> Server:
        pin = self.tls.pin if pin is None else pin
        return Server(f"mqtts://{LOOPBACK}:{self.port}", "home", Secret("a password"), pin)


@contextlib.asynccontextmanager
async def false_broker(
    folder: Path, answer: Answer, *, has_tls: bool = True
) -> AsyncIterator[FalseBroker]:
    """Listen until the end of the context. `answer` serves each connection."""
    files = tls_files(folder, LOOPBACK)
    context = None
    if has_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker.connections += 1
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            broker.ended += 1
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    broker = FalseBroker(int(server.sockets[0].getsockname()[1]), files)
    async with server:
        yield broker


async def accept_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read CONNECT, and accept it."""
    header = await reader.readexactly(2)
    await reader.readexactly(header[1])
    writer.write(CONNACK)
    await writer.drain()


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass
