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

import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from client_app import administration, client, device
from client_app.content import Format, Gap, Reply
from client_app.event_loop_thread import EventLoopThread, Work
from client_app.finder import Look
from client_app.limits import (
    CONNECT_SECONDS,
    LIST_SECONDS,
    LOOPBACK,
    OBSERVE_PING_SECONDS,
    REQUEST_SECONDS,
)
from client_app.models import Event, KnownDevice, Paired, User
from client_app.pairing.ceremony import Comparison, OnNote, OnWait
from peer.identity import Fingerprint
from peer.net.daemon_thread import call_in_thread

if TYPE_CHECKING:
    from peer.net.discovery import Advert

T = TypeVar("T")
P = ParamSpec("P")
Asynchronous = TypeVar("Asynchronous")
Wrapped_co = TypeVar("Wrapped_co", covariant=True)  # a blocking object has the methods of each part

_log = logging.getLogger(__name__)


class _Wrapper(Generic[Wrapped_co]):
    """An asynchronous object, and the loop in which its methods run."""

    def __init__(self, loop: EventLoopThread, wrapped: Wrapped_co) -> None:
        self.loop = loop
        self.wrapped = wrapped

    def __repr__(self) -> str:
        return f"<blocking {repr(self.wrapped).strip('<>')}>"


def _blocking(
    work: Callable[Concatenate[Asynchronous, P], Work[T]],
) -> Callable[Concatenate[_Wrapper[Asynchronous], P], T]:
    """Return the blocking version of an asynchronous method, with the same signature."""

    @functools.wraps(work)
    def call(self: _Wrapper[Asynchronous], /, *args: P.args, **options: P.kwargs) -> T:
        return self.loop.call(work(self.wrapped, *args, **options))

    call.__module__ = __name__
    return call


class Administration(_Wrapper[administration.Administration]):
    """Users, roles, invites, pairing window and events of a device.

    See `client_app.administration.Administration`.
    """

    users = _blocking(administration.Administration.users)
    user = _blocking(administration.Administration.user)
    add_user = _blocking(administration.Administration.add_user)
    set_user = _blocking(administration.Administration.set_user)
    remove_user = _blocking(administration.Administration.remove_user)
    add_key = _blocking(administration.Administration.add_key)
    remove_key = _blocking(administration.Administration.remove_key)
    roles = _blocking(administration.Administration.roles)
    policies = _blocking(administration.Administration.policies)
    check = _blocking(administration.Administration.check)
    invite = _blocking(administration.Administration.invite)
    invites = _blocking(administration.Administration.invites)
    withdraw = _blocking(administration.Administration.withdraw)
    open_window = _blocking(administration.Administration.open_window)
    window = _blocking(administration.Administration.window)
    close_window = _blocking(administration.Administration.close_window)
    events = _blocking(administration.Administration.events)

    def each_user(self, *, timeout: float | None = LIST_SECONDS) -> Iterator[User]:
        """Iterate over all users, by name.

        See `client_app.administration.Administration.each_user`.
        """
        return self.loop.iterate(
            lambda: self.wrapped.each_user(timeout=timeout),
            subject=f"the users of {self.wrapped.alias}",
        )

    def follow_events(
        self,
        *,
        since: int | None = None,
        last: int | None = None,
        timeout: float | None = LIST_SECONDS,
        retry: bool = True,
        on_note: OnNote | None = None,
    ) -> Iterator[Event]:
        """Iterate over the stored events, then each new one, until the loop is left.

        `on_note` is called in the thread of the event loop and must return immediately. See
        `client_app.administration.Administration.follow_events`.
        """
        return self.loop.iterate(
            lambda: self.wrapped.follow_events(
                since=since,
                last=last,
                timeout=timeout,
                retry=retry,
                on_note=on_note or _log.warning,
            ),
            subject=f"the events of {self.wrapped.alias}",
        )


