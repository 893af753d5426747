"""A paired device: requests over a session with its pinned key.

A session is reused while it is open. If it turns out to be dead (the device restarted, the network
was down), one new session is opened and the request is repeated. That is safe for the idempotent
methods GET, PUT and DELETE and for an observation (RFC 7252 §5.1). POST and PATCH are repeated only
if they cannot have been sent; otherwise `Unreachable` reports that the outcome is unknown.

A device that is switched off does not end its sessions, and the client is not told. So a session
without traffic for `SILENT_SECONDS` is checked with a small request and a short timeout.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Body, Format, Reply, encoded
from client_app.models import KnownDevice, Whoami
from peer import cbor
from peer.errors import Malformed, ObservationEnded, PeerError, TimedOut, Unreachable, UsageError
from peer.net.connection import CoapsConnection
from peer.net.problem import error_of

if TYPE_CHECKING:
    from client_app.administration import Administration

REQUEST_SECONDS: Final = 30.0
"""Default time limit of a request, including all blocks."""

SILENT_SECONDS: Final = 10.0
"""A session without traffic for this long is checked before it is used."""

PROBE_SECONDS: Final = 4.0
"""Time limit of that check: enough for one lost datagram and its retransmission."""

OBSERVE_GRACE_SECONDS: Final = 10.0
"""Time after a notification's Max-Age (RFC 7641 §3.3.1) when the session is checked."""

_ME: Final = "/iam/me"
_REPEATABLE: Final = frozenset({Code.GET, Code.PUT, Code.DELETE})

Reconnect = Callable[[], Awaitable[CoapsConnection]]


