"""A session with a paired device: requests, observations, and reconnection.

A session is reused while it is open. If it turns out to be dead (the device restarted, the network
was down), one new session is opened and the request is repeated. That is safe for the idempotent
methods GET, PUT and DELETE and for an observation (RFC 7252 §5.1). POST and PATCH are repeated only
if they cannot have been sent; otherwise `Unreachable` reports that the outcome is unknown.

A device that is switched off does not end its sessions, and the client is not notified. Therefore a
session without traffic for `SILENT_SECONDS` is checked with a small request and a short timeout.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final
from urllib.parse import unquote

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Body, Format, Reply, encoded
from client_app.decode import me_untrusted
from client_app.exchange import ME, message_of, payload_of
from client_app.limits import (
    OBSERVE_GRACE_SECONDS,
    PROBE_SECONDS,
    REQUEST_SECONDS,
    SILENT_SECONDS,
)
from client_app.models import Whoami
from peer.errors import ObservationEnded, PeerError, TimedOut, Unreachable, UsageError
from peer.net.connection import CoapsConnection
from peer.net.notifications import NotificationStream

_REPEATABLE: Final = frozenset({Code.GET, Code.PUT, Code.DELETE})
_DEFAULT_MAX_AGE: Final = 60  # seconds (RFC 7252 §5.10.5)

Reconnect = Callable[[], Awaitable[CoapsConnection]]


class DeviceSession:
    """The present session with one device; replaced when it is dead.

    Args:
        alias: the device's alias, for errors.
        connection: an open connection to the device.
        reconnect: opens another connection to the same key.
    """

    def __init__(self, alias: str, connection: CoapsConnection, *, reconnect: Reconnect) -> None:
        self.connection = connection
        self._alias = alias
        self._reconnect = reconnect
        self._turn = asyncio.Lock()
        self._last_traffic = asyncio.get_running_loop().time()
        self._is_unused = True

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

        def message() -> aiocoap.Message:  # a message can be sent once
            made = _message(code, path, accept=accept)
            made.payload = payload
            if content_format is not None:
                made.opt.content_format = content_format
            return made

        message()  # an invalid path raises before anything is sent
        connection, is_reused = await self._live()
        try:
            response = await connection.request(message(), timeout=timeout)
        except TimedOut as error:
            await connection.close()  # the next request connects again
            error.advice += f" To find the cause, run `handfast doctor {self._alias}`."
            raise
        except Unreachable as error:
            if not is_reused:
                raise
            if code not in _REPEATABLE:
                raise _unknown_outcome(code, error) from error
            connection = await self._renewed(connection)
            response = await connection.request(message(), timeout=timeout)
        self._note_traffic()
        return _reply(response)

    async def me(self) -> Whoami:
        """Ask the device who this client is."""
        return me_untrusted((await self.request(Code.GET, "/".join(ME))).payload).whoami

    async def observe(
        self, path: str, *, accept: Format | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Observe a resource; see `client_app.device.Device.observe`."""
        asked_again = False
        while True:
            try:
                async with contextlib.aclosing(self._notifications(path, accept)) as messages:
                    async for message in messages:
                        self._note_traffic()
                        yield _reply(message)
                        asked_again = False
                        if message.opt.observe is None:
                            return  # not observable (any more), and this was its state
            except ObservationEnded:
                if asked_again:
                    raise
                await self._drop()
            if asked_again:
                return
            asked_again = True

    async def close(self) -> None:
        """End the session. The next request opens a new one."""
        await self.connection.close()

    # -- observing --------------------------------------------------------------------------------

    async def _notifications(
        self, path: str, accept: Format | None
    ) -> AsyncGenerator[aiocoap.Message, None]:
        connection, _ = await self._live()
        stream = connection.observe(_message(Code.GET, path, accept=accept))
        async with contextlib.aclosing(stream):
            timeout: float | None = None
            while True:
                message = await self._next(stream, connection, timeout)
                if message is None:
                    return
                yield message
                max_age = message.opt.max_age
                timeout = (_DEFAULT_MAX_AGE if max_age is None else max_age) + OBSERVE_GRACE_SECONDS

    async def _next(
        self,
        stream: NotificationStream,
        connection: CoapsConnection,
        timeout: float | None,
    ) -> aiocoap.Message | None:
        """Return the next notification, None at the end.

        After each `timeout` without one the session is checked; raises `ObservationEnded` if it is
        dead.
        """
        step = asyncio.ensure_future(anext(stream, None))
        try:
            while True:
                done, _ = await asyncio.wait({step}, timeout=timeout)
                if done:
                    return step.result()
                if not await _responds(connection):
                    raise ObservationEnded("the device no longer responds")
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step})

    # -- the connection ---------------------------------------------------------------------------

    async def _live(self) -> tuple[CoapsConnection, bool]:
        """Return an open connection, and whether it was used before."""
        async with self._turn:
            connection = self.connection
            if self._is_unused:
                self._is_unused = False
                if connection.is_open:
                    return connection, False
            elif connection.is_open:
                silent = asyncio.get_running_loop().time() - self._last_traffic
                if silent < SILENT_SECONDS or await _responds(connection):
                    return connection, True
            return await self._replaced(), False

    async def _renewed(self, dead: CoapsConnection) -> CoapsConnection:
        async with self._turn:
            if self.connection is not dead:  # another request was faster
                return self.connection
            return await self._replaced()

    async def _replaced(self) -> CoapsConnection:
        await self.connection.close()
        self.connection = await self._reconnect()
        self._note_traffic()
        return self.connection

    async def _drop(self) -> None:
        async with self._turn:
            await self.connection.close()

    def _note_traffic(self) -> None:
        self._last_traffic = asyncio.get_running_loop().time()


async def _responds(connection: CoapsConnection) -> bool:
    """Whether the device responds on this session, even if with an error."""
    try:
        await connection.request(message_of(Code.GET, ME), timeout=PROBE_SECONDS)
    except (TimedOut, Unreachable):
        return False
    return True


def _message(code: Code, path: str, *, accept: Format | None) -> aiocoap.Message:
    """A request for `/a/b?c=d`, percent-decoded (RFC 7252 §6.4). Raises `UsageError`."""
    plain, _, query = path.partition("?")
    segments = tuple(unquote(part) for part in plain.removeprefix("/").split("/"))
    queries = tuple(unquote(part) for part in query.split("&")) if query else ()
    if segments == ("",):
        segments = ()
    if any(len(part.encode("utf-8", "replace")) > 255 for part in (*segments, *queries)):
        raise UsageError(
            "a segment of the path or query is longer than 255 bytes",
            advice="Send long data in the body.",
        )
    message = message_of(code, segments)
    message.opt.uri_query = queries
    if accept is not None:
        message.opt.accept = NUMBERS[accept]
    return message


def _unknown_outcome(code: Code, error: PeerError) -> Unreachable:
    return Unreachable(
        f"the connection was lost during a {code}; the device may have executed it ({error})",
        advice=f"handfast does not repeat a {code}. Check the state of the device, then decide.",
    )


def _reply(response: aiocoap.Message) -> Reply:
    """A 2.xx response as a `Reply`. Raises the `PeerError` that fits any other response."""
    content_format = response.opt.content_format
    return Reply(
        code=response.code.dotted,
        payload=payload_of(response),
        format=None if content_format is None else int(content_format),
    )
