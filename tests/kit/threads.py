"""Devices in separate threads, for tests of blocking code and of other processes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from client_app.home import Home
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.app import App
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.audit import Event
from iam.model import Key, User
from peer.identity import Fingerprint, Identity
from peer.net.discovery import Advert
from tests.kit.board import Board
from tests.kit.daemon import HOST
from tests.kit.device import SETTINGS
from tests.kit.waiting import TIMEOUT_SECONDS, block_until

S = TypeVar("S")
T = TypeVar("T")


class LoopThread(Generic[S]):
    """A thread with an event loop that keeps a context manager open until `close`."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._opened = opened
        self._ready: Future[S] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self.held = self._ready.result(TIMEOUT_SECONDS)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function in the thread; return its result."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(TIMEOUT_SECONDS)

    def call_soon(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        self.call_soon(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._opened() as held:
                self._ready.set_result(held)
                await self._stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise


class BoardThread:
    """A `Board` in a separate thread."""

    def __init__(self, identity: Identity) -> None:
        self._thread = LoopThread(lambda: _board(identity))
        self.board = self._thread.held

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function in the board's thread."""
        return self._thread.call(work)

    def say(self, *answers: bool) -> None:
        """Queue the next answers of the device's user."""
        for answer in answers:
            self._thread.call_soon(partial(self.board.answers.put_nowait, answer))

    def until_requested(self, path: str) -> None:
        """Wait until the board has received a request for a path."""
        block_until(lambda: any(asked == path for _, asked in self.board.requests))

    def close(self) -> None:
        self._thread.close()


@asynccontextmanager
async def _board(identity: Identity) -> AsyncIterator[Board]:
    board = Board(identity)
    await board.start()
    yield board
    await board.close()


class DeviceThread:
    """The real device (`device_app.app.App`) in a separate thread."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self._thread = LoopThread(lambda: _app(folder, replace(SETTINGS, **changes)))
        self.app = self._thread.held

    @property
    def fingerprint(self) -> Fingerprint:
        return self.app.identity.fingerprint

    def do(self, work: Callable[[App], T]) -> T:
        """Call a function in the device's thread."""

        async def run() -> T:
            return work(self.app)

        return self.call(run)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function in the device's thread."""
        return self._thread.call(work)

    def add_client(self, home: Path, name: str, role: str, alias: str = "kitchen") -> None:
        """Add the client of this home as a user, and store the device in the home."""
        own = Identity.load_or_create(Home.at(home).identity).fingerprint
        user = User(name, role, (Key(own.hex, "laptop", "compare"),))
        self.do(lambda app: app.access.registry.add_user(None, user))
        DeviceBook(Home.at(home).devices).put(self.known(alias, name, role))

    def known(self, alias: str, name: str, role: str) -> KnownDevice:
        port = self.app.server.port
        return KnownDevice(
            alias, self.fingerprint, "kitchen", name, role, port=port, last_seen=f"{HOST}:{port}"
        )

    def advert(self) -> Advert:
        return Advert(
            self.fingerprint.device_id, "kitchen", (HOST,), self.app.server.port, 0, False, 1, "h."
        )

    def events(self, kind: str) -> list[Event]:
        """The events of a kind that the device has stored."""
        return self.do(
            lambda app: [
                record.event
                for record in app.access.store.audit.iterate()
                if record.event.kind == kind
            ]
        )

    def close(self) -> None:
        self._thread.close()


@asynccontextmanager
async def _app(folder: Path, settings: Settings) -> AsyncIterator[App]:
    app = await App.start(Paths(folder, folder, folder), settings)
    yield app
    await app.close()
