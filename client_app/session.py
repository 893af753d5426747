"""A session with a paired device: requests, observations, and reconnection.

A session is reused while it is open. If it turns out to be dead (the device restarted, the network
was down), one new session is opened and the request is repeated. That is safe for the idempotent
methods GET, PUT and DELETE and for an observation (RFC 7252 §5.1). POST and PATCH are repeated only
if they cannot have been sent; otherwise `Unreachable` reports that the outcome is unknown.

A device that is switched off does not end its sessions, and the client is not notified. Therefore a
session that was silent for `SILENT_SECONDS` is checked with a ping before it is used.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final
from urllib.parse import unquote

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Body, Format, Reply, encoded
from client_app.decode import me_untrusted
from client_app.exchange import ME, message_of, reply_of
from client_app.limits import (
    OBSERVE_PING_SECONDS,
    PROBE_SECONDS,
    REQUEST_SECONDS,
    SESSION_REFUSALS,
    SILENT_SECONDS,
)
from client_app.models import Whoami
from client_app.observation import OnNote, States
from peer.errors import PeerError, TimedOut, Unreachable, UsageError
from peer.net.connection import CoapsConnection
from peer.net.problem import refused_session_seconds

_random = secrets.SystemRandom()
_REPEATABLE: Final = frozenset({Code.GET, Code.PUT, Code.DELETE})
_log = logging.getLogger(__name__)

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
        self.alias = alias
        self._reconnect = reconnect
        self._turn = asyncio.Lock()
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
        for _ in range(SESSION_REFUSALS):
            response = await self._exchange(code, message, timeout)
            if not await self.has_waited_after(response):
                break
        return reply_of(response)

    async def _exchange(
        self, code: Code, message: Callable[[], aiocoap.Message], timeout: float | None
    ) -> aiocoap.Message:
        connection, is_reused = await self._live()
        try:
            return await connection.request(message(), timeout=timeout)
        except TimedOut as error:
            await connection.close()  # the next request connects again
            error.advice += f" To find the cause, run `handfast doctor {self.alias}`."
            raise
        except Unreachable as error:
            if not is_reused:
                raise
            if code not in _REPEATABLE:
                raise _unknown_outcome(code, error) from error
            connection = await self._renewed(connection)
            return await connection.request(message(), timeout=timeout)

    async def has_waited_after(self, response: aiocoap.Message) -> bool:
        """If the device refused this session, close it, wait, and return True.

        The device has not processed the request, so it can be repeated whatever its method. The
        waiting time is random, so that several clients with one key do not return together.
        """
        seconds = refused_session_seconds(response)
        if seconds is None:
            return False
        seconds = min(seconds, REQUEST_SECONDS) * _random.uniform(1.0, 1.5)
        _log.warning(
            "%s has no session left for this key, since other programs use it; trying again "
            "in %.0f s",
            self.alias,
            seconds,
        )
        await self.connection.close()
        await asyncio.sleep(seconds)
        return True

    async def me(self) -> Whoami:
        """Ask the device who this client is."""
        return me_untrusted((await self.request(Code.GET, "/".join(ME))).payload).whoami

    def observe(
        self,
        path: str,
        *,
        accept: Format | None = None,
        ping_seconds: float | None = OBSERVE_PING_SECONDS,
        on_note: OnNote = _log.warning,
    ) -> AsyncGenerator[Reply, None]:
        """Observe a resource; see `client_app.device.Device.observe`."""
        states = States(
            self,
            lambda: _message(Code.GET, path, accept=accept),
            ping_seconds=ping_seconds,
            on_note=on_note,
        )
        return states.iterate()

    async def open(self) -> CoapsConnection:
        """Return an open connection: this one if it responds, or a new one."""
        return (await self._live())[0]

    async def drop(self, connection: CoapsConnection) -> None:
        """End a connection that does not respond, unless it was replaced already."""
        async with self._turn:
            await connection.close()

    async def close(self) -> None:
        """End the session. The next request opens a new one."""
        await self.connection.close()

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
                is_silent = connection.silent_seconds >= SILENT_SECONDS
                if not is_silent or await connection.ping(timeout=PROBE_SECONDS):
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
        return self.connection


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
