"""Error responses that fit their session, and those to plain requests as bytes.

They are the bytes that aiocoap sends for the same error (`Context`, `BoundedMessageManager`).
"""

import logging
from collections.abc import Callable

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import ACK, NON

from peer.net import outline, plain
from peer.net.aiocoap_seam.deliveries import fits, size_of
from peer.net.problem import shortened
from peer.net.remote import CoapsRemote

_log = logging.getLogger(__name__)
_EMPTY_ACK, _RESET = b"\x60\x00", b"\x70\x00"  # without the Message ID (RFC 7252 §3)


def encode_refusal(
    remote: CoapsRemote,
    request: bytes,
    error: RenderableError,
    next_message_id: Callable[[], int],
) -> bytes:
    """Return the message that answers a plain request with an error; empty if there is none.

    A non-confirmable request is reset instead of answered with 4.02 (RFC 7252 §5.4.1). If the
    error has No-Response, it is acknowledged at most. An error that has no message, or one that
    does not fit, is answered with 5.00.

    Args:
        remote: the session.
        request: the request's bytes.
        error: what its handler raised.
        next_message_id: returns the Message ID of a message that is no acknowledgement.
    """
    is_confirmable = outline.type_of(request) == outline.CON
    try:
        message = error.to_message()
        unwanted, message.opt.no_response = message.opt.no_response or 0, None
        if message.code is Code.BAD_OPTION and not is_confirmable:
            return _RESET + request[2:4]
        if unwanted & 1 << message.code.class_ - 1:
            return _EMPTY_ACK + request[2:4] if is_confirmable else b""
        message.remote, message.token = remote, plain.token_of(request)
        fitted = fitting(message)
        if fitted is not None:
            fitted.mtype = ACK if is_confirmable else NON
            fitted.mid = outline.message_id_of(request) if is_confirmable else next_message_id()
            return bytes(fitted.encode())
        _log.error("the error %r does not fit one datagram; it has too many options", error)
    except Exception:
        _log.exception("the error %r has no message", error)
    message_id = None if is_confirmable else next_message_id()
    return plain.encode_code(request, Code.INTERNAL_SERVER_ERROR, message_id)


def fitting(response: aiocoap.Message) -> aiocoap.Message | None:
    """Return a response that fits one datagram: itself, or an error with shorter texts."""
    if fits(response):
        return response
    room = response.remote.association.session.message_bytes - size_of(response)
    return shortened(response, len(response.payload) + room)
