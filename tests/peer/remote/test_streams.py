"""Streams over sessions on real UDP: data both ways, ends, resets, windows and limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from peer.errors import PeerError, SessionFailed
from peer.identity import Identity
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, STREAM_READ_BYTES, RemoteLimits
from peer.remote.stream_copy import Pair
from peer.remote.streams import ClientStreams, StreamServer
from peer.remote.streams_quic import StreamConnection
from tests.kit.internals import endpoint_of
from tests.kit.memory_paths import MemoryPath
from tests.kit.serve import Served
from tests.kit.waiting import until

SMALL = replace(
    DEFAULT_REMOTE_LIMITS,
    stream_window_bytes=200_000,
    session_window_bytes=400_000,
    small_window_bytes=50_000,
    streams_per_session=4,
)


class Ends:
    """Both ends of one session's streams. `accepted` has the device's side of each stream."""

    def __init__(self, served: Served, connection: CoapsConnection, limits: RemoteLimits) -> None:
        self.accepted: asyncio.Queue[Pair] = asyncio.Queue()
        self.cancelled = 0
        self.server = StreamServer(served.identity, self.serve, limits=limits)
        (self.association,) = endpoint_of(served.server).associations()
        self.server.arm(self.association)
        self.connection = connection
        self.client = ClientStreams(connection.association, limits=limits)
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(
        self, association: Association, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert association is self.association
        self.accepted.put_nowait((reader, writer))
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1

    async def open(self, first: bytes = b"first") -> tuple[Pair, Pair]:
        """Both ends of a new stream, on which the client has sent `first`."""
        near = await self.client.open()
        near[1].write(first)
        far = await self.accepted.get()
        assert await far[0].readexactly(len(first)) == first
        self._writers += near[1], far[1]
        return near, far

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.server.close()
        self.client.session_ended(self.connection.association)


@pytest.fixture
async def start(serve: Any, caller: CoapsClient) -> AsyncIterator[Callable[..., Any]]:
    made: list[Ends] = []

    async def begin(limits: RemoteLimits = SMALL) -> Ends:
        served = await serve()
        connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
        made.append(Ends(served, connection, limits))
        return made[-1]

    yield begin
    for one in made:
        one.close()


async def test_data_passes_both_ways(start: Any) -> None:
    ends = await start()
    near, far = await ends.open()
    far[1].write(b"x" * 300_000)
    near[1].write(b"y" * 300_000)
    assert await near[0].readexactly(300_000) == b"x" * 300_000
    assert await far[0].readexactly(300_000) == b"y" * 300_000


async def test_each_direction_ends_by_itself(start: Any) -> None:
    ends = await start()
    near, far = await ends.open()
    near[1].write_eof()
    assert await far[0].read() == b""
    far[1].write(b"afterwards")
    far[1].write_eof()
    assert await near[0].read() == b"afterwards"
    await near[1].wait_closed()
    await until(lambda: ends.client.open_streams == ends.server.open_streams == 0)


async def test_a_reset_is_a_reset_at_the_other_side(start: Any) -> None:
    ends = await start()
    near, far = await ends.open()
    near[1].transport.abort()
    with pytest.raises(ConnectionResetError):
        await far[0].read()
    await until(lambda: ends.server.open_streams == 0)


async def test_a_closed_reader_stops_the_writer_and_not_the_other_direction(start: Any) -> None:
    ends = await start()
    near, far = await ends.open()
    far[1].write(b"last words")
    far[1].close()

    async def write() -> None:
        while True:
            near[1].write(b"more")
            await near[1].drain()
            await asyncio.sleep(0)

    with pytest.raises(BrokenPipeError):
        await write()
    assert await near[0].read() == b"last words"


async def test_a_slow_reader_stops_the_sender_at_its_window(start: Any) -> None:
    """Without the windows that follow the reader, all 4 MB would be stored at the device."""
    ends = await start()
    near, far = await ends.open()

    async def write() -> int:
        sent = 0
        while sent < 4_000_000:
            near[1].write(b"x" * 10_000)
            sent += 10_000
            await near[1].drain()
        return sent

    writing = asyncio.create_task(write())
    stored = buffered(far[0])
    await until(lambda: stored() >= SMALL.stream_window_bytes)
    for _ in range(200):  # turns of both ends, in which nothing more may arrive
        await asyncio.sleep(0)
    assert not writing.done()
    most = SMALL.stream_window_bytes + 3 * STREAM_READ_BYTES
    while not writing.done() or stored():
        assert stored() <= most
        await far[0].read(65_536)
    assert await writing == 4_000_000


def buffered(reader: asyncio.StreamReader) -> Callable[[], int]:
    """Return the number of bytes that wait in a reader."""
    waiting: bytearray = reader._buffer  # type: ignore[attr-defined]
    return lambda: len(waiting)


async def test_windows_shrink_when_a_session_has_many_streams(start: Any) -> None:
    ends = await start()
    streams = [await ends.open() for _ in range(4)]
    stored = [buffered(far[0]) for _, far in streams]
    for near, _ in streams:
        near[1].write(b"x" * 1_000_000)

    def are_full() -> bool:
        large, small = SMALL.stream_window_bytes, SMALL.small_window_bytes
        ahead = 2 * STREAM_READ_BYTES
        sizes = zip(stored, (large, large, small, small), strict=True)
        return all(ahead <= one() <= ahead + size for one, size in sizes)

    await until(are_full)
    await streams[3][1][0].readexactly(1_000_000)  # no other stream holds it back


async def test_a_stream_beyond_the_limit_is_refused_at_the_client(start: Any) -> None:
    ends = await start()
    streams = [await ends.open() for _ in range(4)]
    with pytest.raises(PeerError, match="4 connections are open"):
        await ends.client.open()
    assert len(streams) == ends.server.open_streams


async def test_the_end_of_the_session_ends_its_streams_at_both_sides(start: Any) -> None:
    ends = await start()
    near, _far = await ends.open()
    assert ends.association.has_open_streams
    ends.association.close()
    assert ends.server.open_streams == 0
    with pytest.raises(ConnectionResetError, match="the session has ended"):
        await near[0].read()
    await until(lambda: ends.cancelled == 1)
    with pytest.raises(SessionFailed):
        await ends.client.open()


async def test_streams_pass_over_a_remote_path(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    near_path, far_path = MemoryPath.attached(served.server, client.fingerprint)
    connection = await caller.connect_over(near_path, pinned=served.identity.fingerprint)
    ends = Ends(served, connection, SMALL)
    near, far = await ends.open()
    far[1].write(b"x" * 300_000)
    assert await near[0].readexactly(300_000) == b"x" * 300_000
    assert all(len(data) <= 1200 for data in far_path.sent)
    ends.close()


async def test_a_fault_in_a_packet_ends_its_streams_and_nothing_else(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = await start()
    near, _far = await ends.open()

    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(StreamConnection, "receive_untrusted", fail)
        ends.association.receive_stream_untrusted(b"\x40")
    with pytest.raises(ConnectionResetError, match="internal error"):
        await near[0].read()
    assert await ends.connection.ping(timeout=30)


async def test_a_new_connection_of_the_client_replaces_the_one_that_has_ended(
    start: Any,
) -> None:
    ends = await start()
    near, far = await ends.open()
    near[1].transport.abort()
    ends.client.session_ended(ends.connection.association)
    again, _ = await ends.open(b"again")
    with pytest.raises(ConnectionResetError):
        await far[0].read()
    assert not again[1].is_closing()


async def test_a_session_has_a_bounded_number_of_connections(start: Any) -> None:
    ends = await start(replace(SMALL, stream_connections=3))
    for number in range(3):
        await ends.open(b"%d" % number)
        ends.client.session_ended(ends.connection.association)
    with pytest.raises(SessionFailed):
        await ends.client.open()
    assert ends.association.ended
    assert ends.server.counters["streams-too-many-connections"] == 1


async def test_another_certificate_than_that_of_the_session_is_refused(
    start: Any, client: Identity
) -> None:
    ends = await start()
    ends.server.close()
    impostor = StreamServer(client, ends.serve, limits=SMALL)
    impostor.arm(ends.association)
    with pytest.raises(SessionFailed):
        await ends.client.open()
    impostor.close()
