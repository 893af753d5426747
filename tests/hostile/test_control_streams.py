"""Followers of the control socket that do not read, disconnect, or send unrequested data.

Both verbs that tell events (`events` and `open` with `wait`), over real Unix sockets.
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
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

EVENTS = {"verb": "events", "args": {"since": 0}}
OPEN = {"verb": "open", "args": {"wait": True, "role": "user"}}
STREAMS = pytest.mark.parametrize("request_of", [EVENTS, OPEN], ids=["events", "open"])
BUFFER = 256 * 1024  # above the high-water marks of three transports, far below all that is told
MANY = 3000


class Watched:
    """The daemon's side of the control connections."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0

    def buffered(self) -> int:
        return sum(writer.transport.get_write_buffer_size() for writer in self.writers)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    seen, serve = Watched(), ControlServer.serve

    async def noted(
        self: ControlServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        seen.writers.append(writer)
        await serve(self, reader, writer)
        seen.ended += 1

    monkeypatch.setattr(ControlServer, "serve", noted)
    return seen


@pytest.fixture
async def device(kit: Kit, watched: Watched) -> Device:
    assert not watched.writers
    return await kit.device()


async def followed(device: Device, watched: Watched, request: dict[str, Any]) -> socket.socket:
    """A client that has sent its request and does not read."""
    place = str(device.app.paths.socket)
    before = len(watched.writers)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    client.connect(place)
    client.send(json.dumps(request).encode() + b"\n")
    watchers = sum(watching(device))
    await device.until(lambda: len(watched.writers) > before and sum(watching(device)) > watchers)
    return client


async def keep_open(device: Device, watched: Watched, *, count: int = MANY) -> None:
    """Extend the window so often; each time its followers are told."""
    for number in range(count):
        await device.open(role="user", seconds=60 + number % 60)
        await asyncio.sleep(0)
        assert watched.buffered() < BUFFER


async def append_many(device: Device, watched: Watched, *, count: int = MANY) -> None:
    """Write `count` events to the trail, a hundred in each commit."""
    control = device.app.access
    for _ in range(count // 100):
        event = control.audit.event(EventKind.DENIED, detail="x" * 400)
        control.writer.commit(control.store.state, *[event] * 100)
        await asyncio.sleep(0)
        assert watched.buffered() < BUFFER


def watching(device: Device) -> tuple[int, int]:
    """How many watch the window, and how many the trail."""
    return len(device.app.pairing.events), len(device.app.access.store._event_watchers)


async def all_of(client: socket.socket) -> list[dict[str, Any]]:
    """What the client reads in the end."""
    reader, writer = await asyncio.open_unix_connection(sock=client)
    lines = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while line := await reader.readline():
            lines.append(json.loads(line))
            if "ok" in lines[-1] or lines[-1].get("record", {}).get("kind") == "clock-trusted":
                break
    writer.close()
    return lines


async def test_events_that_are_not_read_are_not_buffered_and_not_lost(
    device: Device, watched: Watched
) -> None:
    client = await followed(device, watched, EVENTS)
    await append_many(device, watched)
    audit = device.app.access.audit
    audit.append(audit.event(EventKind.CLOCK_TRUSTED))
    told = await all_of(client)
    numbers = [one["record"]["seq"] for one in told]
    assert numbers == list(range(1, MANY + 2)), "each of them once, in order"


async def test_news_of_a_window_that_are_not_read_are_bounded(
    device: Device, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user extends the window again and again, and other windows follow it."""
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
        "its window is over, whether it reads or not"
    )
    for _ in range(10):
        await device.closed()
        await device.open(role="user")
    assert len(feeds[0]) <= 2
    told = await all_of(client)
    assert told[0]["event"] == "window"
    assert told[-1] == {
        "ok": True,
        "result": {"paired": None, "closed": "console", "refused": False},
    }


@STREAMS
@pytest.mark.parametrize("how", ["closes", "closes with unread events", "half-closes", "is reset"])
async def test_a_follower_that_goes_away_is_noticed_without_another_event(
    device: Device, watched: Watched, request_of: dict[str, Any], how: str
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
    assert not device.app.pairing.is_open, "a window goes with the command that opened it"
    assert watched.buffered() == 0
    client.close()


@STREAMS
async def test_the_daemon_ends_although_its_followers_do_not_read(
    device: Device, watched: Watched, request_of: dict[str, Any]
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
async def test_what_a_follower_sends_beside_its_request_is_not_kept(
    device: Device, watched: Watched, request_of: dict[str, Any]
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
