"""Sealing of rendezvous messages: padding and AES-256-GCM (protocol §10.3, NIST SP 800-38D).

A sealed message is `nonce (12) ‖ ciphertext and tag`. The plaintext is `length (2) ‖ CBOR ‖ zeros`,
padded to one of five sizes, so that the broker learns little from it. The topic to which it is
published is authenticated as additional data: a message cannot be moved to another topic.

The nonces are random. One key seals far fewer than the 2^32 messages that this permits (§8.3).
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer.errors import Malformed
from peer.remote.limits import MAX_SEALED_BYTES, PLAINTEXT_BYTES
from peer.secret import Secret

SEAL_NONCE_BYTES = 12

_LENGTH_BYTES = 2
_LABEL = b"handfast/1 rv\0"
_SEALED_SIZES = frozenset(size + MAX_SEALED_BYTES - PLAINTEXT_BYTES[-1] for size in PLAINTEXT_BYTES)


class MessageSealer:
    """Seals and opens the messages of one direction between a client key and its device."""

    __slots__ = ("_aead",)

    def __init__(self, key: Secret[bytes]) -> None:
        self._aead = AESGCM(key.reveal())

    def seal(self, body: bytes, topic: str, nonce: bytes) -> bytes:
        """Return the sealed message. `nonce` is 12 fresh random bytes.

        Raises `ValueError` for a body that is too long.
        """
        return nonce + self._aead.encrypt(nonce, pad(body), _associated_data(topic))

    def open_untrusted(self, data: bytes, topic: str) -> bytes:
        """Return the body of a sealed message that arrived on `topic`.

        Raises `Malformed` unless it was sealed with this key for this topic, and no other error.
        """
        if len(data) not in _SEALED_SIZES:  # before any arithmetic on it
            raise _malformed("has another size than a sealed message")
        nonce, sealed = data[:SEAL_NONCE_BYTES], data[SEAL_NONCE_BYTES:]
        try:
            plaintext = self._aead.decrypt(nonce, sealed, _associated_data(topic))
        except InvalidTag:
            raise _malformed("was not sealed with the key of this topic") from None
        return unpad_untrusted(plaintext)


def fits(body: bytes) -> bool:
    """Whether a body can be sealed."""
    return len(body) <= PLAINTEXT_BYTES[-1] - _LENGTH_BYTES


def pad(body: bytes) -> bytes:
    """Return `length ‖ body ‖ zeros` in the smallest size that fits. Raises `ValueError`."""
    if not fits(body):
        raise ValueError(f"a body of {len(body)} bytes is too long to be sealed")
    return (len(body).to_bytes(_LENGTH_BYTES, "big") + body).ljust(_padded_size(len(body)), b"\0")


def unpad_untrusted(plaintext: bytes) -> bytes:
    """Return the body of a padded plaintext. Raises `Malformed` unless `pad` returns the same."""
    length = int.from_bytes(plaintext[:_LENGTH_BYTES], "big")
    body = plaintext[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if not fits(body) or pad(body) != plaintext:
        raise _malformed("is not padded as it should be")
    return body


def _padded_size(length: int) -> int:
    return next(size for size in PLAINTEXT_BYTES if length + _LENGTH_BYTES <= size)


def _associated_data(topic: str) -> bytes:
    return _LABEL + topic.encode()


def _malformed(what: str) -> Malformed:
    return Malformed(f"the message {what}", advice="It is not from the other side: ignore it.")
