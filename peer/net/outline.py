"""The structure of a CoAP message, checked before the message is parsed (RFC 7252 §3).

aiocoap parses the messages. Its parser copies the rest of the message for each option, and later
steps handle each option several times, so a message with many options costs far more than one of
the same size with few. The check is linear and copies nothing. It refuses malformed messages and
those beyond the limits, so that the cost of a message is bounded before aiocoap sees it.
"""

from dataclasses import dataclass

from peer.errors import Malformed
from peer.limits import Limits

HEADER_BYTES = 4
CON, NON, ACK, RST = range(4)
EMPTY = 0
_MOST_TOKEN_BYTES = 8
_MOST_NUMBER = 65_535  # of an option (RFC 7252 §12.2)
_PAYLOAD_MARKER = 0xFF
_EMPTY_ACKNOWLEDGEMENT = b"\x60\x00"  # version 1, ACK, no token; code 0.00
_REQUESTS, _RESPONSES = frozenset({0}), frozenset({2, 4, 5})  # classes of codes


class TooLarge(Malformed):
    """A CoAP message is longer, or has more options, than the limits allow."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The parts of a message; `options` has number, start and end of each option's value."""

    type: int
    code: int
    message_id: int
    token: bytes
    options: tuple[tuple[int, int, int], ...]
    payload_at: int


def is_request(message: bytes) -> bool:
    """Return whether a message has the code of a request (RFC 7252 §5.8)."""
    return len(message) >= HEADER_BYTES and 0 < message[1] < 32


def message_id_of(message: bytes) -> int:
    """Return the Message ID. The message is at least as long as a header."""
    return message[2] << 8 | message[3]


def type_of(message: bytes) -> int:
    """Return CON, NON, ACK or RST. The message is at least as long as a header."""
    return message[0] >> 4 & 3


def options_at(message: bytes) -> int | None:
    """Return the offset of the options, or None if the token is too long or truncated."""
    token_bytes = message[0] & 15
    at = HEADER_BYTES + token_bytes
    return at if token_bytes <= _MOST_TOKEN_BYTES and at <= len(message) else None


def is_confirmable(message: bytes) -> bool:
    """Return whether a message asks for an acknowledgement or a reset (RFC 7252 §4.2)."""
    return len(message) >= HEADER_BYTES and message[0] >> 6 == 1 and type_of(message) == CON


def is_empty_acknowledgement(message: bytes) -> bool:
    """Return whether a message acknowledges another one, and is nothing else (RFC 7252 §4.2)."""
    return len(message) == HEADER_BYTES and message.startswith(_EMPTY_ACKNOWLEDGEMENT)


def outline_untrusted(message: bytes, limits: Limits) -> Outline:
    """Return the outline of a message. Raises `TooLarge` or `Malformed`, and no other error."""
    size = len(message)
    if size < HEADER_BYTES or message[0] >> 6 != 1:
        raise Malformed("not a CoAP message of version 1")
    if size > limits.message_bytes:
        raise TooLarge(f"the message is longer than {limits.message_bytes} bytes")
    kind, code = type_of(message), message[1]
    at = options_at(message)
    if at is None:
        raise Malformed("the token is too long or truncated")
    if not _fit(kind, code) or (code == EMPTY and size > HEADER_BYTES):
        raise Malformed("type, code and content of the message do not match")
    options, payload_at = walk_untrusted(message, at, limits)
    token = message[HEADER_BYTES:at]
    return Outline(kind, code, message_id_of(message), token, options, payload_at)


def _fit(kind: int, code: int) -> bool:
    """Return whether a message of a type may have a code (RFC 7252 §4.2, §4.3, table 1)."""
    if code == EMPTY:
        return kind != NON
    if kind == RST:
        return False
    return code >> 5 in (_RESPONSES if kind == ACK else _REQUESTS | _RESPONSES)


def walk_untrusted(
    message: bytes, at: int, limits: Limits
) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Return the options from `at` on, and the offset of the payload."""
    size, end = len(message), at + limits.message_option_bytes
    options: list[tuple[int, int, int]] = []
    number = 0
    while at < size:
        head = message[at]
        if head == _PAYLOAD_MARKER:
            if at + 1 == size:
                raise Malformed("there is no payload after the payload marker")
            return tuple(options), at + 1
        if len(options) == limits.message_options:
            raise TooLarge(f"the message has more than {limits.message_options} options")
        delta, at = _extended_untrusted(message, head >> 4, at + 1)
        length, at = _extended_untrusted(message, head & 15, at)
        number += delta
        start, at = at, at + length
        if at > size or number > _MOST_NUMBER:
            raise Malformed("an option is truncated, or its number is too high")
        if at > end:
            raise TooLarge(f"the options are longer than {limits.message_option_bytes} bytes")
        options.append((number, start, at))
    return tuple(options), size


def _extended_untrusted(message: bytes, value: int, at: int) -> tuple[int, int]:
    """Return an option's delta or length, maybe extended (RFC 7252 §3.1), and the next offset."""
    if value < 13:
        return value, at
    if value == 15:
        raise Malformed("an option has a reserved length")
    width = value - 12
    if at + width > len(message):
        raise Malformed("an option is truncated")
    base = 13 if width == 1 else 269
    return base + int.from_bytes(message[at : at + width], "big"), at + width
