"""A paired device: requests over sessions with its pinned key (see `client_app.session`)."""

from __future__ import annotations  # administration is imported when it is needed

import logging
from typing import TYPE_CHECKING, Literal, overload

from aiocoap.numbers.codes import Code

from client_app.content import Body, Format, Gap, Reply
from client_app.limits import OBSERVE_PING_SECONDS, REQUEST_SECONDS
from client_app.observation import Observation, without_gaps
from client_app.retries import OnNote
from client_app.session import DeviceSession

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from client_app.administration import Administration
    from client_app.known_device import KnownDevice
    from client_app.models import Whoami

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
        """The address of the present session, `HOST:PORT`."""
        return str(self._session.connection.peer.address)

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
        """Return this client's user, role and allowed actions on the device."""
        return await self._session.me(timeout=timeout)

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

    async def close(self) -> None:
        """End the session. The next request opens a new one."""
        await self._session.close()
