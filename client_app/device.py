"""A paired device: requests over sessions with its pinned key (see `client_app.session`)."""

from __future__ import annotations  # administration is imported when it is needed

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, overload

from aiocoap.numbers.codes import Code

from client_app.content import Body, Format, Gap, Reply
from client_app.limits import LOOPBACK, OBSERVE_PING_SECONDS, REQUEST_SECONDS
from client_app.observation import Observation, without_gaps
from client_app.retries import OnNote
from client_app.session import DeviceSession
from peer.net.session_route import SessionRoute

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from client_app.administration import Administration
    from client_app.known_device import KnownDevice
    from client_app.models import Whoami
    from client_app.tunnels import Tunnels

_log = logging.getLogger(__name__)


class Device:
    """A paired device. Created by `Client.connect`; valid until the client is closed.

    All requests raise the `PeerError` that fits a 4.xx or 5.xx response: `NotPaired`, `Denied`,
    `RequestFailed` or `DeviceFailed`; and `TimedOut` or `Unreachable` if there is no response.

    A `timeout` is the time of the whole call in seconds: waiting for other requests, a check of the
    session, a new session, all blocks of the body. `TimedOut` is raised when it is over. None means
    no limit beyond those of the steps. `path` is a percent-encoded path with an optional query:
    `/a/b?c=d`.

    If the session is lost, a new one is opened, and GET, FETCH, PUT and DELETE are repeated once.
    If the device responds with 4.29 or 5.03 and says when to try again (Max-Age), the request is
    repeated then, once, if the timeout allows it. Requests of one client may run in parallel; those
    beyond the limit of a session wait.
    """

    def __init__(self, known: KnownDevice, session: DeviceSession) -> None:
        self.known = known
        self._session = session
        self._tunnels: Tunnels | None = None

    def __repr__(self) -> str:
        known = self.known
        user = f", user {known.user}" if known.user else ""
        return f"<Device {known.alias} ({known.fingerprint.device_id}){user}>"

    @property
    def alias(self) -> str:
        """The alias of the device on this client."""
        return self.known.alias

    @property
    def address(self) -> str:
        """The address of the device in the present session, or of its relay, `HOST:PORT`."""
        return str(self._session.connection.peer.address)

    @property
    def route(self) -> str:
        """How the present session reaches the device: `address`, `direct` or `relay`.

        On a path it can change at any time. Only the device knows which addresses are on its own
        network: `whoami` tells `lan` from `address`.
        """
        return self._session.connection.peer.path

    @property
    def resumed(self) -> bool:
        """Whether the session was resumed, without a full handshake."""
        return self._session.connection.resumed

    @property
    def iam(self) -> Administration:
        """Users, roles, invites, pairing window and events of the device, as its policy allows."""
        from client_app.administration import Administration  # noqa: PLC0415 - see above

        return Administration(self._session)

    # -- requests ---------------------------------------------------------------------------------

    async def get(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a GET request. `accept` is the content format to request."""
        return await self._session.request(Code.GET, path, accept=accept, timeout=timeout)

    async def fetch(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a FETCH request (RFC 8132): a GET with a body, which is encoded as in `put`."""
        return await self._session.request(
            Code.FETCH, path, body, body_format=body_format, accept=accept, timeout=timeout
        )

    async def put(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a PUT request.

        Bytes are sent as they are; a string as text and any other value as CBOR, unless
        `body_format` names another format. Raises `UsageError` if the body cannot be encoded.
        """
        return await self._session.request(
            Code.PUT, path, body, body_format=body_format, timeout=timeout
        )

    async def post(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a POST request; the body is encoded as in `put`.

        It is not repeated once it may have reached the device: if the connection is lost then, the
        error says that the outcome is unknown.
        """
        return await self._session.request(
            Code.POST, path, body, body_format=body_format, timeout=timeout
        )

    async def patch(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a PATCH request (RFC 8132). Like a POST, it is not repeated."""
        return await self._session.request(
            Code.PATCH, path, body, body_format=body_format, timeout=timeout
        )

    async def delete(self, path: str, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """Send a DELETE request."""
        return await self._session.request(Code.DELETE, path, timeout=timeout)

    async def whoami(self, *, timeout: float | None = REQUEST_SECONDS) -> Whoami:
        """Return this client's user, role and allowed actions, and the route to the device."""
        me = await self._session.me(timeout=timeout)
        route = self.route
        if route == SessionRoute.ADDRESS and me.path == "local":
            route = SessionRoute.LAN
        return replace(me, route=route, address=self.address)

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
        on_note: OnNote = _log.warning,
    ) -> Observation[Reply]: ...
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
        on_note: OnNote = _log.warning,
    ) -> Observation[Reply | Gap]: ...
    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
        retry: bool = True,
        gaps: bool = False,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote = _log.warning,
    ) -> Observation[Reply] | Observation[Reply | Gap]:
        """Observe a resource (RFC 7641): iterate over its present state and each new one.

        Leaving an `async for` loop ends the observation at the device. States that are not read in
        time are left out. A resource that cannot be observed has one state. An error response is
        raised (`NotPaired` after a revocation).

        If the device falls silent, restarts or gets another address, the observation continues on a
        new session, with the present state first, whose `gap` says how long none could arrive.
        Attempts continue with growing pauses until the loop is left; only an answer of the device
        ends them, such as a revocation, or another key at its address.

        Args:
            path: the resource.
            accept: the content format to request.
            timeout: seconds until the first state, with a new session if necessary.
            retry: False raises the error when the session is lost.
            gaps: also yield a `Gap` as soon as the session is lost.
            ping_seconds: silence after which the device is pinged; it then has `PROBE_SECONDS` to
                answer. A longer time lets a device on battery sleep; None pings it only if a
                notification is overdue by its Max-Age.
            on_note: called with messages about lost sessions, which are logged by default.

        Raises:
            TimedOut: there was no first state in time.
            ObservationEnded, Unreachable: the session was lost, and `retry` is False.
        """

        def observe() -> AsyncGenerator[Reply | Gap, None]:
            return self._session.observe(
                path,
                accept=accept,
                timeout=timeout,
                retry=retry,
                ping_seconds=ping_seconds,
                on_note=on_note,
            )

        subject = f"{path} on {self.alias}"
        if gaps:
            return Observation(observe, subject=subject)
        return Observation(lambda: without_gaps(observe()), subject=subject)

    # -- tunnels ----------------------------------------------------------------------------------

    async def services(self, *, timeout: float | None = REQUEST_SECONDS) -> list[str]:
        """Return the names of the TCP services that this client may use, sorted."""
        return await self._tunnels_of_session().services(timeout=timeout)

    async def stream(
        self, service: str, *, timeout: float | None = REQUEST_SECONDS
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a TCP service of the device; return a reader and a writer.

        The end of a direction (`write_eof`, or no more data) and a reset are those of the TCP
        connection. It ends with the session: the reader then raises `ConnectionResetError`.

        Raises:
            Denied: the device does not allow it.
            RequestFailed: there is no such service, or too many connections are open.
            DeviceFailed: the service does not answer on the device.
            Unreachable: the extra `tunnel` is not installed, or the device cannot be reached.
            TimedOut: the device did not answer in time.
        """
        return await self._tunnels_of_session().open(service, timeout=timeout)

    async def tunnel(
        self,
        service: str,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        timeout: float | None = REQUEST_SECONDS,
        on_note: OnNote = _log.warning,
    ) -> int:
        """Forward connections to a local port to a TCP service of the device; return the port.

        Each connection is a `stream`. If the session is lost, the next connection opens a new one.
        The port is closed by `close`.

        Args:
            service: the name of the service.
            port: the local port; 0 for any.
            host: the local address to listen on. With another one than loopback, all who can reach
                it use the service with the rights of this client.
            timeout: seconds for the first check, in which the device connects to the service once.
            on_note: called with messages about connections that failed, which are logged by
                default.

        Raises:
            PeerError: the local port cannot be used; and what `stream` raises.
        """
        tunnels = self._tunnels_of_session()
        await tunnels.check(service, timeout=timeout)
        listener = await tunnels.listen(service, host, port, on_note=on_note)
        return listener.port

    def _tunnels_of_session(self) -> Tunnels:
        from client_app.tunnels import Tunnels  # noqa: PLC0415 - most clients have none

        if self._tunnels is None:
            self._tunnels = Tunnels(self._session)
        return self._tunnels

    async def close(self) -> None:
        """End the tunnels and the session. The next request opens a new session."""
        if self._tunnels is not None:
            await self._tunnels.close()
        await self._session.close()
