"""Streams of the control socket whose client does not read, disconnects, or sends extra data.

The tests cover both verbs that send events (`events`, and `open` with `wait`) over Unix sockets.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.event_kind import EventKind
from device_app.console.control_client import call
from device_app.console.control_server import ControlServer
from device_app.pairing.events import PairingEvents, WindowEvents
from tests.kit.internals import event_watchers
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

EVENTS = {"verb": "events", "args": {"since": 0}}
OPEN = {"verb": "open", "args": {"wait": True, "role": "user"}}
STREAMS = pytest.mark.parametrize("request_of", [EVENTS, OPEN], ids=["events", "open"])
BUFFER = 256 * 1024  # more than the high-water marks of three transports, much less than all events
MANY = 3000


class Connections:
    """The control connections, as the daemon sees them."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0

    def buffered(self) -> int:
        return sum(writer.transport.get_write_buffer_size() for writer in self.writers)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Connections:
    seen, serve = Connections(), ControlServer.serve

    async def noted(
        self: ControlServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        seen.writers.append(writer)
        await serve(self, reader, writer)
        seen.ended += 1

    monkeypatch.setattr(ControlServer, "serve", noted)
    return seen


@pytest.fixture
async def device(kit: Kit, watched: Connections) -> Device:
    assert not watched.writers
    return await kit.device()


async def followed(device: Device, watched: Connections, request: dict[str, Any]) -> socket.socket:
    """The socket of a client that has sent its request and does not read."""
    path = str(device.app.paths.socket)
    before = len(watched.writers)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    client.connect(path)
    client.send(json.dumps(request).encode() + b"\n")
    watchers = sum(watching(device))
    await device.until(lambda: len(watched.writers) > before and sum(watching(device)) > watchers)
    return client


async def keep_open(device: Device, watched: Connections, *, count: int = MANY) -> None:
    """Extend the window `count` times; each time its followers get an event."""
    for number in range(count):
        await device.open(role="user", seconds=60 + number % 60)
        await asyncio.sleep(0)
        assert watched.buffered() < BUFFER


async def append_many(device: Device, watched: Connections, *, count: int = MANY) -> None:
    """Append `count` events to the audit trail, a hundred in each commit."""
    control = device.app.access
    for _ in range(count // 100):
        event = control.audit.event(EventKind.DENIED, detail="x" * 400)
        control.writer.commit(control.store.state, *[event] * 100)
        await asyncio.sleep(0)
        assert watched.buffered() < BUFFER


def watching(device: Device) -> tuple[int, int]:
    """The number of subscribers of the window events, and of watchers of the audit trail."""
    return len(device.app.pairing.events), event_watchers(device.app.access.store)


async def read_all(client: socket.socket) -> list[dict[str, Any]]:
    """All messages that the client reads, up to the result or the last event."""
    reader, writer = await asyncio.open_unix_connection(sock=client)
    lines = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while line := await reader.readline():
            lines.append(json.loads(line))
            if "ok" in lines[-1] or lines[-1].get("record", {}).get("kind") == "clock-trusted":
                break
    writer.close()
    return lines


async def test_events_for_a_client_that_does_not_read_are_neither_buffered_nor_lost(
    device: Device, watched: Connections
) -> None:
    client = await followed(device, watched, EVENTS)
    await append_many(device, watched)
    audit = device.app.access.audit
    audit.append(audit.event(EventKind.CLOCK_TRUSTED))
    received = await read_all(client)
    numbers = [one["record"]["seq"] for one in received]
    assert numbers == list(range(1, MANY + 2)), "each event is sent once, in order"


async def test_window_events_for_a_client_that_does_not_read_are_bounded(
    device: Device, watched: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user extends the window repeatedly, and other windows are opened after it."""
    feeds: list[WindowEvents] = []
    made = WindowEvents.__init__

    def noted(self: WindowEvents, events: PairingEvents) -> None:
        made(self, events)
        feeds.append(self)

    monkeypatch.setattr(WindowEvents, "__init__", noted)
    client = await followed(device, watched, OPEN)
    subscribers = len(device.app.pairing.events)
    await keep_open(device, watched)
    assert watched.buffered() > 0
    assert len(feeds[0]) <= 1
    device.app.pairing.close_window()
    assert len(device.app.pairing.events) < subscribers, (
        "the subscription did not end with the window"
    )
    for _ in range(10):
        await device.closed()
        await device.open(role="user")
    assert len(feeds[0]) <= 2
    received = await read_all(client)
    assert received[0]["event"] == "window"
    assert received[-1] == {
        "ok": True,
        "result": {"paired": None, "closed": "console", "refused": False},
    }


@STREAMS
@pytest.mark.parametrize("how", ["closes", "closes with unread events", "half-closes", "is reset"])
async def test_a_disconnected_follower_is_detected_without_a_further_event(
    device: Device, watched: Connections, request_of: dict[str, Any], how: str
) -> None:
    before = watching(device)
    client = await followed(device, watched, request_of)
    if how == "closes with unread events":
        await append_many(device, watched)
        if request_of is OPEN:
            await keep_open(device, watched)
        assert watched.buffered() > 0
    match how:
        case "half-closes":
            client.shutdown(socket.SHUT_WR)
        case "is reset":
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
        case _:
            client.close()
    await device.until(lambda: watched.ended == 1)
    assert watching(device) == before
    assert not device.app.pairing.is_open, "the window outlived the command that opened it"
    assert watched.buffered() == 0
    client.close()


@STREAMS
async def test_the_daemon_closes_even_if_followers_do_not_read(
    device: Device, watched: Connections, request_of: dict[str, Any]
) -> None:
    clients = [await followed(device, watched, request_of) for _ in range(3)]
    await append_many(device, watched)
    if request_of is OPEN:
        await keep_open(device, watched)
    assert watched.buffered() > 0
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await device.app.close()
    assert watched.ended == 3
    for client in clients:
        client.close()


@STREAMS
async def test_extra_data_from_a_follower_is_discarded(
    device: Device, watched: Connections, request_of: dict[str, Any]
) -> None:
    client = await followed(device, watched, request_of)
    loop, junk, sent = asyncio.get_running_loop(), bytes(64 * 1024), 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while sent < 8 * 1024 * 1024:
                await loop.sock_sendall(client, junk)
                sent += len(junk)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < sent / 8
    assert (await call(device.app.paths.socket, "status", {}))["running"]
    client.close()
    await device.until(lambda: watched.ended == 2)
