"""The first bytes of a tunnel's streams, and what authenticates them (protocol §11.3).

A stream begins with `tunnel id (8) ‖ token (32)`, to which the device responds with one byte. The
token is derived from the exporter value of the DTLS session that proved both keys, so it shows that
the client of the QUIC connection is the client of that session. Both are useless in any other one.
"""

from dataclasses import dataclass
from enum import IntEnum, unique

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peer.errors import Malformed

TUNNEL_ID_BYTES = 8
TOKEN_BYTES = 32
HEADER_BYTES = TUNNEL_ID_BYTES + TOKEN_BYTES

_CONNECTION_ID_BYTES = 16
_NUMBER_BYTES = 4
_LONG_HEADER = 0x80  # RFC 8999 §5.1
_ID_LENGTH_AT = 5
_TOKEN_INFO = b"handfast/1 tunnel"
_CONNECTION_INFO = b"handfast/1 quic"


@unique
class StreamOutcome(IntEnum):
    """The device's response to a stream: its first byte."""

    OPEN = 0
    UNKNOWN = 1
    """The session has no such tunnel, or the token is wrong."""
    DENIED = 2
    """The device's policy denies it now."""
    REFUSED = 3
    """The service did not accept the connection."""
    NO_ROOM = 4
    """The device has too many open streams."""

    @classmethod
    def parse_untrusted(cls, data: bytes) -> "StreamOutcome":
        """Return the outcome that a byte stands for. Raises `Malformed`."""
        try:
            return cls(data[0])
        except (IndexError, ValueError) as error:
            raise Malformed("the device's response to a stream is not known") from error


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """The first bytes of a client on a stream. Its `repr` shows no token."""

    tunnel_id: bytes
    token: bytes

    def encode(self) -> bytes:
        """Return the bytes of the header."""
        return self.tunnel_id + self.token

    @classmethod
    def parse_untrusted(cls, data: bytes) -> "StreamHeader":
        """Read a header. Raises `Malformed` if it has another length."""
        if len(data) != HEADER_BYTES:
            raise Malformed(f"the header of a stream has {HEADER_BYTES} bytes, not {len(data)}")
        return cls(data[:TUNNEL_ID_BYTES], data[TUNNEL_ID_BYTES:])

    @classmethod
    def create(cls, exporter: bytes, tunnel_id: bytes) -> "StreamHeader":
        """Return the header of a tunnel's streams in the session with this exporter value."""
        return cls(tunnel_id, _derive(exporter, _TOKEN_INFO + tunnel_id, TOKEN_BYTES))

    def is_of_session(self, exporter: bytes) -> bool:
        """Return whether the token belongs to the session; in constant time."""
        return bytes_eq(self.token, self.create(exporter, self.tunnel_id).token)

    def __repr__(self) -> str:
        return f"StreamHeader({self.tunnel_id.hex()})"


def first_connection_id(exporter: bytes, number: int) -> bytes:
    """Return the Destination Connection ID of the client's first packets (RFC 9000 §7.2).

    `number` counts the QUIC connections of the session from 0. The device passes no other Initial
    packet to its QUIC implementation, so a host that forges the client's address can neither begin
    a connection in the client's place nor replace it.
    """
    info = _CONNECTION_INFO + number.to_bytes(_NUMBER_BYTES, "big")
    return _derive(exporter, info, _CONNECTION_ID_BYTES)


def has_connection_id(packet: bytes, connection_id: bytes) -> bool:
    """Return whether a datagram begins with a long header with this ID (RFC 8999 §5.1)."""
    if len(packet) <= _ID_LENGTH_AT or not packet[0] & _LONG_HEADER:
        return False
    start = _ID_LENGTH_AT + 1
    return packet[start : start + packet[_ID_LENGTH_AT]] == connection_id


def _derive(exporter: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(exporter)
