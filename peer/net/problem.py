"""Error responses: concise problem details (RFC 9290, Content-Format 257).

`title` says what happened, `detail` what to do next. The custom entry `handfast:problem` carries a
reason slug, from which a client of handfast chooses the exception; any other client shows the two
texts. `REASONS` is the one table of slugs, CoAP codes and exceptions (protocol §7).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code

from peer import cbor
from peer.errors import (
    Denied,
    DeviceFailed,
    InvalidValue,
    Malformed,
    NotLocal,
    NotPaired,
    OtherPort,
    PeerError,
    RefusedByUser,
    RequestFailed,
    WindowClosed,
    WrongCode,
)
from peer.limits import (
    DEFAULT_LIMITS,
    MAX_PROBLEM_TEXT_BYTES,
    MAX_PROBLEM_TEXT_CHARS,
    SESSION_RETRY_SECONDS,
    Limits,
)

CONTENT_FORMAT = 257
_TITLE, _DETAIL, _CUSTOM = -1, -2, "handfast:problem"
_BAD_GATEWAY = 5 << 5 | 2  # which mypy does not find in aiocoap
_CBOR_LENGTH_BYTES = 2  # in front of a text of 24 to 65,535 bytes, beside its first byte

#: The advice for a 5.xx response that has none.
LOG_ADVICE: Final = "Check the device's log for the cause."


class Reason(NamedTuple):
    """A row of the table: the CoAP codes, the usual one first, and the exception of a client."""

    codes: tuple[Code, ...]
    error: type[PeerError] | None = None  # None: RequestFailed or DeviceFailed, by the code


REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "bad-option": Reason((Code.BAD_OPTION,)),
        "busy": Reason((Code.CONFLICT, Code.SERVICE_UNAVAILABLE)),
        "content-format": Reason((Code.UNSUPPORTED_CONTENT_FORMAT, Code.NOT_ACCEPTABLE)),
        "denied": Reason((Code.FORBIDDEN,), Denied),
        "incomplete": Reason((Code.REQUEST_ENTITY_INCOMPLETE,)),
        "invite": Reason((Code.FORBIDDEN,), WrongCode),
        "last-owner": Reason((Code.CONFLICT,)),
        "limit": Reason((Code.CONFLICT,)),
        "locked-out": Reason((Code.TOO_MANY_REQUESTS,), WrongCode),
        "malformed": Reason((Code.BAD_REQUEST,), InvalidValue),
        "method-not-allowed": Reason((Code.METHOD_NOT_ALLOWED,)),
        "no-proxy": Reason((Code.PROXYING_NOT_SUPPORTED,)),
        "not-found": Reason((Code.NOT_FOUND,)),
        "not-local": Reason((Code.FORBIDDEN,), NotLocal),
        "not-paired": Reason((Code.FORBIDDEN,), NotPaired),
        "pairing-port": Reason((Code.FORBIDDEN,), OtherPort),
        "precondition-failed": Reason((Code.PRECONDITION_FAILED,)),
        "refused": Reason((Code.FORBIDDEN,), RefusedByUser),
        "service-down": Reason((Code(_BAD_GATEWAY),)),
        "taken": Reason((Code.CONFLICT,)),
        "too-large": Reason((Code.REQUEST_ENTITY_TOO_LARGE,)),
        "too-many": Reason((Code.TOO_MANY_REQUESTS,)),
        "too-many-sessions": Reason((Code.TOO_MANY_REQUESTS,)),
        "unavailable": Reason((Code.SERVICE_UNAVAILABLE,)),
        "window-closed": Reason((Code.FORBIDDEN,), WindowClosed),
        "wrong-code": Reason((Code.FORBIDDEN,), WrongCode),
    }
)
_BY_CODE: Mapping[int, type[PeerError]] = {Code.UNAUTHORIZED: NotPaired, Code.FORBIDDEN: Denied}


class ProblemError(RenderableError):
    """Raise it in the handler of a request: the response is an error with problem details.

    Args:
        reason: a slug of `REASONS`.
        title: what happened.
        detail: what to do next.
        code: one of the reason's codes; by default its first.
        max_age: seconds after which a retry may succeed (RFC 8516).
        size1: bytes of the longest body that would be accepted (RFC 7252 §5.9.2.9).
        port: the port of this host that takes the request (`pairing-port`).
    """

    def __init__(
        self,
        reason: str,
        title: str,
        detail: str,
        *,
        code: Code | None = None,
        max_age: int | None = None,
        size1: int | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(title)
        self.reason = reason
        self.title = title
        self.detail = detail
        self.code = REASONS[reason].codes[0] if code is None else code
        self.max_age = max_age
        self.size1 = size1
        self.port = port

    def to_message(self) -> aiocoap.Message:
        """Return the response. It is one datagram, never blocks, so both texts are shortened."""
        entry: dict[str, object] = {"reason": self.reason}
        if self.port is not None:
            entry["port"] = self.port
        body = {
            _TITLE: _shortened(self.title),
            _DETAIL: _shortened(self.detail),
            _CUSTOM: entry,
        }
        message = aiocoap.Message(
            code=self.code, payload=cbor.encode(body), content_format=CONTENT_FORMAT
        )
        if self.max_age is not None:
            message.opt.max_age = self.max_age
        if self.size1 is not None:
            message.opt.size1 = self.size1
        return message


def shortened(message: aiocoap.Message, payload_bytes: int) -> aiocoap.Message | None:
    """Return an error response with shorter texts, for a session with small records.

    Return None if it is no error, has no problem details, or they do not fit either.
    """
    if message.code.is_successful() or message.opt.content_format != CONTENT_FORMAT:
        return None
    body = cbor.decode_untrusted(
        message.payload,
        depth=DEFAULT_LIMITS.cbor_depth,
        size=DEFAULT_LIMITS.request_body_bytes,
    )
    if not isinstance(body, dict):
        return None
    text_keys = [key for key in (_TITLE, _DETAIL) if isinstance(body.get(key), str)]
    fixed = len(cbor.encode({**body, **dict.fromkeys(text_keys, "")}))
    for key in text_keys:
        most = (payload_bytes - fixed) // len(text_keys) - _CBOR_LENGTH_BYTES
        body[key] = body[key].encode()[: max(most, 0)].decode(errors="ignore")
    smaller = message.copy(payload=cbor.encode(body))
    smaller.remote, smaller.request = message.remote, message.request
    return smaller if len(smaller.payload) <= payload_bytes else None


def error_of(message: aiocoap.Message, limits: Limits = DEFAULT_LIMITS) -> PeerError | None:
    """Return the error that a response means to a client, or None for a 2.xx response."""
    if message.code.is_successful():
        return None
    title, detail, reason = _read_untrusted(message, limits)
    code = message.code.dotted
    title = title or f"the device responded with {code}"
    if message.code.class_ >= 5:
        advice = detail or LOG_ADVICE
        return DeviceFailed(title, advice=advice, code=code)
    known = REASONS.get(reason)
    kind = (known and known.error) or _BY_CODE.get(int(message.code))
    if kind is OtherPort:
        return OtherPort(title, advice=detail, port=_port_untrusted(message, limits))
    if kind is not None and not issubclass(kind, RequestFailed):
        return kind(title, advice=detail)
    return (kind or RequestFailed)(title, advice=detail, code=code, reason=reason)


def refused_session_seconds(message: aiocoap.Message) -> float | None:
    """Return when to connect again if the device refused the session of a response, else None.

    It has not processed the request (protocol §2.4).
    """
    if message.code is not Code.TOO_MANY_REQUESTS:
        return None
    _title, _detail, reason = _read_untrusted(message, DEFAULT_LIMITS)
    if reason != "too-many-sessions":
        return None
    return float(SESSION_RETRY_SECONDS if message.opt.max_age is None else message.opt.max_age)


def retry_seconds(message: aiocoap.Message) -> float | None:
    """Return when a request may succeed that a device refused since it was busy, else None.

    That is Max-Age of 4.29 (RFC 8516 §3) and of 5.03 (RFC 7252 §5.9.3.4).
    """
    is_busy = message.code in (Code.TOO_MANY_REQUESTS, Code.SERVICE_UNAVAILABLE)
    return float(message.opt.max_age) if is_busy and message.opt.max_age is not None else None


def _read_untrusted(message: aiocoap.Message, limits: Limits) -> tuple[str, str, str]:
    """Return title, detail and reason of a response; what does not parse counts as absent."""
    if message.opt.content_format != CONTENT_FORMAT:
        return _text(message.payload.decode("utf-8", "replace")), "", ""
    body, custom = _body_untrusted(message, limits)
    return _text(body.get(_TITLE)), _text(body.get(_DETAIL)), _text(custom.get("reason"))


def _port_untrusted(message: aiocoap.Message, limits: Limits) -> int:
    """Return the port that a response names; 0 if there is none."""
    _, custom = _body_untrusted(message, limits)
    port = custom.get("port")
    return port if type(port) is int and 0 < port < 1 << 16 else 0


def _body_untrusted(
    message: aiocoap.Message, limits: Limits
) -> tuple[Mapping[object, object], Mapping[object, object]]:
    """Return problem details, and the custom entry in them."""
    try:
        body = cbor.decode_untrusted(
            message.payload, depth=limits.cbor_depth, size=limits.request_body_bytes
        )
    except Malformed:
        return {}, {}
    if not isinstance(body, dict):
        return {}, {}
    custom = body.get(_CUSTOM)
    return body, custom if isinstance(custom, dict) else {}


def _shortened(text: str) -> str:
    return text.encode()[:MAX_PROBLEM_TEXT_BYTES].decode(errors="ignore")


def _text(value: object) -> str:
    return value[:MAX_PROBLEM_TEXT_CHARS] if isinstance(value, str) else ""
