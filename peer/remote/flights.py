"""Sealed flights: the datagrams of a path that would show who talks to whom (protocol §10.6).

A relay, or anyone on the path, would see both certificates in a DTLS 1.2 handshake (records of
epoch 0), and the protocol name in a QUIC handshake (long headers). On a path these datagrams are
sent as `128 ‖ counter (8) ‖ AES-128-GCM`, with a key of the path for each direction and the nonce
`0000 ‖ counter`. Such a datagram in the clear is dropped, so a handshake cannot begin without the
pair secret. All other datagrams are encrypted by DTLS or QUIC already.

The first byte tells the kinds apart (RFC 9443 §2): 0 to 3 STUN, 20 to 63 DTLS, 64 to 127 QUIC with
a short header, 128 a sealed flight, 192 to 255 QUIC with a long header.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer.dtls.records import is_one_application_record, split_untrusted
from peer.errors import Malformed
from peer.remote.limits import REPLAY_WINDOW_FLIGHTS
from peer.secret import Secret

SEALED_FLIGHT = 128
FLIGHT_OVERHEAD_BYTES = 25

_COUNTER_BYTES = 8
_HEADER_BYTES = 1 + _COUNTER_BYTES
_DTLS = range(20, 64)
_QUIC_SHORT = range(64, 128)


class FlightSealer:
    """Seals the flights of one direction of a path. A path has one as long as it lasts.

    The counter is the nonce, so two sealers with one key must never exist.
    """

    def __init__(self, key: Secret[bytes]) -> None:
        self._aead = AESGCM(key.reveal())
        self._counter = 0

    def seal(self, data: bytes) -> bytes:
        """Return the sealed datagram, which is 25 bytes longer. It is different each time."""
        counter = self._counter.to_bytes(_COUNTER_BYTES, "big")
        self._counter += 1
        return bytes([SEALED_FLIGHT]) + counter + self._aead.encrypt(_nonce(counter), data, None)


class FlightOpener:
    """Opens the flights of one direction of a path, each at most once.

    It remembers which of the last 64 counters it has seen (RFC 6347 §4.1.2.6), so a repeated flight
    reaches neither DTLS nor QUIC, and does not make a path change its carrier.
    """

    def __init__(self, key: Secret[bytes]) -> None:
        self._aead = AESGCM(key.reveal())
        self._highest = -1
        self._seen = 0  # bit n: the counter `_highest` - n was seen

    def open_untrusted(self, data: bytes) -> bytes | None:
        """Return the datagram inside; None if it is repeated, or was not sealed with this key."""
        if len(data) < FLIGHT_OVERHEAD_BYTES or data[0] != SEALED_FLIGHT:
            return None
        header = data[1:_HEADER_BYTES]
        counter = int.from_bytes(header, "big")
        behind = self._highest - counter
        if behind >= REPLAY_WINDOW_FLIGHTS or (behind >= 0 and self._seen >> behind & 1):
            return None
        try:
            opened = self._aead.decrypt(_nonce(header), data[_HEADER_BYTES:], None)
        except InvalidTag:
            return None
        self._note(counter)  # only now: a forged counter changes nothing
        return opened

    def _note(self, counter: int) -> None:
        ahead = counter - self._highest
        if ahead > 0:
            kept = self._seen << ahead if ahead < REPLAY_WINDOW_FLIGHTS else 0
            self._seen = (kept | 1) & ((1 << REPLAY_WINDOW_FLIGHTS) - 1)
            self._highest = counter
        else:
            self._seen |= 1 << -ahead


def is_sealed(data: bytes) -> bool:
    """Whether a datagram has the form of a sealed flight."""
    return data[:1] == bytes([SEALED_FLIGHT])


def must_be_sealed(data: bytes) -> bool:
    """Whether a path carries this datagram only sealed; if it arrives in the clear, drop it.

    That is everything but DTLS records of later epochs and QUIC packets with a short header. Every
    record of a datagram counts, since one of epoch 0 could follow another. A datagram that is not
    well formed counts as well, and so does a kind that a path does not know.
    """
    first = data[0] if data else 0
    if is_one_application_record(data) or first in _QUIC_SHORT:
        return False
    if first not in _DTLS:
        return True
    try:
        return any(record.epoch == 0 for record in split_untrusted(data))
    except Malformed:
        return True


def _nonce(counter: bytes) -> bytes:
    return bytes(4) + counter
