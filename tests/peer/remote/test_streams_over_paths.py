"""Streams over a path with two carriers: what is sealed, and the switch from one to the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from peer.identity import Identity
from peer.net.address import Address
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.remote.flights import is_sealed
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.messages import CarrierKind
from peer.remote.pair_keys import PathKeys
from peer.remote.path import Path
from peer.remote.stream_copy import Pair
from peer.remote.streams import ClientStreams, StreamServer
from peer.secret import Secret
from tests.kit.internals import endpoint_of
from tests.kit.waiting import until

KEYS = PathKeys(Secret(b"d" * 16), Secret(b"c" * 16))
NEVER = RemoteLimits(relay_linger_seconds=1000.0)
LONG_HEADER = 0xC0


class MemoryCarrier:
    """One end of a carrier in memory. It delivers to the path at the other end."""

    def __init__(self, kind: CarrierKind, other: Path) -> None:
        self.kind = kind
        self.remote_address = Address("198.51.100.9", 4000 + kind)
        self.sent: list[bytes] = []
        self.end: MemoryCarrier | None = None
        self._other = other

    def send(self, data: bytes) -> bool:
        assert self.end is not None
        self.sent.append(data)
        loop = asyncio.get_running_loop()
        loop.call_soon(self._other.receive_untrusted, self.end, data)
        return True

    async def close(self) -> None:
        pass


class Ends:
    """The two ends of a path, and the streams over its session."""

    def __init__(self) -> None:
        self.client, self.device = (
            Path(
                KEYS,
                is_client=is_client,
                limits=NEVER,
                counters=Counter(),
                on_change=lambda: None,
            )
            for is_client in (True, False)
        )
        self.accepted: asyncio.Queue[Pair] = asyncio.Queue()

    def add(self, kind: CarrierKind) -> tuple[MemoryCarrier, MemoryCarrier]:
        """Add a carrier; return the end of the client and that of the device."""
        near, far = MemoryCarrier(kind, self.device), MemoryCarrier(kind, self.client)
        near.end, far.end = far, near
        self.device.add(far)
        self.client.add(near)
        return near, far

    async def serve(
        self, _session: Association, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted.put_nowait((reader, writer))


async def test_streams_follow_the_client_to_another_carrier_and_show_no_handshake(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    """The device learns of the switch from the packets of the streams alone."""
    served, ends = await serve(), Ends()
    relay, relay_far = ends.add(CarrierKind.RELAY)
    served.server.attach(ends.device, client.fingerprint)
    connection = await caller.connect_over(ends.client, pinned=served.identity.fingerprint)
    server = StreamServer(served.identity, ends.serve, limits=DEFAULT_REMOTE_LIMITS)
    (association,) = endpoint_of(served.server).associations()
    server.arm(association)
    streams = ClientStreams(connection.association)
    reader, writer = await streams.open()
    writer.write(b"by relay")
    far_reader, far_writer = await ends.accepted.get()
    assert await far_reader.readexactly(8) == b"by relay"
    _direct, direct_far = ends.add(CarrierKind.DIRECT)
    assert not direct_far.sent
    far_writer.write(b"still there")
    assert await reader.readexactly(11) == b"still there"
    writer.write(b"direct")
    assert await far_reader.readexactly(6) == b"direct"
    await until(lambda: direct_far.sent)
    before = len(relay_far.sent)
    far_writer.write(b"x" * 300_000)
    assert await reader.readexactly(300_000) == b"x" * 300_000
    assert len(relay_far.sent) == before
    sent = [*relay.sent, *relay_far.sent, *direct_far.sent]
    assert [data for data in sent if data[0] >= LONG_HEADER] == []
    assert any(map(is_sealed, sent))
    assert b"handfast/1" not in b"".join(sent)
    for one in (writer, far_writer):
        one.close()
    server.close()
    await connection.close()
