"""One request and its response over an open session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Format, Reply
from client_app.limits import PATHS_PARSED
from peer import cbor
from peer.errors import DeviceFailed, UsageError
from peer.net.connection import CoapsConnection
from peer.net.problem import LOG_ADVICE, error_of

if TYPE_CHECKING:
    from client_app.decode import Me

ME: Sequence[str] = ("iam", "me")
"""The path of the resource that says who the client is on the device."""


def message_of(
    code: Code, path: Sequence[str], body: Mapping[str, object] | None = None
) -> aiocoap.Message:
    """A request with a CBOR body. A message can be sent once."""
    message = aiocoap.Message(code=code)
    message.opt.uri_path = tuple(path)
    if body is not None:
        message.payload = cbor.encode(body)
        message.opt.content_format = NUMBERS[Format.CBOR]
    return message


def request_for(code: Code, path: str, *, accept: Format | None) -> aiocoap.Message:
    """A request for `/a/b?c=d`, percent-decoded (RFC 7252 §6.4). Raises `UsageError`."""
    segments, queries = _parts(path)
    message = message_of(code, segments)
    if queries:
        message.opt.uri_query = queries
    if accept is not None:
        message.opt.accept = NUMBERS[accept]
    return message


@lru_cache(maxsize=PATHS_PARSED)
def _parts(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the segments of a path, and the parts of its query."""
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


def find_cause(alias: str) -> str:
    """Return the advice for a device that does not answer."""
    return (
        "Check that the device is on and connected. To find the cause, run "
        f"`handfast doctor {alias}`."
    )


def payload_of(response: aiocoap.Message) -> bytes:
    """The payload of a 2.xx response. Raises the `PeerError` that fits any other response."""
    error = error_of(response)
    if isinstance(error, DeviceFailed) and error.advice == LOG_ADVICE:
        error.advice = "Its log has the cause: run `handfast-device logs` at the device."
    if error is not None:
        raise error
    return bytes(response.payload)


def reply_of(response: aiocoap.Message) -> Reply:
    """A 2.xx response as a `Reply`. Raises the `PeerError` that fits any other response."""
    content_format = response.opt.content_format
    return Reply(
        code=response.code.dotted,
        payload=payload_of(response),
        format=None if content_format is None else int(content_format),
    )


async def ask(
    connection: CoapsConnection,
    code: Code,
    path: Sequence[str],
    body: Mapping[str, object] | None = None,
    *,
    timeout: float,
) -> bytes:
    """Send a request and return the payload of the response.

    Raises what `CoapsConnection.request` raises, or the `PeerError` that fits a 4.xx or 5.xx
    response.
    """
    return payload_of(await connection.request(message_of(code, path, body), timeout=timeout))


async def ask_me(connection: CoapsConnection, *, timeout: float) -> Me:
    """Ask the device who this client is: GET `/iam/me`.

    Raises what `ask` raises, or `Malformed`.
    """
    from client_app.decode import me_untrusted  # noqa: PLC0415 - most requests need it not

    return me_untrusted(await ask(connection, Code.GET, ME, timeout=timeout))