class Device(_Wrapper[device.Device]):
    """A paired device; see `client_app.device.Device`."""

    get = _blocking(device.Device.get)
    fetch = _blocking(device.Device.fetch)
    put = _blocking(device.Device.put)
    post = _blocking(device.Device.post)
    patch = _blocking(device.Device.patch)
    delete = _blocking(device.Device.delete)
    whoami = _blocking(device.Device.whoami)
    services = _blocking(device.Device.services)
    close = _blocking(device.Device.close)

    @property
    def known(self) -> KnownDevice:
        """The stored entry of the device."""
        return self.wrapped.known

    @property
    def address(self) -> str:
        """The address of the present session, `HOST:PORT`."""
        return self.wrapped.address

    @property
    def route(self) -> str:
        """How the present session reaches the device; see `client_app.device.Device.route`."""
        return self.wrapped.route

    def tunnel(
        self,
        service: str,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        timeout: float | None = REQUEST_SECONDS,
        on_note: OnNote | None = None,
    ) -> int:
        """Forward connections to a local port to a TCP service of the device; return the port.

        `on_note` is called in the thread of the event loop and must return immediately. See
        `client_app.device.Device.tunnel`.
        """
        return self.loop.call(
            self.wrapped.tunnel(
                service, port=port, host=host, timeout=timeout, on_note=on_note or _log.warning
            )
        )

    @property
    def iam(self) -> Administration:
        """Users, roles, invites, pairing window and events of the device, as its policy allows."""
        return Administration(self.loop, self.wrapped.iam)

    @overload
    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
        retry: bool = True,
        gaps: Literal[False] = False,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote | None = None,
    ) -> Iterator[Reply]: ...
    @overload
    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
        retry: bool = True,
        gaps: bool,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote | None = None,
    ) -> Iterator[Reply | Gap]: ...
    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
        retry: bool = True,
        gaps: bool = False,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote | None = None,
    ) -> Iterator[Reply] | Iterator[Reply | Gap]:
        """Iterate over the present state of a resource, then each new one, until the loop is left.

        `on_note` is called in the thread of the event loop and must return immediately. See
        `client_app.device.Device.observe`.
        """

        def start() -> AsyncIterator[Reply | Gap]:
            return self.wrapped.observe(
                path,
                accept=accept,
                timeout=timeout,
                retry=retry,
                gaps=gaps,
                ping_seconds=ping_seconds,
                on_note=on_note or _log.warning,
            )

        return self.loop.iterate(start, subject=f"{path} on {self.known.alias}")


class PairingOptions(TypedDict, total=False):
    """Arguments of `Client.pair` that are those of `client_app.client.Client.pair`."""

    name: str
    role: str
    alias: str
    expect: Fingerprint | str | None
    method: str
    at: str
    timeout: float | None
    on_wait: OnWait
    on_note: OnNote | None


class Client(_Wrapper[client.Client]):
    """A client identity and its paired devices; see `client_app.client.Client`."""

    redeem = _blocking(client.Client.redeem)
    discover = _blocking(client.Client.discover)

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        interfaces: Sequence[str] | None = None,
        look: Look | None = None,
        via: str | Iterable[str] | None = None,
    ) -> None:
        self.wrapped = client.Client(home=home, interfaces=interfaces, look=look, via=via)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @functools.cached_property
    def loop(self) -> EventLoopThread:  # type: ignore[override]  # started by the first call
        """The loop in which the work is done; started by the first call."""
        return EventLoopThread()

    @property
    def devices(self) -> list[KnownDevice]:
        """The paired devices, sorted by alias. Raises `BookError`."""
        return self.wrapped.devices

    def connect(self, alias: str, *, timeout: float | None = CONNECT_SECONDS) -> Device:
        """Connect to a paired device; see `client_app.client.Client.connect`."""
        return Device(self.loop, self.loop.call(self.wrapped.connect(alias, timeout=timeout)))

    def watch(self) -> "Iterator[Advert]":
        """Yield each device on the LAN, and again when it changes or leaves. Does not end."""
        return self.loop.iterate(self.wrapped.watch, subject="the devices on the LAN")

    def pair(
        self,
        target: str = "",
        *,
        confirm: Callable[[Comparison], bool] | None = None,
        code: Callable[[], str] | str = "",
        **options: Unpack[PairingOptions],
    ) -> Paired:
        """Pair with a device, or redeem an invite; see `client_app.client.Client.pair`.

        `confirm` and `code` are called in a thread of their own and may block. `on_wait` and
        `on_note` are called in the thread of the event loop and must return immediately.
        """

        async def ask(question: Comparison) -> bool:
            assert confirm is not None
            return await call_in_thread(lambda: confirm(question))

        async def ask_code() -> str:
            return code if isinstance(code, str) else await call_in_thread(code)

        return self.loop.call(
            self.wrapped.pair(
                target,
                confirm=ask if confirm is not None else None,
                code=ask_code if code else "",
                **options,
            )
        )

    def close(self) -> None:
        """End all sessions. Safe to repeat."""
        if "loop" in self.__dict__:
            self.loop.call(self.wrapped.close())
            self.loop.close()
            del self.loop
