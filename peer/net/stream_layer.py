"""Datagrams of streams, which share their datagram channel with a DTLS session.

The first byte tells the protocols apart (RFC 9443): DTLS records have 20 to 63, QUIC packets have
the fixed bit set (64 to 127 with a short header, 192 to 255 with a long one). Only an established
session that was armed for streams receives such a datagram; every other one is dropped, so that the
code of QUIC never processes a byte of a peer without a session.
"""

_FIXED_BIT = 0x40  # RFC 9000 §17.2, §17.3


def is_stream_datagram(data: bytes) -> bool:
    """Return whether a datagram, which is not empty, is one of streams by its first byte."""
    return bool(data[0] & _FIXED_BIT)
