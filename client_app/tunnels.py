"""TCP connections to the services of one device, over its present session.

A connection to a service is a stream (`peer.remote.streams`): the device is asked once per session
for a tunnel to the service, and decides about each stream again. If the session is dead, a new one
is opened and the stream is tried once more. A stream that is open ends with its session; the next
connection to a listener opens a new session.
"""

from __future__ import annotations  # QUIC is imported when it is needed, not for its types

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from aiocoap.numbers.codes import Code

from client_app.deadline import Deadline, waiting_for
from client_app.decode_fields import Fields
from client_app.exchange import ask, find_cause
from client_app.limits import (
    OBSERVE_PING_SECONDS,
    REQUEST_PING_SECONDS,
    REQUEST_SECONDS,
    STREAM_PINGS,
)
from client_app.observation import responds
from client_app.tunnel_listener import Listener
from peer import cbor
from peer.errors import (
    Denied,
    DeviceFailed,
    Malformed,
    PeerError,
    RequestFailed,
    SessionFailed,
    TimedOut,
    Unreachable,
)
from peer.net.daemon_thread import call_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from client_app.session import DeviceSession
    from peer.net.connection import CoapsConnection
    from peer.remote.stream_copy import Pair
    from peer.remote.streams import ClientStreams

_log = logging.getLogger(__name__)

PATH: Final = ("tunnels",)
_TUNNEL_ID_BYTES: Final = 8
_PACKAGES: Final = frozenset({"aioquic"})

T = TypeVar("T")


def services_untrusted(data: bytes) -> list[str]:
    """Decode the answer of GET `/tunnels`. Raises `Malformed`."""
    found = Fields(cbor.decode_untrusted(data), "the services").all.get("services")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Malformed("the device's response: the services are not a list of names")
    return found


def tunnel_untrusted(data: bytes) -> bytes:
    """Decode the answer of POST `/tunnels` and return the tunnel's ID. Raises `Malformed`."""
    found = Fields(cbor.decode_untrusted(data), "the tunnel").all.get("id")
    if not isinstance(found, bytes) or len(found) != _TUNNEL_ID_BYTES:
        raise Malformed("the device's response: the tunnel has no valid ID")
    return found


class _Lost(Exception):
    """The session is dead; `error` says how that was noticed."""

    def __init__(self, error: PeerError) -> None:
        super().__init__(str(error))
        self.error = error


class _OnConnection:
    """The streams of one connection, and the tunnels that the device gave it, by service."""

    def __init__(self, connection: CoapsConnection, streams: ClientStreams) -> None:
        self.connection = connection
        self.streams = streams
        self.tunnels: dict[str, bytes] = {}
        self.watch: asyncio.Task[None] | None = None


