"""A session with a paired device: requests, observations, and reconnection.

A session is reused while it is open. A device that is switched off does not end its sessions, so a
session that was silent for `SILENT_SECONDS` is checked with a ping before it is used, and one that
is silent for `REQUEST_PING_SECONDS` while a response is due is checked then.

If a session turns out to be dead (the device restarted, the network was down), a new one is opened,
and a request that is safe to repeat is repeated once: GET and FETCH, which change nothing, and PUT
and DELETE, which are idempotent (RFC 7252 §5.1, RFC 8132 §2). Others, such as POST and PATCH, are
repeated only if they cannot have been sent; otherwise the error says that the outcome is unknown.

All of this happens within the timeout of the call (see `client_app.deadline`).
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import Body, Format, Gap, Reply, encoded
from client_app.deadline import Deadline, seconds_left, waiting_for
from client_app.exchange import ME, ask, find_cause, reply_of, request_for
from client_app.limits import (
    BUSY_REPEATS,
    OBSERVE_PING_SECONDS,
    REQUEST_SECONDS,
    SESSION_REFUSALS,
    SESSION_RETRY_SECONDS,
    SILENT_SECONDS,
)
from client_app.observation import States, responds
from client_app.retries import OnNote
from client_app.silence import SessionLostError, SilenceWatch
from peer.errors import PeerError, RequestFailed, TimedOut, Unreachable
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.connection import CoapsConnection
from peer.net.problem import refused_session_seconds, retry_seconds

if TYPE_CHECKING:
    from client_app.models import Whoami

_random = secrets.SystemRandom()
_REPEATABLE: Final = frozenset({Code.GET, Code.FETCH, Code.PUT, Code.DELETE})
_log = logging.getLogger(__name__)

Reconnect = Callable[[], Awaitable[CoapsConnection]]


class _Messages:
    """The messages of one request: each is sent once, so a repeat needs another one."""

    def __init__(self, first: aiocoap.Message, another: Callable[[], aiocoap.Message]) -> None:
        self._first: aiocoap.Message | None = first
        self._another = another

    def __call__(self) -> aiocoap.Message:
        first, self._first = self._first, None
        return first or self._another()


class DeviceSession:
    """The present session with one device; replaced when it is dead.

    Args:
        alias: the device's alias, for errors.
        connection: an open connection to the device.
        reconnect: opens another connection to the same key.
        limits: the limits of the device; requests beyond `requests_per_session` wait.
        random: returns a number from 0 to 1, for waits of several clients that end apart.
        on_connection: called with this object for each connection, also the first.
    """

    def __init__(
        self,
        alias: str,
        connection: CoapsConnection,
        reconnect: Reconnect,
        *,
        limits: Limits = DEFAULT_LIMITS,
        random: Callable[[], float] = _random.random,
        on_connection: Callable[["DeviceSession"], None] = lambda _session: None,
    ) -> None:
        self.connection = connection
        self.alias = alias
        self._reconnect = reconnect
        self._random = random
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(limits.requests_per_session)
        self._is_unused = True
        self._suspect: CoapsConnection | None = None
        self._on_connection = on_connection
        on_connection(self)

    async def request(
        self,
        code: Code,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a request; see `client_app.device.Device` for its arguments and errors."""
        payload, content_format = encoded(body, body_format)

        def message() -> aiocoap.Message:
            made = request_for(code, path, accept=accept)
            made.payload = payload
            if content_format is not None:
                made.opt.content_format = content_format
            return made

        first = message()  # an invalid path raises before anything is sent
        async with Deadline(timeout):
            return reply_of(await self._response(_Messages(first, message)))

    async def _response(self, message: Callable[[], aiocoap.Message]) -> aiocoap.Message:
        """Return the response; a request that the device refused for a while is sent again."""
        refusals = busy = 0
        while True:
            if self._places.locked():
                with waiting_for(f"waiting until other requests to {self.alias} are answered"):
                    await self._places.acquire()
            else:
                await self._places.acquire()
            try:
                response = await self._exchange(message)
            finally:
                self._places.release()
            if refusals < SESSION_REFUSALS - 1 and await self.has_waited_after(response):
                refusals += 1
            elif busy < BUSY_REPEATS and await self._has_waited_for(response):
                busy += 1
            else:
                return response

    async def _exchange(self, message: Callable[[], aiocoap.Message]) -> aiocoap.Message:
        connection = await self._live()
        request = message()
        try:
            return await self._asked(connection, request)
        except SessionLostError as lost:
            if request.code not in _REPEATABLE:
                await self.drop(connection)
                raise _unknown_outcome(request.code, lost.error) from lost.error
            connection = await self._renewed(connection)
        try:
            response = await self._asked(connection, message())
        except SessionLostError as lost:
            raise lost.error from lost
        if request.code is Code.DELETE and response.code is Code.NOT_FOUND:
            raise RequestFailed(
                "there is nothing to delete (4.04)",
                advice="The first attempt may have deleted it; its answer was lost.",
                code=response.code.dotted,
                reason="not-found",
            )
        return response

    async def _asked(
        self, connection: CoapsConnection, request: aiocoap.Message
    ) -> aiocoap.Message:
        """Return the response on one connection.

        Raises `SessionLostError` if the connection has ended, or if the device falls silent and
        does not answer a ping. A device that works on a request answers it.
        """
        exchange = connection.begin(request)
        watch = SilenceWatch(connection, exchange.outcome, alias=self.alias)
        try:
            with waiting_for(
                f"waiting for the answer of {self.alias}", advice=find_cause(self.alias)
            ):
                return await exchange.response(timeout=None)
        except asyncio.CancelledError:
            self._suspect = connection
            raise
        except Unreachable as error:
            if connection.is_open:  # the device rejected the message
                raise
            raise SessionLostError(error) from error
        finally:
            watch.stop()

    async def has_waited_after(self, response: aiocoap.Message) -> bool:
        """If the device refused this session, close it, wait, and return True.

        The device has not processed the request, so it can be repeated whatever its method. The
        waiting time is random, so that several clients with one key do not return together.
        """
        seconds = refused_session_seconds(response)
        if seconds is None:
            return False
        await self.connection.close()
        seconds = min(seconds, SESSION_RETRY_SECONDS) * (1 + self._random() / 2)
        if seconds > seconds_left():
            return False
        _log.warning(
            "%s has no session left for this key, since other programs use it; trying again "
            "in %.0f s",
            self.alias,
            seconds,
        )
        with waiting_for(f"waiting for a session with {self.alias}", seconds=seconds):
            await asyncio.sleep(seconds)
        return True

    async def _has_waited_for(self, response: aiocoap.Message) -> bool:
        """If the device was busy, wait as long as it asks, and return True.

        A device that responds with 4.29 or 5.03 has not processed the request (RFC 8516 §3, RFC
        7252 §5.9.3.4). If the time is not left, the response is the result.
        """
        seconds = retry_seconds(response)
        if seconds is None or seconds >= seconds_left():
            return False
        with waiting_for(f"{self.alias} is busy; trying again", seconds=seconds):
            await asyncio.sleep(seconds)
        return True

    async def me(self, *, timeout: float | None = REQUEST_SECONDS) -> "Whoami":
        """Ask the device who this client is."""
        from client_app.decode import me_untrusted  # noqa: PLC0415 - most requests need it not

        reply = await self.request(Code.GET, "/".join(ME), timeout=timeout)
        return me_untrusted(reply.payload).whoami

    async def get_beside(self, path: Sequence[str]) -> bytes:
        """Read a resource once over the present connection, beside the requests of the user.

        It waits for a place among them, and replaces no connection. Raises what `ask` raises.
        """
        async with self._places:
            return await ask(self.connection, Code.GET, path, timeout=REQUEST_SECONDS)

    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
        retry: bool = True,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote = _log.warning,
    ) -> AsyncGenerator[Reply | Gap, None]:
        """Observe a resource; see `client_app.device.Device.observe`. A `Gap` is in its place."""
        states = States(
            self,
            lambda: request_for(Code.GET, path, accept=accept),
            timeout=timeout,
            retry=retry,
            ping_seconds=ping_seconds,
            on_note=on_note,
            random=self._random,
        )
        return states.iterate()

    async def open(self) -> CoapsConnection:
        """Return an open connection: this one if it responds, or a new one."""
        return await self._live()

    async def drop(self, connection: CoapsConnection) -> None:
        """End a connection that does not respond, unless it was replaced already."""
        async with self._turn:
            await connection.close()

    async def close(self) -> None:
        """End the session. The next request opens a new one."""
        await self.connection.close()

    # -- the connection ---------------------------------------------------------------------------

    async def _live(self) -> CoapsConnection:
        async with self._turn:
            connection = self.connection
            is_unused, self._is_unused = self._is_unused, False
            if connection.is_open:
                is_silent = connection.silent_seconds >= SILENT_SECONDS
                if is_unused or not (is_silent or connection is self._suspect):
                    return connection
                if await responds(connection):
                    self._suspect = None
                    return connection
            return await self._replaced()

    async def _renewed(self, dead: CoapsConnection) -> CoapsConnection:
        async with self._turn:
            if self.connection is not dead:  # another request was faster
                return self.connection
            return await self._replaced()

    async def _replaced(self) -> CoapsConnection:
        await self.connection.close()
        self.connection = await self._reconnect()
        self._on_connection(self)
        return self.connection


def _unknown_outcome(code: Code, error: PeerError) -> PeerError:
    kind = TimedOut if isinstance(error, TimedOut) else Unreachable
    return kind(
        f"the connection was lost during a {code}; the device may have executed it ({error})",
        advice=f"handfast does not repeat a {code}. Check the state of the device, then decide.",
    )
