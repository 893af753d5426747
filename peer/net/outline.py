"""The bytes of a CoAP message, walked once before anything else reads them (RFC 7252 §3).

aiocoap parses the messages. Its parser copies the rest of the message for each option, and what
comes after it handles each option several times, so a message of many options costs far more than
one of the same size with few. The walk here is linear and copies nothing. It refuses what is
malformed and what is beyond the limits, so the cost of a message is bounded before aiocoap sees it.
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
_REQUESTS, _RESPONSES = frozenset({0}), frozenset({2, 4, 5})  # classes of codes


class TooLarge(Malformed):
    """A CoAP message is longer than the limits allow, or has more options."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the parts of a message are. `options` holds (number, start, end) of each value."""

    type: int
    code: int
    message_id: int
    token: bytes
    options: tuple[tuple[int, int, int], ...]
    payload_at: int


def is_request(message: bytes) -> bool:
    """Whether the code of a message is that of a request (RFC 7252 §5.8)."""
    return len(message) >= HEADER_BYTES and 0 < message[1] < 32


def message_id_of(message: bytes) -> int:
    """The Message ID of anything that is as long as a header."""
    return message[2] << 8 | message[3]


def type_of(message: bytes) -> int:
    """CON, NON, ACK or RST, of anything that is as long as a header."""
    return message[0] >> 4 & 3


def outline_untrusted(message: bytes, limits: Limits) -> Outline:
    """The outline of a message. Raises `TooLarge` or `Malformed`, and nothing else."""
    size = len(message)
    if size < HEADER_BYTES or message[0] >> 6 != 1:
        raise Malformed("not a CoAP message of version 1")
    if size > limits.message_bytes:
        raise TooLarge(f"the message is longer than {limits.message_bytes} bytes")
    kind, code = type_of(message), message[1]
    at = HEADER_BYTES + (message[0] & 15)
    if at - HEADER_BYTES > _MOST_TOKEN_BYTES or at > size:
        raise Malformed("the token is too long, or cut")
    if not _fit(kind, code) or (code == EMPTY and size > HEADER_BYTES):
        raise Malformed("type, code and content of the message do not fit")
    options, payload_at = _walk_untrusted(message, at, limits)
    token = message[HEADER_BYTES:at]
    return Outline(kind, code, message_id_of(message), token, options, payload_at)


def _fit(kind: int, code: int) -> bool:
    """RFC 7252 §4.2, §4.3 and table 1: which codes a message of each type may have."""
    if code == EMPTY:
        return kind != NON
    if kind == RST:
        return False
    return code >> 5 in (_RESPONSES if kind == ACK else _REQUESTS | _RESPONSES)


def _walk_untrusted(
    message: bytes, at: int, limits: Limits
) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """The options from `at` on, and where the payload starts."""
    size, end = len(message), at + limits.message_option_bytes
    options: list[tuple[int, int, int]] = []
    number = 0
    while at < size:
        head = message[at]
        if head == _PAYLOAD_MARKER:
            if at + 1 == size:
                raise Malformed("there is no payload after its marker")
            return tuple(options), at + 1
        if len(options) == limits.message_options:
            raise TooLarge(f"the message has more than {limits.message_options} options")
        delta, at = _extended_untrusted(message, head >> 4, at + 1)
        length, at = _extended_untrusted(message, head & 15, at)
        number += delta
        start, at = at, at + length
        if at > size or number > _MOST_NUMBER:
            raise Malformed("an option is cut, or its number too high")
        if at > end:
            raise TooLarge(f"the options are longer than {limits.message_option_bytes} bytes")
        options.append((number, start, at))
    return tuple(options), size


def _extended_untrusted(message: bytes, value: int, at: int) -> tuple[int, int]:
    """An option's delta or length in its extended form (RFC 7252 §3.1), and the place after it."""
    if value < 13:
        return value, at
    if value == 15:
        raise Malformed("an option has a reserved length")
    width = value - 12
    if at + width > len(message):
        raise Malformed("an option is cut")
    base = 13 if width == 1 else 269
    return base + int.from_bytes(message[at : at + width], "big"), at + width
