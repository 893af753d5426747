"""A client of `remote_device.py`, by each route: `remote_client.py SETTINGS`.

Commands: `meet` says where the device is and has to be the first, `first` opens a session and gets
one answer from nothing, `open` keeps sessions open, `close` ends them, `copy` passes data through a
tunnel or a bare copy, and `garbage` publishes messages that the device has to drop.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiocoap
from aiocoap.numbers.codes import Code
from aioquic.asyncio.client import connect as connect_quic
from aioquic.quic.configuration import QuicConfiguration

from peer.fingerprint import Fingerprint
from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import SessionRoute
from peer.remote.broker import Broker
from peer.remote.pair_keys import PairKeys, device_topic
from peer.remote.settings import RemoteSettings
from peer.remote.stream_copy import Pair
from peer.remote.streams import ClientStreams
from peer.remote.streams_header import StreamHeader, StreamOutcome
from tests.bench.remote_limits import ALPN, HOST, LIMITS, REMOTE_LIMITS
from tests.bench.worker import run_commands
from tests.kit.loopback_reach import connect

COPY_BYTES: Final = 65_536
GARBAGE_BYTES: Final = 156  # a sealed message of the shortest size


class Ends:
    """The sessions of a client, and the bare connections."""

    def __init__(self, settings: dict[str, Any], coaps: CoapsClient, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._remote = RemoteSettings.decode_untrusted(bytes.fromhex(settings["remote"]))
        self._pinned: Fingerprint | None = None
        self._coaps = coaps
        self._stack = stack
        self._held: list[CoapsConnection] = []
        self._streams: dict[str, tuple[ClientStreams, bytes]] = {}
        self._quic: Any = None
        self._broker: Broker | None = None

    async def meet(self, **state: Any) -> None:
        """Note the key and the ports of the device."""
        self._settings |= state
        self._pinned = Fingerprint.parse(state["fingerprint"])

    async def _connect(self, route: str) -> CoapsConnection:
        assert self._pinned is not None
        if route == "lan":
            address = Address(HOST, int(self._settings["port"]))
            return await self._coaps.connect(address, pinned=self._pinned)
        via = [SessionRoute(route)]
        return await connect(self._remote, self._coaps, self._pinned, via, limits=REMOTE_LIMITS)

    async def first(self, route: str, count: int) -> list[float]:
        """Milliseconds of each session from nothing to its first answer."""
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            connection = await self._connect(route)
            answer = await connection.request(aiocoap.Message(code=Code.GET, uri_path=("echo",)))
            found.append(1e3 * (time.perf_counter() - begin))
            assert answer.code is Code.CONTENT
            await connection.close()
        return found

    async def open(self, route: str, count: int) -> int:
        """Open further sessions, and keep them."""
        for _ in range(count):
            self._held.append(await self._connect(route))
        return len(self._held)

    async def close(self) -> int:
        """End the sessions that are kept."""
        for one in self._held:
            await one.close()
        self._held.clear()
        return 0

    async def copy(self, over: str, send: int, receive: int) -> list[float]:
        """Send and receive that many bytes; return the seconds, and those of CPU of this process.

        A session and a QUIC connection are opened once, before the first copy.
        """
        await self._prepare(over)
        begin, spent = time.perf_counter(), time.process_time()
        reader, writer = await self._pair(over)
        writer.write(send.to_bytes(8, "big") + receive.to_bytes(8, "big"))
        for start in range(0, send, COPY_BYTES):
            writer.write(bytes(min(COPY_BYTES, send - start)))
            await writer.drain()
        left = receive + 1  # and one byte that says that everything has arrived
        while left:
            data = await reader.read(COPY_BYTES)
            assert data, f"the copy over {over} has ended early"
            left -= len(data)
        taken, spent = time.perf_counter() - begin, time.process_time() - spent
        writer.close()
        return [taken, spent]

    async def _prepare(self, over: str) -> None:
        if over == "quic" and self._quic is None:
            configuration = QuicConfiguration(
                is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE
            )
            port = int(self._settings["quic_port"])
            self._quic = await self._stack.enter_async_context(
                connect_quic(HOST, port, configuration=configuration)
            )
        elif over not in {"quic", "tcp"} and over not in self._streams:
            connection = await self._connect(over)
            message = aiocoap.Message(code=Code.POST, uri_path=("tunnels",))
            tunnel = bytes((await connection.request(message)).payload)
            header = StreamHeader.create(connection.association.session.exporter, tunnel)
            streams = ClientStreams(connection.association, limits=REMOTE_LIMITS)
            self._streams[over] = streams, header.encode()

    async def _pair(self, over: str) -> Pair:
        if over == "tcp":
            return await asyncio.open_connection(HOST, int(self._settings["tcp_port"]))
        if over == "quic":
            pair: Pair = await self._quic.create_stream()
            return pair
        streams, header = self._streams[over]
        reader, writer = await streams.open()
        writer.write(header)
        outcome = StreamOutcome.parse_untrusted(await reader.readexactly(1))
        assert outcome is StreamOutcome.OPEN, outcome
        return reader, writer

    async def garbage(self, count: int) -> int:
        """Publish messages that no key of the device has sealed."""
        if self._broker is None:
            self._broker = await self._stack.enter_async_context(
                Broker.connect(self._remote.brokers[0])
            )
        topic = device_topic(self._remote.prefix, PairKeys(self._remote.secret).topic)
        for _ in range(count):
            await self._broker.publish(topic, secrets.token_bytes(GARBAGE_BYTES))
        return count


async def main(settings: dict[str, Any], identity: Identity) -> None:
    """Run commands until the end of the input."""
    async with AsyncExitStack() as stack, CoapsClient(identity, limits=LIMITS) as coaps:
        ends = Ends(settings, coaps, stack)
        await run_commands(
            {
                "meet": ends.meet,
                "first": ends.first,
                "open": ends.open,
                "close": ends.close,
                "copy": ends.copy,
                "garbage": ends.garbage,
            }
        )


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(main(given, Identity.from_pem(Path(given["identity"]).read_bytes())))
