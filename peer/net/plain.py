"""Plain requests: GET, PUT, POST or DELETE of a path, without any option that asks for more.

Most requests are plain. They are read from their bytes and answered with bytes, without aiocoap,
without a task and in the turn of their datagram (`peer.net.direct`). A request that is not plain,
or that is odd in any way, is aiocoap's; so a doubt costs time and never correctness.

A request is plain if it is confirmable or non-confirmable, and has no options but Uri-Path,
Uri-Query, and one each of Uri-Host, Uri-Port, Accept and Content-Format, all with valid values.
Only a PUT or POST has a payload. Only a GET has Accept, and only the others have Content-Format. A
device has the same resources by all of its names, so host and port have no effect.

This module is pure: no I/O, no asyncio, no aiocoap.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, NamedTuple

from peer.errors import Malformed
from peer.limits import (
    ENCODED_ANSWER_BYTES,
    ENCODED_ANSWERS,
    ETAG_BYTES,
    PARSED_OPTIONS,
    PARSED_OPTIONS_BYTES,
    Limits,
)
from peer.net.outline import HEADER_BYTES, options_at, walk_untrusted

GET: Final = 1
#: The methods of plain requests that change something, by their codes.
WRITES: Final[Mapping[int, str]] = MappingProxyType({2: "POST", 3: "PUT", 4: "DELETE"})
_WITHOUT_PAYLOAD: Final = frozenset({"DELETE"})
_CONTENT: Final = 2 << 5 | 5
_VERSION_CON_OR_NON: Final = 0b010  # the first three bits: version 1, and type 0 or 1
_ACK_BITS, _NON_BITS = 0b0110_0000, 0b0101_0000  # version 1 and the type
_PAYLOAD_MARKER = b"\xff"
_URI_HOST, _URI_PORT, _URI_PATH, _URI_QUERY, _ACCEPT = 3, 7, 11, 15, 17
_ETAG, _CONTENT_FORMAT, _MAX_AGE = 4, 12, 14
_MOST_CONTENT_FORMAT, _MOST_MAX_AGE = 0xFFFF, 0xFFFF_FFFF  # RFC 7252 table 4
_MOST_TEXT_BYTES, _MOST_PORT_BYTES, _MOST_FORMAT_BYTES = 255, 2, 2  # RFC 7252 table 4


@dataclass(frozen=True, slots=True)
class Plain:
    """The options of a plain request: its path and queries as they were sent, and two formats.

    Uri-Host and Uri-Port are checked, and left out.
    """

    path: tuple[str, ...]
    query: tuple[str, ...]
    accept: int | None
    content_format: int | None


class Answer(NamedTuple):
    """A representation, the answer to a GET.

    Attributes:
        payload: the body.
        content_format: its Content-Format.
        max_age: seconds for which it is fresh. With 0, it is fresh for the moment only; the client
            of an observation learns each change instead, so its answers have no Max-Age then.
    """

    payload: bytes
    content_format: int
    max_age: int = 0


class Write(NamedTuple):
    """A request that changes a resource.

    Attributes:
        query: its queries, as they were sent.
        payload: its body; empty if it has none.
        content_format: the Content-Format of the body, or None if the request has none.
    """

    query: tuple[str, ...]
    payload: bytes
    content_format: int | None = None


@unique
class Done(IntEnum):
    """The answer to a `Write`: a code (RFC 7252 §5.9.1) without a body, which fits any datagram."""

    CREATED = 2 << 5 | 1
    DELETED = 2 << 5 | 2
    CHANGED = 2 << 5 | 4


class PlainWrite(NamedTuple):
    """A plain request that changes something, as it was sent."""

    method: str
    path: tuple[str, ...]
    write: Write


class PlainParser:
    """Reads plain requests, and remembers the options of recent ones by their bytes.

    The memory holds `PARSED_OPTIONS` entries of `PARSED_OPTIONS_BYTES` each at most, and is emptied
    when it is full. What it returns depends on the bytes alone.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[bytes, Plain | None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def parse_untrusted(self, message: bytes) -> Plain | None:
        """Return the options of a plain GET, or None for any other bytes."""
        start = self._options_at_untrusted(message)
        if start is None or message[1] != GET:
            return None
        asked = self._parsed_untrusted(message[start:])
        return asked if asked is not None and asked.content_format is None else None

    def parse_write_untrusted(self, message: bytes) -> PlainWrite | None:
        """Return a plain request with another method, or None for any other bytes."""
        start = self._options_at_untrusted(message)
        method = WRITES.get(message[1]) if start is not None else None
        if method is None:
            return None
        # A byte 0xff inside of an option truncates it, so that the request is not plain.
        options, marker, payload = message[start:].partition(_PAYLOAD_MARKER)
        asked = self._parsed_untrusted(options)
        if asked is None or asked.accept is not None:
            return None
        if (marker and not payload) or (payload and method in _WITHOUT_PAYLOAD):
            return None
        write = Write(asked.query, payload, asked.content_format)
        return PlainWrite(method, asked.path, write)

    def _options_at_untrusted(self, message: bytes) -> int | None:
        """Return the offset of the options if a message can be a plain request by its header."""
        if (
            len(message) < HEADER_BYTES
            or message[0] >> 5 != _VERSION_CON_OR_NON
            or len(message) > self._limits.message_bytes
        ):
            return None
        return options_at(message)

    def _parsed_untrusted(self, options: bytes) -> Plain | None:
        if len(options) > PARSED_OPTIONS_BYTES:
            return _options_untrusted(options, self._limits)
        try:
            return self._known[options]
        except KeyError:
            if len(self._known) >= PARSED_OPTIONS:
                self._known.clear()
            plain = self._known[options] = _options_untrusted(options, self._limits)
            return plain


def checked(answer: object) -> Answer:
    """Return an answer if it can be encoded. Raises `TypeError` or `ValueError` if not."""
    if not isinstance(answer, Answer) or not isinstance(answer.payload, bytes):
        raise TypeError(f"{type(answer).__name__} is not an Answer with bytes")
    content_format, max_age = operator.index(answer.content_format), operator.index(answer.max_age)
    if not (0 <= content_format <= _MOST_CONTENT_FORMAT and 0 <= max_age <= _MOST_MAX_AGE):
        raise ValueError("the Content-Format or the Max-Age is out of range")
    return answer


def checked_done(done: object) -> Done:
    """Return the answer to a `Write`. Raises `TypeError` if it is none."""
    if not isinstance(done, Done):
        raise TypeError(f"{type(done).__name__} is not a Done")
    return done


def encode_code(request: bytes, code: int, message_id: int | None) -> bytes:
    """Return a message that has a code and nothing else, as the answer to a plain request.

    Args:
        request: the plain request.
        code: the code of the answer.
        message_id: that of the message if the request is non-confirmable.
    """
    token_bytes = request[0] & 15
    end = HEADER_BYTES + token_bytes
    if message_id is None:
        # Piggybacked: the acknowledgement has the request's Message ID (RFC 7252 §5.2.1).
        return bytes((_ACK_BITS | token_bytes, code)) + request[2:end]
    head = bytes((_NON_BITS | token_bytes, code)) + message_id.to_bytes(2, "big")
    return head + request[HEADER_BYTES:end]


def token_of(message: bytes) -> bytes:
    """Return the token of a message that was parsed."""
    return message[HEADER_BYTES : HEADER_BYTES + (message[0] & 15)]


class AnswerEncoder:
    """Encodes answers, and remembers the encoded part of short ones that recur.

    The memory holds `ENCODED_ANSWERS` entries of `ENCODED_ANSWER_BYTES` each at most, and is
    emptied when it is full. What it returns depends on the answer alone.
    """

    def __init__(self) -> None:
        self._known: dict[Answer, bytes] = {}

    def __len__(self) -> int:
        return len(self._known)

    def encode(self, request: bytes, answer: Answer, message_id: int | None) -> bytes:
        """Return the message with an answer (2.05) and its entity tag.

        Args:
            request: the plain request.
            answer: the representation.
            message_id: that of the message if the request is non-confirmable.
        """
        rest = self._known.get(answer)
        if rest is None:
            rest = _encode_rest(answer)
            if len(rest) <= ENCODED_ANSWER_BYTES:
                if len(self._known) >= ENCODED_ANSWERS:
                    self._known.clear()
                self._known[answer] = rest
        return encode_code(request, _CONTENT, message_id) + rest


def _encode_rest(answer: Answer) -> bytes:
    """Return the options and the payload of an answer."""
    tag = entity_tag(answer.payload, answer.content_format)
    content_format, max_age = _number(answer.content_format), _number(answer.max_age)
    return (
        bytes((_ETAG << 4 | len(tag),))
        + tag
        + bytes((_CONTENT_FORMAT - _ETAG << 4 | len(content_format),))
        + content_format
        + bytes((_MAX_AGE - _CONTENT_FORMAT << 4 | len(max_age),))
        + max_age
        + (_PAYLOAD_MARKER + answer.payload if answer.payload else b"")
    )


def entity_tag(payload: bytes, content_format: int | None) -> bytes:
    """Return the entity tag of a representation: a digest of its content and its format."""
    kind = b"" if content_format is None else b"%d" % content_format
    return blake2b(payload, digest_size=ETAG_BYTES, person=kind).digest()


def _options_untrusted(options: bytes, limits: Limits) -> Plain | None:
    try:
        found, payload_at = walk_untrusted(options, 0, limits)
        if payload_at != len(options):
            return None
        path: list[str] = []
        query: list[str] = []
        formats: dict[int, int] = {}
        previous = 0
        for number, start, end in found:
            value = options[start:end]
            if number in (_URI_PATH, _URI_QUERY) and len(value) <= _MOST_TEXT_BYTES:
                (path if number == _URI_PATH else query).append(value.decode())
            elif number == previous or not _is_valid_once(number, value):
                return None
            elif number in (_ACCEPT, _CONTENT_FORMAT):
                formats[number] = int.from_bytes(value, "big")
            previous = number
    except (Malformed, UnicodeDecodeError):
        return None
    return Plain(tuple(path), tuple(query), formats.get(_ACCEPT), formats.get(_CONTENT_FORMAT))


def _is_valid_once(number: int, value: bytes) -> bool:
    """Return whether a plain request may have this option once. Raises `UnicodeDecodeError`."""
    if number == _URI_HOST:
        return 0 < len(value) <= _MOST_TEXT_BYTES and bool(value.decode())
    if number == _URI_PORT:
        return len(value) <= _MOST_PORT_BYTES
    return number in (_ACCEPT, _CONTENT_FORMAT) and len(value) <= _MOST_FORMAT_BYTES


def _number(value: int) -> bytes:
    """Return an option's value of the format uint (RFC 7252 §3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