class Device:
    """A paired device. Created by `Client.connect`; valid until the client is closed.

    All requests raise the `PeerError` that fits a 4.xx or 5.xx response: `NotPaired`, `Denied`,
    `RequestFailed` or `DeviceFailed`; and `TimedOut` or `Unreachable` if there is no response. A
    `timeout` is in seconds and includes all blocks of the body; None means no limit beyond CoAP's
    own. `path` is a percent-encoded path with an optional query: `/a/b?c=d`.
    """

    def __init__(
        self, known: KnownDevice, connection: CoapsConnection, *, reconnect: Reconnect
    ) -> None:
        self.known = known
        self._connection = connection
        self._reconnect = reconnect
        self._turn = asyncio.Lock()
        self._heard = asyncio.get_running_loop().time()
        self._fresh = True

    @property
    def alias(self) -> str:
        """The alias of the device on this client."""
        return self.known.alias

    @property
    def address(self) -> str:
        """The address of the present session, `HOST:PORT`."""
        return str(self._connection.peer.address)

    @property
    def resumed(self) -> bool:
        """Whether the session was resumed, without a full handshake."""
        return self._connection.resumed

    @property
    def iam(self) -> "Administration":
        """Users, roles, invites, pairing window and events of the device, as its policy allows."""
        from client_app.administration import (  # noqa: PLC0415 - most scripts never need it
            Administration,
        )

        return Administration(self)

    # -- requests ---------------------------------------------------------------------------------

    async def get(
        self,
        path: str,
        *,
        accept: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a GET request. `accept` is the content format to request."""
        return await self._request(Code.GET, path, accept=accept, timeout=timeout)

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
        payload = encoded(body, body_format)
        return await self._request(Code.PUT, path, payload=payload, timeout=timeout)

    async def post(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a POST request; the body is encoded as in `put`.

        It is not repeated once it may have reached the device: if the connection is lost then,
        `Unreachable` says that the outcome is unknown.
        """
        payload = encoded(body, body_format)
        return await self._request(Code.POST, path, payload=payload, timeout=timeout)

    async def patch(
        self,
        path: str,
        body: Body = None,
        *,
        body_format: Format | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> Reply:
        """Send a PATCH request (RFC 8132). Like a POST, it is not repeated."""
        payload = encoded(body, body_format)
        return await self._request(Code.PATCH, path, payload=payload, timeout=timeout)

    async def delete(self, path: str, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """Send a DELETE request."""
        return await self._request(Code.DELETE, path, timeout=timeout)

    async def whoami(self) -> Whoami:
        """Return this client's user, role and allowed actions on the device."""
        return whoami_untrusted((await self.get(_ME)).payload)

    async def observe(self, path: str, *, accept: Format | None = None) -> AsyncIterator[Reply]:
        """Observe a resource (RFC 7641): yield its present state, then each new one.

        If the observation ends without a reason, the resource is requested once more. An error
        response is then raised (`NotPaired` after a revocation); otherwise the observation
        continues. A resource that cannot be observed yields one state and ends.

        Raises:
            ObservationEnded: the session ended, and so did the one that replaced it.
        """
        asked_again = False
        while True:
            try:
                async for message in self._notifications(path, accept):
                    self._note_life()
                    _raise_error(message)
                    yield reply_of(message)
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
        await self._connection.close()

    # -- one exchange -----------------------------------------------------------------------------

    async def _request(
        self,
        code: Code,
        path: str,
        *,
        payload: tuple[bytes, int | None] = (b"", None),
        accept: Format | None = None,
        timeout: float | None,
    ) -> Reply:
        def message() -> aiocoap.Message:  # a message can be sent once
            return _message(code, path, payload=payload, accept=accept)

        message()  # a wrong path is told before anything is sent
        connection, is_reused = await self._live()
        try:
            answer = await connection.request(message(), timeout=timeout)
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
            answer = await connection.request(message(), timeout=timeout)
        self._note_life()
        _raise_error(answer)
        return reply_of(answer)

    async def _notifications(
        self, path: str, accept: Format | None
    ) -> AsyncIterator[aiocoap.Message]:
        connection, _ = await self._live()
        stream = connection.observe(_message(Code.GET, path, accept=accept))
        async with contextlib.aclosing(stream):  # type: ignore[type-var]  # it is a generator
            patience: float | None = None
            while True:
                message = await self._next(stream, connection, patience)
                if message is None:
                    return
                yield message
                max_age = message.opt.max_age
                patience = (60 if max_age is None else max_age) + OBSERVE_GRACE_SECONDS

    async def _next(
        self,
        stream: AsyncIterator[aiocoap.Message],
        connection: CoapsConnection,
        patience: float | None,
    ) -> aiocoap.Message | None:
        """The next notification, None at the end. After `patience` seconds without one, the session
        is checked; raises `ObservationEnded` if it is dead."""
        step = asyncio.ensure_future(anext(stream, None))
        try:
            while True:
                done, _ = await asyncio.wait({step}, timeout=patience)
                if done:
                    return step.result()
                if not await _answers(connection):
                    raise ObservationEnded("the device no longer responds")
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step})

    # -- the session ------------------------------------------------------------------------------

    async def _live(self) -> tuple[CoapsConnection, bool]:
        """An open session, and whether it was used before."""
        async with self._turn:
            connection = self._connection
            if self._fresh:
                self._fresh = False
                if connection.is_open:
                    return connection, False
            elif connection.is_open:
                silent = asyncio.get_running_loop().time() - self._heard
                if silent < SILENT_SECONDS or await _answers(connection):
                    return connection, True
            return await self._replaced(), False

    async def _renewed(self, dead: CoapsConnection) -> CoapsConnection:
        async with self._turn:
            if self._connection is not dead:  # another request was faster
                return self._connection
            return await self._replaced()

    async def _replaced(self) -> CoapsConnection:
        await self._connection.close()
        self._connection = await self._reconnect()
        self._note_life()
        return self._connection

    async def _drop(self) -> None:
        async with self._turn:
            await self._connection.close()

    def _note_life(self) -> None:
        self._heard = asyncio.get_running_loop().time()


async def _answers(connection: CoapsConnection) -> bool:
    """Whether the device answers on this session, be it with an error."""
    try:
        await connection.request(_message(Code.GET, _ME), timeout=PROBE_SECONDS)
    except (TimedOut, Unreachable):
        return False
    return True


def _message(
    code: Code,
    path: str,
    *,
    payload: tuple[bytes, int | None] = (b"", None),
    accept: Format | None = None,
) -> aiocoap.Message:
    segments, queries = _parts(path)
    message = aiocoap.Message(code=code, payload=payload[0])
    message.opt.uri_path = segments
    message.opt.uri_query = queries
    if payload[1] is not None:
        message.opt.content_format = payload[1]
    if accept is not None:
        message.opt.accept = NUMBERS[accept]
    return message


def _parts(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Segments and queries of `/a/b?c=d`, percent-decoded (RFC 7252 §6.4). Raises `UsageError`."""
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
    return segments, queries


def _raise_error(message: aiocoap.Message) -> None:
    error = error_of(message)
    if error is not None:
        raise error


def _unknown_outcome(code: Code, error: PeerError) -> Unreachable:
    return Unreachable(
        f"the connection was lost during a {code}; the device may have executed it ({error})",
        advice=f"handfast does not repeat a {code}. Check the state of the device, then decide.",
    )


def reply_of(message: aiocoap.Message) -> Reply:
    """A 2.xx response as a `Reply`."""
    content_format = message.opt.content_format
    return Reply(
        message.code.dotted,
        bytes(message.payload),
        None if content_format is None else int(content_format),
    )


def whoami_untrusted(payload: bytes) -> Whoami:
    """Parse the response of GET `/iam/me`. Raises only `Malformed`."""
    body = cbor.decode_untrusted(payload)
    if not isinstance(body, dict):
        raise Malformed("the device's response is not a map")
    return Whoami(
        user=text_of(body, "user"),
        role=text_of(body, "role"),
        fingerprint=text_of(body, "fingerprint"),
        key=text_of(body, "key"),
        path=text_of(body, "path"),
        actions=_words(body, "actions"),
        until=_moment(body, "until"),
        conditional=_words(body, "conditional"),
        now=_moment(body, "now"),
    )


def _moment(body: Mapping[object, object], key: str) -> int | None:
    value = body.get(key)
    return int(value) if isinstance(value, int | float) and abs(value) < 2**53 else None


def _words(body: Mapping[object, object], key: str) -> tuple[str, ...]:
    value = body.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Malformed(f"the device's response: {key} is not a list of strings")
    return tuple(value)


def text_of(body: Mapping[object, object], key: str) -> str:
    """A text field of a peer's map; empty if absent. Raises `Malformed` for another type."""
    value = body.get(key, "")
    if not isinstance(value, str):
        raise Malformed(f"the device's response: {key} is not text")
    return value
