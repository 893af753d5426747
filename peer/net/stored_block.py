"""A later block of a stored representation, as the bytes of a message (RFC 7959 §2.4).

The body of a representation in blocks is rendered and kept once; a later block of it is a part of
those bytes, after options that all its blocks have in common. This module is pure, like
`peer.net.plain`.
"""

from dataclasses import dataclass
from typing import Self

from peer.errors import Malformed
from peer.limits import Limits
from peer.net.outline import CON, HEADER_BYTES, options_at, type_of, walk_untrusted

BLOCK2 = 23
_GET = 1
_ACK_BITS = 0b0110_0000  # version 1 and the type
_LARGEST_SZX = 6  # 7 is reserved (RFC 7959 §2.2)
_MORE = 1 << 3
_EXTENDED = 13  # a delta from here on takes another byte (RFC 7252 §3.1)
_PAYLOAD_MARKER = b"\xff"


@dataclass(frozen=True, slots=True)
class LaterBlock:
    """A confirmable GET for a block that is not the first one; Block2 is its last option.

    Attributes:
        options: the bytes of all other options.
        request: the message without Block2.
        number: the block's number.
        size_exponent: the block has 2^(size_exponent + 4) bytes.
    """

    options: bytes
    request: bytes
    number: int
    size_exponent: int

    @classmethod
    def parse_untrusted(cls, message: bytes, limits: Limits) -> Self | None:
        """Return what a message asks for, or None if it is anything else."""
        if (
            not HEADER_BYTES < len(message) <= limits.message_bytes
            or message[0] >> 6 != 1
            or type_of(message) != CON
            or message[1] != _GET
            or (at := options_at(message)) is None
        ):
            return None
        try:
            options, payload_at = walk_untrusted(message, at, limits)
        except Malformed:
            return None
        if payload_at != len(message) or len(options) < 2:
            return None
        (before, _, cut), (number, start, end) = options[-2:]
        value = int.from_bytes(message[start:end], "big")
        if number != BLOCK2 or before == BLOCK2 or end - start > 3 or value & _MORE:
            return None
        if value >> 4 == 0 or value & 7 > _LARGEST_SZX:
            return None
        return cls(message[at:cut], message[:cut], value >> 4, value & 7)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A representation whose blocks are messages of one code and with equal options.

    Attributes:
        code: the code of the response.
        options: its options in bytes, without Block2. None has a higher number than Block2.
        last_option: the highest number among them.
        payload: the whole body.
    """

    code: int
    options: bytes
    last_option: int
    payload: bytes

    def block(self, asked: LaterBlock) -> bytes | None:
        """Return the response with a block, or None if the body ends before it."""
        size = 1 << asked.size_exponent + 4
        start = asked.number * size
        if start >= len(self.payload):
            return None
        more = _MORE if start + size < len(self.payload) else 0
        value = asked.number << 4 | more | asked.size_exponent
        length = (value.bit_length() + 7) // 8
        delta = BLOCK2 - self.last_option
        head = (
            bytes((delta << 4 | length,))
            if delta < _EXTENDED
            else bytes((_EXTENDED << 4 | length, delta - _EXTENDED))
        )
        request = asked.request
        token_bytes = request[0] & 15
        return b"".join(
            (
                bytes((_ACK_BITS | token_bytes, self.code)),
                request[2 : HEADER_BYTES + token_bytes],
                self.options,
                head,
                value.to_bytes(length, "big"),
                _PAYLOAD_MARKER,
                self.payload[start : start + size],
            )
        )
