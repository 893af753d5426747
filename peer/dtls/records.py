"""The outside of DTLS records (RFC 6347 §4.1): just enough to respect datagram borders.

OpenSSL writes a flight into a memory BIO, which forgets where one record ends; and it reads from
one, where a torn record would swallow the head of the next datagram. So what goes out is split on
the 13-byte record headers and packed to the path, and what comes in is checked to be whole records
before OpenSSL sees it. Nothing here looks inside an encrypted record.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from peer.errors import Malformed

HEADER_BYTES = 13
_VERSIONS = (b"\xfe\xff", b"\xfe\xfd")  # DTLS 1.0 (a first flight says so) and 1.2
_HANDSHAKE_HEADER_BYTES = 12
_RANDOM_BYTES = 32
_CLIENT_HELLO = 1
_MAX_FRAGMENT = (1 << 14) + 2048  # RFC 6347 §4.1: ciphertext expands by 2048 at most


class ContentType(IntEnum):
    """RFC 6347 §4.1."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in a datagram, header included."""

    data: bytes

    @property
    def content_type(self) -> ContentType:
        """What the record carries."""
        return ContentType(self.data[0])

    @property
    def epoch(self) -> int:
        """0 is cleartext, 1 the first keys."""
        return int.from_bytes(self.data[3:5], "big")


def split_flight(stream: bytes) -> list[bytes]:
    """Cut what OpenSSL wrote into records. The stream is our own, so it is well formed."""
    records = []
    while stream:
        size = HEADER_BYTES + int.from_bytes(stream[11:13], "big")
        records.append(stream[:size])
        stream = stream[size:]
    return records


def pack(records: Iterable[bytes], mtu: int) -> list[bytes]:
    """Join records into datagrams of at most `mtu` bytes; a record is never torn."""
    datagrams: list[bytes] = []
    for record in records:
        if datagrams and len(datagrams[-1]) + len(record) <= mtu:
            datagrams[-1] += record
        else:
            datagrams.append(record)
    return datagrams


def split_untrusted(datagram: bytes) -> list[Record]:
    """Cut a datagram from outside into whole records.

    Raises `Malformed` if it is empty, torn, has bytes left over or an unknown type or version.
    """
    records: list[Record] = []
    rest = datagram
    while rest or not records:
        size = HEADER_BYTES + int.from_bytes(rest[11:13], "big")
        known = rest[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") and rest[1:3] in _VERSIONS
        if not known or not HEADER_BYTES < size <= len(rest) or size > _MAX_FRAGMENT:
            raise Malformed("not a DTLS datagram")
        records.append(Record(rest[:size]))
        rest = rest[size:]
    return records


def client_random_untrusted(records: list[Record]) -> bytes | None:
    """The random of a cleartext ClientHello that starts a datagram, or None if none does.

    It tells a repeated ClientHello from that of a new association (RFC 6347 §4.2.8).
    """
    first = records[0]
    body = first.data[HEADER_BYTES:]
    if first.content_type is not ContentType.HANDSHAKE or first.epoch:
        return None
    start = _HANDSHAKE_HEADER_BYTES + 2
    unfragmented = body[6:9] == b"\x00\x00\x00"
    if body[:1] != bytes([_CLIENT_HELLO]) or not unfragmented or len(body) < start + _RANDOM_BYTES:
        return None
    return body[start : start + _RANDOM_BYTES]


def is_of_established_session(records: list[Record]) -> bool:
    """Return whether a datagram can only be for an established session.

    It is encrypted and not a part of a handshake. An alert counts: a close_notify for the session
    must not reach a half-open handshake of the same peer.
    """
    first = records[0]
    return first.epoch > 0 and first.content_type is not ContentType.HANDSHAKE
