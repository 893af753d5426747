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
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from client_app import client as asynchronous
from client_app.administration import Administration as asynchronous_iam  # noqa: N813 - a namespace
from client_app.client import Comparison
from client_app.device import Device as asynchronous_device  # noqa: N813 - likewise
from client_app.devices import KnownDevice
from client_app.finder import LOOK_SECONDS, Look
from client_app.reply import Format, Reply
from client_app.values import Paired
from peer.errors import UsageError
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from client_app.rights import Event
    from peer.net.discovery import Advert

T = TypeVar("T")
P = ParamSpec("P")


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


class _Blocking(Generic[P, T]):
    """A method of an asynchronous class as a blocking one, with the same arguments."""

    def __init__(self, work: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, face: None, owner: type) -> Self: ...
    @overload
    def __get__(self, face: "_Face", owner: type) -> Callable[P, T]: ...
    def __get__(self, face: "_Face | None", owner: type) -> Self | Callable[P, T]:
        if face is None:
            return self

        @functools.wraps(self._work)
        def call(*args: P.args, **options: P.kwargs) -> T:
            return face._loop.call(self._work(face._inner, *args, **options))

        return call


class _Face:
    """Something that works in the loop's thread, and how to get there."""

    def __init__(self, loop: _Loop, inner: Any) -> None:
        self._loop = loop
        self._inner = inner


class Administration(_Face):
    """The device's users, roles, invites, window and events; see `client_app.administration`."""

    users = _Blocking(asynchronous_iam.users)
    user = _Blocking(asynchronous_iam.user)
    add_user = _Blocking(asynchronous_iam.add_user)
    set_user = _Blocking(asynchronous_iam.set_user)
    remove_user = _Blocking(asynchronous_iam.remove_user)
    add_key = _Blocking(asynchronous_iam.add_key)
    remove_key = _Blocking(asynchronous_iam.remove_key)
    roles = _Blocking(asynchronous_iam.roles)
    policies = _Blocking(asynchronous_iam.policies)
    check = _Blocking(asynchronous_iam.check)
    invite = _Blocking(asynchronous_iam.invite)
    invites = _Blocking(asynchronous_iam.invites)
    withdraw = _Blocking(asynchronous_iam.withdraw)
    open_window = _Blocking(asynchronous_iam.open_window)
    window = _Blocking(asynchronous_iam.window)
    close_window = _Blocking(asynchronous_iam.close_window)
    events = _Blocking(asynchronous_iam.events)

    def follow_events(
        self, *, since: int | None = None, last: int | None = None
    ) -> "Iterator[Event]":
        """The events, and then each new one. Leaving the loop ends it."""
        return _each(self._loop, lambda: self._inner.follow_events(since=since, last=last))


class Device(_Face):
    """One paired device; see `client_app.device.Device`."""

    _inner: asynchronous_device

    @property
    def known(self) -> KnownDevice:
        """What this client has stored about the device."""
        return self._inner.known

    @property
    def address(self) -> str:
        """Where the device was reached, `HOST:PORT`."""
        return self._inner.address

    @property
    def iam(self) -> Administration:
        """The device's users, roles, invites, window and events, as far as its policy lets."""
        return Administration(self._loop, self._inner.iam)

    get = _Blocking(asynchronous_device.get)
    put = _Blocking(asynchronous_device.put)
    post = _Blocking(asynchronous_device.post)
    patch = _Blocking(asynchronous_device.patch)
    delete = _Blocking(asynchronous_device.delete)
    whoami = _Blocking(asynchronous_device.whoami)
    close = _Blocking(asynchronous_device.close)

    def observe(self, path: str, *, accept: Format | None = None) -> Iterator[Reply]:
        """Each state of a resource, beginning with the present one. Leaving the loop ends it."""
        return _each(self._loop, lambda: self._inner.observe(path, accept=accept))


class Client:
    """One client identity, and the devices it knows; see `client_app.client.Client`."""

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        interfaces: Sequence[str] | None = None,
        look: Look | None = None,
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
        method: str = "",
        confirm: Callable[[Comparison], bool] | None = None,
        code: Callable[[], str] | str = "",
        at: str = "",
        on_wait: Callable[[float], object] = lambda _seconds: None,
        on_note: Callable[[str], None] | None = None,
    ) -> Paired:
        """Pair with a device whose window is open; see `client_app.client.Client.pair`.

        `confirm` and `code` are called in a thread of their own, `on_wait` and `on_note` in this
        client's: they have to return at once.
        """

        async def ask(question: Comparison) -> bool:
            assert confirm is not None
            return await _aside(lambda: confirm(question))

        async def ask_code() -> str:
            return code if isinstance(code, str) else await _aside(code)

        def waits(seconds: float) -> None:
            on_wait(seconds)

        return self._loop.call(
            self._client.pair(
                target,
                name=name,
                role=role,
                alias=alias,
                expect=expect,
                method=method,
                confirm=ask if confirm is not None else None,
                code=ask_code if code else "",
                at=at,
                on_wait=waits,
                on_note=on_note,
            )
        )

    def redeem(
        self,
        invite: str,
        *,
        alias: str = "",
        expect: Fingerprint | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Paired:
        """Become who an invite says (`HANDFAST:I*…`), and store its device."""
        work = self._client.redeem(invite, alias=alias, expect=expect, on_note=on_note)
        return self._loop.call(work)

    def close(self) -> None:
        """End every session. A second call does nothing."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.call(self._client.close())
        running.close()


async def _aside(question: Callable[[], T]) -> T:
    """Ask in a thread that nobody waits for: a question that was withdrawn may stand for ever."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def give(work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the client is closed
            loop.call_soon_threadsafe(lambda: None if answer.done() else work())

    def ask() -> None:
        try:
            said = question()
        except BaseException as error:
            failed = error
            give(lambda: answer.set_exception(failed))
        else:
            give(lambda: answer.set_result(said))

    threading.Thread(target=ask, name="handfast question", daemon=True).start()
    return await answer


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