class Tunnels:
    """The tunnels of one device. Close them before its session."""

    def __init__(self, session: DeviceSession) -> None:
        self._session = session
        self._current: _OnConnection | None = None
        self._listeners: set[Listener] = set()
        self._turn = asyncio.Lock()

    @property
    def alias(self) -> str:
        """The device's alias."""
        return self._session.alias

    async def services(self, *, timeout: float | None = REQUEST_SECONDS) -> list[str]:
        """Return the names of the services that this client may use, sorted."""
        reply = await self._session.request(Code.GET, "/".join(PATH), timeout=timeout)
        return services_untrusted(reply.payload)

    async def open(self, service: str, *, timeout: float | None = REQUEST_SECONDS) -> Pair:
        """Connect to a service; return a reader and a writer. See `Device.stream`."""
        async with Deadline(timeout):
            return await self._retried(lambda current: self._opened(current, service))

    async def check(self, service: str, *, timeout: float | None = REQUEST_SECONDS) -> None:
        """Let the device decide and connect to a service once. Raises what `open` raises."""

        async def asked(current: _OnConnection) -> None:
            current.tunnels.pop(service, None)
            await self._tunnel(current, service)

        async with Deadline(timeout):
            await self._retried(asked)

    async def listen(
        self, service: str, host: str, port: int, *, on_note: Callable[[str], None] = _log.warning
    ) -> Listener:
        """Forward connections to a local port until `close`."""
        listener = Listener(service, lambda: self.open(service), on_note)
        await listener.start(host, port)
        self._listeners.add(listener)
        return listener

    async def close(self) -> None:
        """End the listeners and their connections. Safe to repeat."""
        if self._current is not None and self._current.watch is not None:
            self._current.watch.cancel()
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            await listener.close()

    async def _retried(self, work: Callable[[_OnConnection], Awaitable[T]]) -> T:
        """Do something on the present session; if that is dead, once more on a new one."""
        try:
            return await self._tried(work)
        except _Lost:
            pass
        try:
            return await self._tried(work)
        except _Lost as lost:
            raise lost.error from None

    async def _tried(self, work: Callable[[_OnConnection], Awaitable[T]]) -> T:
        connection = await self._session.open()
        current = await self._streams_of(connection)
        try:
            return await work(current)
        except SessionFailed as error:
            lost = _Lost(error)
        except TimedOut as error:
            lost = _Lost(error)
        except Unreachable as error:
            if connection.is_open:
                raise
            lost = _Lost(error)
        await self._session.drop(connection)
        raise lost

    async def _streams_of(self, connection: CoapsConnection) -> _OnConnection:
        async with self._turn:
            if self._current is None or self._current.connection is not connection:
                streams = await client_streams(connection)
                self._current = _OnConnection(connection, streams)
            return self._current

    async def _tunnel(self, current: _OnConnection, service: str) -> bytes:
        """Return the tunnel of the session to a service."""
        known = current.tunnels.get(service)
        if known is None:
            with waiting_for(f"waiting for {self.alias} to connect to {service}"):
                answer = await ask(
                    current.connection,
                    Code.POST,
                    PATH,
                    {"service": service},
                    timeout=REQUEST_SECONDS,
                )
            known = current.tunnels[service] = tunnel_untrusted(answer)
        return known

    async def _opened(self, current: _OnConnection, service: str) -> Pair:
        from peer.remote.streams_header import (  # noqa: PLC0415 - as in `client_streams`
            StreamHeader,
            StreamOutcome,
        )

        tunnel = await self._tunnel(current, service)
        exporter = current.connection.peer.exporter
        reader, writer = await current.streams.open()
        try:
            writer.write(StreamHeader.create(exporter, tunnel).encode())
            with waiting_for(f"waiting for {self.alias} to connect to {service}"):
                first = await self._first_byte(current.connection, reader)
            outcome = StreamOutcome.parse_untrusted(first)
        except BaseException:
            writer.transport.abort()
            raise
        if outcome is StreamOutcome.OPEN:
            if current.watch is None or current.watch.done():
                current.watch = asyncio.create_task(self._watched(current))
            return reader, writer
        writer.close()
        current.tunnels.pop(service, None)
        raise _refusal(outcome, service, self.alias)

    async def _watched(self, current: _OnConnection) -> None:
        """End a session that is dead, so that its streams do not wait for a device that has gone.

        A device that is switched off ends no session. A path may be without carriers for a while.
        This lasts as long as a stream is open.
        """
        connection = current.connection
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        while connection.is_open and current.streams.open_streams:
            left = OBSERVE_PING_SECONDS - connection.silent_seconds
            if left > 0:
                await asyncio.sleep(left)
            elif not await responds(connection, never):
                await self._session.drop(connection)

    async def _first_byte(self, connection: CoapsConnection, reader: asyncio.StreamReader) -> bytes:
        """Wait for the device's response; while it is silent, ask it for a sign of life.

        A device that answers the pings and not the stream has lost the QUIC connection.
        """
        reading = asyncio.ensure_future(reader.read(1))
        try:
            for _ in range(STREAM_PINGS):
                if (await asyncio.wait({reading}, timeout=REQUEST_PING_SECONDS))[0]:
                    break
                if not await responds(connection, reading):
                    raise TimedOut(
                        f"{self.alias} no longer responds", advice=find_cause(self.alias)
                    )
            else:
                raise TimedOut(f"{self.alias} does not answer on its streams")
            if first := reading.result():
                return first
            raise SessionFailed("the device has closed the stream")
        except ConnectionError as error:
            raise SessionFailed(f"the stream has ended: {error}") from error
        finally:
            reading.cancel()


async def client_streams(connection: CoapsConnection) -> ClientStreams:
    """Import QUIC, in a thread. Raises `Unreachable` if its packages are not installed."""

    def load() -> type[ClientStreams]:
        from peer.remote.streams import ClientStreams  # noqa: PLC0415 - slow, and an extra

        return ClientStreams

    try:
        kind = await call_in_thread(load)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        raise Unreachable(
            f"tunnels need {error.name}, which is not installed",
            advice="Install the extra `tunnel` where handfast is installed: "
            "pip install 'handfast[tunnel]'.",
        ) from None
    return kind(connection.association)


def _refusal(outcome: int, service: str, alias: str) -> PeerError:
    """Return the error for a stream that the device refused."""
    from peer.remote.streams_header import StreamOutcome  # noqa: PLC0415 - as in `client_streams`

    match outcome:
        case StreamOutcome.DENIED:
            return Denied(
                f"{alias} does not allow you the service {service}",
                advice="Ask an administrator of the device for the right Tunnel:Connect.",
            )
        case StreamOutcome.REFUSED:
            return DeviceFailed(
                f"the service {service} does not answer on {alias}",
                advice="Start it on the device, or correct its address in [tunnel.services].",
                code="5.02",
            )
        case StreamOutcome.NO_ROOM:
            return RequestFailed(
                f"{alias} has too many open connections",
                advice="Close some of them, or try again later.",
                code="4.29",
                reason="too-many",
            )
        case _:
            return SessionFailed(f"{alias} does not know this tunnel any more", advice="Try again.")
