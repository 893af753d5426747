"""The blocking face of the client, for scripts without `async`.

    from client_app.sync import Client

    with Client() as client:
        kitchen = client.connect("kitchen")
        print(kitchen.get("/hello").text)
        for reading in kitchen.observe("/sensor/temperature"):
            ...

One thread with an event loop of its own does the work, from the first call to the end of `with`.
Calls may come from several threads. An interrupt (Ctrl-C) in a call ends what was asked for.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from client_app import client as asynchronous
from client_app import device as asynchronous_device
from client_app.client import LOOK_SECONDS, Comparison
from client_app.device import REQUEST_SECONDS
from client_app.devices import KnownDevice
from client_app.reply import Body, Format, Reply
from client_app.values import Paired, Whoami
from peer.errors import UsageError
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from peer.net.discovery import Advert

T = TypeVar("T")


class _Loop:
    """A thread that runs one event loop until `close`."""

    def __init__(self) -> None:
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="handfast", daemon=True)
        self._thread.start()
        self._loop = self._started.result()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and return what it returns."""
        if not self._thread.is_alive():
            work.close()
            raise UsageError("this client is closed", advice="Use it inside its `with` block.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError as error:
            raise UsageError("this client was closed during the call") from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and wait for the thread. A second call does nothing."""
        if self._thread.is_alive() and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stop.wait()


class Device:
    """One paired device; see `client_app.device.Device`."""

    def __init__(self, loop: _Loop, device: asynchronous_device.Device) -> None:
        self._loop = loop
        self._device = device

    @property
    def known(self) -> KnownDevice:
        """What this client has stored about the device."""
        return self._device.known

    @property
    def address(self) -> str:
        """Where the device was reached, `HOST:PORT`."""
        return self._device.address

    def get(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """GET a resource."""
        return self._loop.call(self._device.get(path, accept=accept, timeout=timeout))

    def put(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """PUT a body."""
        work = self._device.put(path, body, body_format=body_format, timeout=timeout)
        return self._loop.call(work)

    def post(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """POST a body. It is never repeated once it may have reached the device."""
        work = self._device.post(path, body, body_format=body_format, timeout=timeout)
        return self._loop.call(work)

    def delete(self, path: str, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """DELETE a resource."""
        return self._loop.call(self._device.delete(path, timeout=timeout))

    def whoami(self) -> Whoami:
        """Who this client is at the device, and what it may do there."""
        return self._loop.call(self._device.whoami())

    def observe(self, path: str, *, accept: Format | None = None) -> Iterator[Reply]:
        """Each state of a resource, beginning with the present one. Leaving the loop ends it."""
        return _each(self._loop, lambda: self._device.observe(path, accept=accept))

    def close(self) -> None:
        """End the session. The next request makes a new one."""
        self._loop.call(self._device.close())


class Client:
    """One client identity, and the devices it knows; see `client_app.client.Client`."""

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        interfaces: Sequence[str] | None = None,
        look: asynchronous.Look | None = None,
    ) -> None:
        self._client = asynchronous.Client(home=home, interfaces=interfaces, look=look)
        self._running: _Loop | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def _loop(self) -> _Loop:
        if self._running is None:
            self._running = _Loop()
        return self._running

    @property
    def devices(self) -> list[KnownDevice]:
        """The known devices, by alias."""
        return self._client.devices

    def connect(self, alias: str) -> Device:
        """A session with a known device, wherever it is reached first."""
        return Device(self._loop, self._loop.call(self._client.connect(alias)))

    def discover(self, *, timeout: float = LOOK_SECONDS) -> "list[Advert]":
        """The devices that answer on the LAN within `timeout` seconds, by name."""
        return self._loop.call(self._client.discover(timeout=timeout))

    def watch(self) -> "Iterator[Advert]":
        """Every device that is there, comes, changes or goes. Does not end."""
        return _each(self._loop, self._client.watch)

    def pair(
        self,
        target: str = "",
        *,
        name: str = "",
        role: str = "",
        alias: str = "",
        expect: Fingerprint | str | None = None,
        confirm: Callable[[Comparison], bool] | None = None,
    ) -> Paired:
        """Pair with a device whose window is open. `confirm` is called in a thread of its own."""

        async def ask(question: Comparison) -> bool:
            assert confirm is not None
            return await asyncio.to_thread(confirm, question)

        return self._loop.call(
            self._client.pair(
                target,
                name=name,
                role=role,
                alias=alias,
                expect=expect,
                confirm=ask if confirm is not None else None,
            )
        )

    def close(self) -> None:
        """End every session. A second call does nothing."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.call(self._client.close())
        running.close()


def _each(loop: _Loop, start: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """The items of an asynchronous iterator; it is closed when the caller stops early."""
    stream = start()
    try:
        while True:
            try:
                yield loop.call(_next(stream))
            except StopAsyncIteration:
                return
    finally:
        loop.call(_closed(stream))


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)


async def _closed(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
