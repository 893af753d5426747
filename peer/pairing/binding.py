"""The transcript B of a ceremony, and the tags that confirm it (protocol §5).

B is a channel binding (RFC 5056): it names the DTLS session by its exporter value (RFC 5705), both
fingerprints, the window, the method and the role. A side that can make a tag over B has the EKM of
this session and agrees on all of these values. Every item is preceded by its length, so no two
lists of items have the same encoding.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peer.identity import Fingerprint

EKM_BYTES = 32
WINDOW_ID_BYTES = 16
TAG_BYTES = 32


@dataclass(frozen=True, slots=True)
class Channel:
    """One DTLS session between two keys, in one window. The `repr` does not show the EKM.

    `ekm` is the exporter value (32 bytes) and `window_id` the window's 16 random bytes. Raises
    `ValueError` for other lengths.
    """

    ekm: bytes = field(repr=False)
    client: Fingerprint
    device: Fingerprint
    window_id: bytes

    def __post_init__(self) -> None:
        if len(self.ekm) != EKM_BYTES:
            raise ValueError(f"an exporter value has {EKM_BYTES} bytes")
        if len(self.window_id) != WINDOW_ID_BYTES:
            raise ValueError(f"a window id has {WINDOW_ID_BYTES} bytes")

    def binding(self, *, method: str, role: str) -> bytes:
        """Return B for one method and one role."""
        return binding(
            self.ekm, self.client.digest, self.device.digest, self.window_id, method, role
        )


@dataclass(frozen=True, slots=True, repr=False)
class Confirmation:
    """The two tags of one ceremony. They differ, so neither can be reflected as the other."""

    client_tag: bytes
    device_tag: bytes

    @classmethod
    def derive(cls, ekm: bytes, salt: bytes, method: str, *, transcript: bytes = b"") -> Self:
        """Return HMAC-SHA256 over "C"‖transcript and "D"‖transcript; HKDF-SHA256 derives the key.

        `compare` and `button` use B as the salt and no transcript; `sas` and `label` use their T as
        both (RFC 2104, RFC 5869).
        """
        info = f"handfast/1 {method} confirm".encode()
        key = HKDF(algorithm=SHA256(), length=TAG_BYTES, salt=salt, info=info).derive(ekm)
        return cls(_hmac(key, b"C" + transcript), _hmac(key, b"D" + transcript))

    def __repr__(self) -> str:
        return "Confirmation(…)"


def lp(item: bytes) -> bytes:
    """Return the item after its length as a big-endian u32 (`lp` in the protocol)."""
    return len(item).to_bytes(4, "big") + item


def binding(
    ekm: bytes, fp_client: bytes, fp_device: bytes, window_id: bytes, method: str, role: str
) -> bytes:
    """Return H(lp("handfast/1 bind") lp(EKM) lp(fpC) lp(fpD) lp(window_id) lp(method) lp(role))."""
    items = (
        b"handfast/1 bind",
        ekm,
        fp_client,
        fp_device,
        window_id,
        method.encode(),
        role.encode(),
    )
    return sha256(b"".join(map(lp, items))).digest()


def confirmation(ekm: bytes, b: bytes, method: str) -> Confirmation:
    """Return the tags of a method that confirms B itself."""
    return Confirmation.derive(ekm, b, method)


def receipt(device_tag: bytes) -> bytes:
    """Return the receipt of a device's tag, for a client that lost the tag (protocol §5.8)."""
    return sha256(lp(b"handfast/1 receipt") + lp(device_tag)).digest()


def tags_equal(expected: bytes, offered: bytes) -> bool:
    """Return whether two tags are equal, in a time that does not depend on where they differ."""
    return bytes_eq(expected, offered)


def _hmac(key: bytes, data: bytes) -> bytes:
    mac = HMAC(key, SHA256())
    mac.update(data)
    return mac.finalize()
