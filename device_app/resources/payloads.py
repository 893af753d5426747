"""Payloads: decoding of request bodies, and answers in CBOR (content format 60) or text (0)."""

from collections.abc import Mapping, Sequence

import aiocoap
from aiocoap.numbers.codes import Code

from device_app.access.error_answers import malformed
from peer import cbor
from peer.errors import Malformed
from peer.limits import Limits
from peer.net.problem import ProblemError

TEXT, CBOR = 0, 60


def read_map(request: aiocoap.Message, *, limits: Limits) -> dict[str, object]:
    """Return the CBOR map in a request's body.

    Raises `ProblemError`: 4.15 for another content format, 4.00 for anything else.
    """
    if request.opt.content_format != CBOR:
        raise ProblemError(
            "content-format",
            "the body is not CBOR",
            f"Send content format {CBOR} (application/cbor).",
        )
    try:
        value = cbor.decode_untrusted(
            request.payload, depth=limits.cbor_depth, size=limits.request_body_bytes
        )
    except Malformed as error:
        raise malformed(str(error), error.advice) from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise malformed("the body is not a map with text keys", "See docs/protocol.md.")
    return value


def whole_number_untrusted(text: str, *, most: int) -> int | None:
    """Return the number from 0 to `most` that decimal digits stand for, or None.

    The length is checked before the value, so leading zeros are allowed up to the length of `most`.
    """
    if not 0 < len(text) <= len(str(most)) or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number <= most else None


def text_field(body: Mapping[str, object], field: str, *, default: str | None = None) -> str:
    """Return a text of the body.

    Raises `ProblemError` (4.00) if it has another type, or is missing and has no default.
    """
    value = body.get(field, default)
    if not isinstance(value, str):
        raise malformed(f"{field} is missing or is not text", f"Give {field} as text.")
    return value


def reply(
    request: aiocoap.Message,
    value: object,
    *,
    code: Code | None = None,
    location: Sequence[str] = (),
) -> aiocoap.Message:
    """Return an answer in CBOR; `location` is the path of a resource that was created.

    Raises `ProblemError` (4.06) if the client asked for another content format.
    """
    return reply_encoded(request, cbor.encode(value), code=code, location=location)


def reply_encoded(
    request: aiocoap.Message,
    payload: bytes,
    *,
    code: Code | None = None,
    location: Sequence[str] = (),
) -> aiocoap.Message:
    """Return the same for a payload that is encoded already."""
    return reply_as(
        request, payload, content_format=CBOR, name="CBOR", code=code, location=location
    )


def reply_text(request: aiocoap.Message, text: str, *, code: Code | None = None) -> aiocoap.Message:
    """Return an answer in plain text. Raises `ProblemError` (4.06) like `reply`."""
    return reply_as(request, text.encode(), content_format=TEXT, name="text", code=code)


def reply_as(
    request: aiocoap.Message,
    payload: bytes,
    *,
    content_format: int,
    name: str,
    code: Code | None = None,
    location: Sequence[str] = (),
    max_age: int = 0,
) -> aiocoap.Message:
    """Return an answer in a content format, whose name is for people.

    The state of a device can change at any time, so an answer is fresh for the moment only
    (Max-Age 0, RFC 7252 §5.10.5) unless `max_age` says for how many seconds; a client may keep it
    and validate it by its ETag. The client of an observation learns each change instead.

    Raises `ProblemError` (4.06) if the client asked for another content format.
    """
    _require_accepted(request, content_format, name)
    is_fresh_once = request.code is Code.GET and request.opt.observe is None
    return aiocoap.Message(
        code=code,
        payload=payload,
        content_format=content_format,
        location_path=tuple(location),
        max_age=max_age if max_age or is_fresh_once else None,
    )


def _require_accepted(request: aiocoap.Message, have: int, name: str) -> None:
    wanted = request.opt.accept
    if wanted is not None and int(wanted) != have:
        raise ProblemError(
            "content-format",
            f"this resource is available as {name} only",
            f"Ask for content format {have}, or for none.",
            code=Code.NOT_ACCEPTABLE,
        )
