"""Errors on the wire: concise problem details (RFC 9290, content format 257).

`title` says what happened, `detail` what to do next. A custom entry `handfast:problem` carries a
reason slug, from which our client picks the exception; a stock client shows the two texts.
"""

from collections.abc import Mapping

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code

from peer import cbor
from peer.errors import (
    Denied,
    DeviceFailed,
    Malformed,
    NotLocal,
    NotPaired,
    PeerError,
    RefusedByUser,
    RequestFailed,
    WindowClosed,
    WrongCode,
)
from peer.limits import DEFAULT_LIMITS

CONTENT_FORMAT = 257
_TITLE, _DETAIL, _CUSTOM = -1, -2, "handfast:problem"
_TEXT_MAX = 500  # characters of a peer's words that are kept
_SENT_MAX = 450  # bytes of each text that is sent: an error is one datagram, never in blocks

_BY_REASON: Mapping[str, type[PeerError]] = {
    "not-paired": NotPaired,
    "no-identity": NotPaired,
    "denied": Denied,
    "not-local": NotLocal,
    "window-closed": WindowClosed,
    "refused": RefusedByUser,
    "wrong-code": WrongCode,
    "locked-out": WrongCode,
    "invite": WrongCode,
}
_BY_CODE: Mapping[int, type[PeerError]] = {Code.UNAUTHORIZED: NotPaired, Code.FORBIDDEN: Denied}


class ProblemError(RenderableError):
    """Raise it in a handler: the answer is the code with problem details as its body."""

    def __init__(
        self, code: Code, reason: str, title: str, detail: str, *, max_age: int | None = None
    ) -> None:
        super().__init__(title)
        self.code = code
        self.reason = reason
        self.title = title
        self.detail = detail
        self.max_age = max_age

    def to_message(self) -> aiocoap.Message:
        """The answer as a CoAP message."""
        return problem(self.code, self.reason, self.title, self.detail, max_age=self.max_age)


def problem(
    code: Code, reason: str, title: str, detail: str, *, max_age: int | None = None
) -> aiocoap.Message:
    """An error answer. `max_age`: seconds after which a repeat makes sense (RFC 8516)."""
    body = {_TITLE: _cut(title), _DETAIL: _cut(detail), _CUSTOM: {"reason": reason}}
    message = aiocoap.Message(code=code, payload=cbor.encode(body), content_format=CONTENT_FORMAT)
    if max_age is not None:
        message.opt.max_age = max_age
    return message


def error_of(message: aiocoap.Message) -> PeerError | None:
    """What an answer means to a client: None for a 2.xx, else the error that fits."""
    if message.code.is_successful():
        return None
    title, detail, reason = _read_untrusted(message)
    code = message.code.dotted
    title = title or f"the device responded with {code}"
    if message.code.class_ >= 5:
        advice = detail or "Check the device's log for the cause."
        return DeviceFailed(title, advice=advice, code=code)
    kind = _BY_REASON.get(reason) or _BY_CODE.get(int(message.code))
    if kind is not None:
        return kind(title, advice=detail)
    return RequestFailed(title, advice=detail, code=code, reason=reason)


def _read_untrusted(message: aiocoap.Message) -> tuple[str, str, str]:
    """Title, detail and reason of an answer; what does not parse counts as absent."""
    if message.opt.content_format != CONTENT_FORMAT:
        return _text(message.payload.decode("utf-8", "replace")), "", ""
    limits = DEFAULT_LIMITS
    try:
        body = cbor.decode_untrusted(
            message.payload, depth=limits.cbor_depth, size=limits.request_body_bytes
        )
    except Malformed:
        return "", "", ""
    if not isinstance(body, dict):
        return "", "", ""
    custom = body.get(_CUSTOM)
    reason = custom.get("reason") if isinstance(custom, dict) else None
    return _text(body.get(_TITLE)), _text(body.get(_DETAIL)), _text(reason)


def _cut(text: str) -> str:
    return text.encode()[:_SENT_MAX].decode(errors="ignore")


def _text(value: object) -> str:
    return value[:_TEXT_MAX] if isinstance(value, str) else ""
