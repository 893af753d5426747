"""The keys that a device and one client key share for the rendezvous (protocol §10.2).

    master key of the device ─▶ pair secret of a client key ─┬─▶ topic
                                                             ├─▶ one key for each direction
                                                             └─▶ path keys, with both nonces as salt

All derivations are HKDF-SHA256 (RFC 5869). The device stores the master key and a generation only;
a client gets its pair secret over an authenticated session. The secret opens signalling messages.
It does not replace the pinned keys: DTLS proves both of them again on every path.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.remote import message_codec
from peer.remote.limits import MAX_GENERATION, PAIR_SECRET_BYTES
from peer.remote.messages import (
    Answer,
    Candidates,
    Challenge,
    ClientMessage,
    ConnectRequest,
    DeviceMessage,
    Message,
    Offer,
    Refusal,
)
from peer.remote.sealing import SEAL_NONCE_BYTES, MessageSealer, fits
from peer.secret import Secret

MASTER_KEY_BYTES = 32

_TOPIC_BYTES = 16
_KEY_BYTES = 32
_PATH_KEY_BYTES = 16

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class PathKeys:
    """The keys of the sealed flights of one path: 16 bytes for each direction."""

    to_device: Secret[bytes]
    to_client: Secret[bytes]

    @classmethod
    def derive(cls, secret: Secret[bytes], client_nonce: bytes, device_nonce: bytes) -> Self:
        """Derive them from the pair secret and both nonces of the attempt that opened the path."""
        keys = _derive(secret, b"path", 2 * _PATH_KEY_BYTES, salt=client_nonce + device_nonce)
        return cls(Secret(keys[:_PATH_KEY_BYTES]), Secret(keys[_PATH_KEY_BYTES:]))


class PairKeys:
    """The keys of one pair, derived from its secret.

    Attributes:
        topic: the last level of the topic on which the device listens for this client key: 26
            lower-case letters and digits. The whole topic is `device_topic(prefix, topic)`.
    """

    def __init__(self, secret: Secret[bytes]) -> None:
        if len(secret.reveal()) != PAIR_SECRET_BYTES:
            raise Malformed("a pair secret has 32 bytes", advice="Get the remote settings again.")
        self._secret = secret
        self.topic = base32(_derive(secret, b"topic", _TOPIC_BYTES))
        self._to_device = MessageSealer(Secret(_derive(secret, b"C>D", _KEY_BYTES)))
        self._to_client = MessageSealer(Secret(_derive(secret, b"D>C", _KEY_BYTES)))

    def seal_to_device(
        self, message: ClientMessage, topic: str, random_bytes: RandomBytes
    ) -> bytes:
        """Seal a message of the client for the topic to which it is published.

        The last candidates of a message that is too long are left out.
        """
        return _seal(self._to_device, message, topic, random_bytes)

    def seal_to_client(
        self, message: DeviceMessage, topic: str, random_bytes: RandomBytes
    ) -> bytes:
        """Seal a message of the device, as `seal_to_device` does for the client."""
        return _seal(self._to_client, message, topic, random_bytes)

    def open_from_client_untrusted(self, data: bytes, topic: str) -> ClientMessage:
        """Open a message that arrived at the device. Raises `Malformed`, and no other error.

        `topic` is the whole topic on which it arrived.
        """
        message = message_codec.decode_untrusted(self._to_device.open_untrusted(data, topic))
        match message:
            case ConnectRequest() | Offer():
                return message
            case Candidates(reply_topic=bytes()):
                return message
            case _:
                raise _other_direction()

    def open_from_device_untrusted(self, data: bytes, topic: str) -> DeviceMessage:
        """Open a message that arrived at the client. Raises `Malformed`, and no other error."""
        message = message_codec.decode_untrusted(self._to_client.open_untrusted(data, topic))
        match message:
            case Challenge() | Answer() | Refusal():
                return message
            case Candidates(reply_topic=None):
                return message
            case _:
                raise _other_direction()

    def path_keys(self, client_nonce: bytes, device_nonce: bytes) -> PathKeys:
        """Return the keys of the path that the attempt with these nonces opens."""
        return PathKeys.derive(self._secret, client_nonce, device_nonce)

    def __repr__(self) -> str:
        return "PairKeys(…)"


def pair_secret(master: Secret[bytes], generation: int, client: Fingerprint) -> Secret[bytes]:
    """Derive the secret of a device and one client key.

    Args:
        master: the remote master key of the device, 32 random bytes.
        generation: 0 at first, one more with each rotation; 32 bits.
        client: the fingerprint of the client's key.
    """
    if len(master.reveal()) != MASTER_KEY_BYTES or not 0 <= generation <= MAX_GENERATION:
        raise ValueError("a remote master key has 32 bytes, and a generation 32 bits")
    info = b"pair" + generation.to_bytes(4, "big") + client.digest
    return Secret(_derive(master, info, PAIR_SECRET_BYTES))


def device_topic(prefix: str, topic: str) -> str:
    """Return the topic on which a device listens for one client key; see `PairKeys.topic`."""
    return f"{prefix}/d/{topic}"


def client_topic(prefix: str, reply_topic: bytes) -> str:
    """Return the topic on which a client listens during one attempt."""
    return f"{prefix}/c/{base32(reply_topic)}"


def base32(data: bytes) -> str:
    """Encode in base32 (RFC 4648 §6), in lower case and without padding."""
    return base64.b32encode(data).rstrip(b"=").decode().lower()


def _derive(secret: Secret[bytes], info: bytes, length: int, *, salt: bytes = b"") -> bytes:
    """Return HKDF-SHA256 with the info "handfast/1 rv " ‖ `info`."""
    hkdf = HKDF(algorithm=SHA256(), length=length, salt=salt, info=b"handfast/1 rv " + info)
    return hkdf.derive(secret.reveal())


def _seal(sealer: MessageSealer, message: Message, topic: str, random_bytes: RandomBytes) -> bytes:
    body = message_codec.encode(message)
    while not fits(body):
        message = message_codec.shorten(message)
        body = message_codec.encode(message)
    return sealer.seal(body, topic, random_bytes(SEAL_NONCE_BYTES))


def _other_direction() -> Malformed:
    return Malformed("the message is of the other side", advice="Ignore it.")
