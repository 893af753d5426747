"""The headers of DTLS records (RFC 6347 §4.1): as much as datagram boundaries require.

A memory BIO has no datagram boundaries. OpenSSL writes a flight into one, so the output is split at
the 13-byte record headers and packed into datagrams. It also reads from one, where a truncated
record would consume the start of the next datagram, so received datagrams must consist of complete
records. The content of encrypted records is not examined.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from peer.errors import Malformed

HEADER_BYTES = 13
_APPLICATION_DATA = b"\x17\xfe\xfd"  # the content type, and the version DTLS 1.2
_PLAINTEXT_EPOCH = b"\0\0"
_VERSIONS = (b"\xfe\xff", b"\xfe\xfd")  # DTLS 1.0, in an initial ClientHello, and 1.2
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


@dataclass(slots=True)
class Record:
    """One record of a datagram, with its header. It is never changed."""

    data: bytes

    @property
    def content_type(self) -> ContentType:
        """The content type."""
        return ContentType(self.data[0])

    @property
    def epoch(self) -> int:
        """The epoch: 0 for plaintext, then one more with each change of keys."""
        return int.from_bytes(self.data[3:5], "big")


def split_flight(stream: bytes) -> list[bytes]:
    """Split the output of OpenSSL into records. It is well formed."""
    records = []
    while stream:
        size = HEADER_BYTES + int.from_bytes(stream[11:13], "big")
        records.append(stream[:size])
        stream = stream[size:]
    return records


def pack(records: Iterable[bytes], mtu: int) -> list[bytes]:
    """Join records into datagrams of at most `mtu` bytes. A record is never split."""
    datagrams: list[bytes] = []
    for record in records:
        if datagrams and len(datagrams[-1]) + len(record) <= mtu:
            datagrams[-1] += record
        else:
            datagrams.append(record)
    return datagrams


def split_untrusted(datagram: bytes) -> list[Record]:
    """Split a received datagram into records.

    Raises `Malformed` if it is empty or truncated, has extra bytes, or a record of an unknown type
    or version.
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


def is_one_application_record(datagram: bytes) -> bool:
    """Return whether a datagram is exactly one encrypted record of application data.

    It is what an established session receives nearly always. `split_untrusted` accepts more.
    """
    size = len(datagram)
    return (
        HEADER_BYTES < size <= _MAX_FRAGMENT
        and datagram.startswith(_APPLICATION_DATA)
        and datagram[3:5] != _PLAINTEXT_EPOCH
        and datagram[11] << 8 | datagram[12] == size - HEADER_BYTES
    )


def client_random_untrusted(records: list[Record]) -> bytes | None:
    """Return the random of a plaintext ClientHello at the start of a datagram, or None.

    It distinguishes a retransmitted ClientHello from a new association (RFC 6347 §4.2.8). The
    ClientHello may be a fragment, but the first one.
    """
    body = records[0].data[HEADER_BYTES:]
    if not is_plaintext_handshake(records[0]):
        return None
    start = _HANDSHAKE_HEADER_BYTES + 2
    is_first_fragment = body[6:9] == b"\x00\x00\x00"
    if body[:1] != bytes([_CLIENT_HELLO]) or not is_first_fragment:
        return None
    return body[start : start + _RANDOM_BYTES] if len(body) >= start + _RANDOM_BYTES else None


def is_plaintext_handshake(record: Record) -> bool:
    """Return whether a record is a part of a handshake that has no keys yet."""
    return record.data[0] == ContentType.HANDSHAKE and record.data[3:5] == _PLAINTEXT_EPOCH


def longest_message_untrusted(records: list[Record]) -> int:
    """Return the length of the longest plaintext handshake message of which there is a part.

    OpenSSL allocates that much for a message when its first fragment arrives.
    """
    longest = 0
    for record in filter(is_plaintext_handshake, records):
        at = HEADER_BYTES
        while at < len(record.data):
            header = record.data[at : at + _HANDSHAKE_HEADER_BYTES]
            longest = max(longest, int.from_bytes(header[1:4], "big"))
            at += _HANDSHAKE_HEADER_BYTES + int.from_bytes(header[9:12], "big")
    return longest


def is_of_established_session(records: list[Record]) -> bool:
    """Return whether a datagram can only be for an established session.

    It is encrypted and not a part of a handshake. An alert counts: a close_notify for the session
    must not reach a half-open handshake of the same peer.
    """
    first = records[0]
    return first.epoch > 0 and first.content_type is not ContentType.HANDSHAKE
