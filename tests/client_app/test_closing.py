"""A client that is closed while another task still uses it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.client import Client
from client_app.device import Device
from client_app.errors import ClientClosed
from tests.kit.adverts import no_adverts
from tests.kit.board import HOST, Board
from tests.kit.remote_settings import remote_settings
from tests.kit.waiting import until


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes datagrams and answers none."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        made.bind((HOST, 0))
        made.setblocking(False)
        yield made


@asynccontextmanager
async def connecting_to(
    silent: socket.socket, paired: Client
) -> AsyncIterator[tuple[Client, asyncio.Task[Device]]]:
    """A client that waits for the answer of a silent address, as the only one of its device."""
    await paired.close()
    address = f"{HOST}:{silent.getsockname()[1]}"
    key = paired.devices[0].fingerprint
    paired.book.update(key, lambda one: replace(one, last_seen=address, addresses=()))
    async with Client(home=paired.home.folder, look=no_adverts) as client:
        connecting = asyncio.create_task(client.connect("kitchen"))
        await asyncio.get_running_loop().sock_recv(silent, 2048)
        yield client, connecting


class Closing:
    """Closes a client while a task uses it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._before = asyncio.all_tasks()

    async def during(self, client: Client, using: asyncio.Task[Any]) -> None:
        """Close the client: the task ends with an error, and there is no session and no task."""
        await client.close()
        with pytest.raises(ClientClosed, match="the client was closed"):
            await using
        this = asyncio.current_task()
        await until(lambda: asyncio.all_tasks() - {this} <= self._before)
        await until(lambda: not self._board.regular.sessions())


@pytest.fixture
async def closed(board: Board) -> Closing:
    return Closing(board)


async def test_connecting_to_a_silent_address_ends(
    paired: Client, silent: socket.socket, closed: Closing
) -> None:
    async with connecting_to(silent, paired) as (client, connecting):
        await closed.during(client, connecting)


async def test_opening_a_path_ends(paired: Client, closed: Closing, home: Path) -> None:
    device = paired.devices[0].fingerprint
    await paired.remote.note_settings(device, remote_settings().encode())
    await paired.close()
    is_open, was_freed = asyncio.Event(), asyncio.Event()

    async def open_path(*_args: Any, **_options: Any) -> Any:
        is_open.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_freed.set()

    async with Client(home=home, look=no_adverts, via="relay", open_path=open_path) as client:
        connecting = asyncio.create_task(client.connect("kitchen"))
        await is_open.wait()
        await closed.during(client, connecting)
    assert was_freed.is_set()


async def test_a_request_ends_and_is_not_repeated(
    board: Board, paired: Client, closed: Closing
) -> None:
    device = await paired.connect("kitchen")
    using = asyncio.create_task(device.get("/slow"))
    await until(lambda: ("GET", "/slow") in board.requests)
    await closed.during(paired, using)
    assert board.requests.count(("GET", "/slow")) == 1


async def test_an_observation_ends(paired: Client, closed: Closing) -> None:
    device = await paired.connect("kitchen")
    states = aiter(device.observe("/count"))
    await anext(states)
    await closed.during(paired, asyncio.ensure_future(anext(states)))


async def test_a_device_of_a_closed_client_opens_no_session(board: Board, paired: Client) -> None:
    device = await paired.connect("kitchen")
    await paired.close()
    with pytest.raises(ClientClosed):
        await device.get("/hello")
    await until(lambda: not board.regular.sessions())
    assert (await (await paired.connect("kitchen")).get("/hello")).code == "2.05"


async def test_a_caller_that_is_cancelled_is_cancelled(
    paired: Client, silent: socket.socket
) -> None:
    async with connecting_to(silent, paired) as (_, connecting):
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
