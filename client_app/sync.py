"""The blocking API of the client, for scripts without `async`.

    from client_app.sync import Client

    with Client() as client:
        kitchen = client.connect("kitchen")
        print(kitchen.get("/hello").text)
        for reading in kitchen.observe("/sensor/temperature"):
            ...

The work is done by an event loop in a thread of its own, from the first call to the end of the
`with` block. Calls are thread-safe. Ctrl-C during a call cancels that call.
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
from client_app.content import Format, Reply
from client_app.device import Device as asynchronous_device  # noqa: N813 - likewise
from client_app.finder import LOOK_SECONDS, Look
from client_app.models import KnownDevice, Paired
from peer.errors import UsageError
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from client_app.models import Event
    from peer.net.discovery import Advert

T = TypeVar("T")
P = ParamSpec("P")


class _Loop:
    """A thread that runs an event loop until `close`."""

    def __init__(self) -> None:
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="handfast", daemon=True)
        self._thread.start()
        self._loop = self._started.result()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result."""
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
        """Stop the loop and wait for the thread. Safe to repeat."""
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
    """A blocking version of an asynchronous method, with the same arguments."""

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
    """A blocking wrapper: the loop, and the asynchronous object that it wraps."""

    def __init__(self, loop: _Loop, inner: Any) -> None:
        self._loop = loop
        self._inner = inner


class Administration(_Face):
    """Users, roles, invites, pairing window and events of a device.

    See `client_app.administration.Administration`.
    """

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
        """Yield the stored events, then each new one, until the caller leaves the loop."""
        return _each(self._loop, lambda: self._inner.follow_events(since=since, last=last))


class Device(_Face):
    """A paired device; see `client_app.device.Device`."""

    _inner: asynchronous_device

    @property
    def known(self) -> KnownDevice:
        """The stored entry of the device."""
        return self._inner.known

    @property
    def address(self) -> str:
        """The address of the present session, `HOST:PORT`."""
        return self._inner.address

    @property
    def iam(self) -> Administration:
        """Users, roles, invites, pairing window and events of the device, as its policy allows."""
        return Administration(self._loop, self._inner.iam)

    get = _Blocking(asynchronous_device.get)
    put = _Blocking(asynchronous_device.put)
    post = _Blocking(asynchronous_device.post)
    patch = _Blocking(asynchronous_device.patch)
    delete = _Blocking(asynchronous_device.delete)
    whoami = _Blocking(asynchronous_device.whoami)
    close = _Blocking(asynchronous_device.close)

    def observe(self, path: str, *, accept: Format | None = None) -> Iterator[Reply]:
        """Yield the present state of a resource, then each new one, until the caller stops."""
        return _each(self._loop, lambda: self._inner.observe(path, accept=accept))


class Client:
    """A client identity and its paired devices; see `client_app.client.Client`."""

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
        """The paired devices, sorted by alias. Raises `BookError`."""
        return self._client.devices

    def connect(self, alias: str) -> Device:
        """Connect to a paired device; see `client_app.client.Client.connect`."""
        return Device(self._loop, self._loop.call(self._client.connect(alias)))

    def discover(self, *, timeout: float = LOOK_SECONDS) -> "list[Advert]":
        """Search the LAN for `timeout` seconds; return the devices found, sorted by name."""
        return self._loop.call(self._client.discover(timeout=timeout))

    def watch(self) -> "Iterator[Advert]":
        """Yield each device on the LAN, and again when it changes or leaves. Does not end."""
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
        """Pair with a device, or redeem an invite; see `client_app.client.Client.pair`.

        `confirm` and `code` are called in a thread of their own and may block. `on_wait` and
        `on_note` are called in the thread of the event loop and must return immediately.
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
        """Redeem an invite; see `client_app.client.Client.redeem`."""
        work = self._client.redeem(invite, alias=alias, expect=expect, on_note=on_note)
        return self._loop.call(work)

    def close(self) -> None:
        """End all sessions. Safe to repeat."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.call(self._client.close())
        running.close()


async def _aside(question: Callable[[], T]) -> T:
    """Call `question` in a daemon thread, since a question that is cancelled may never return."""
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
    """Yield the items of an asynchronous iterator, and close it when the caller stops."""
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
