"""The identity of a peer: a P-256 key pair, and its fingerprint.

The key is sent in a self-signed X.509 certificate, which is only a container: it is valid at any
time, its names have no meaning, and nothing in it is trusted but the key. Boards may have no clock,
so no code here reads one. Pairing and pinning use the fingerprint: SHA-256 over the DER
SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import NameOID

from peer.errors import IdentityError
from peer.files import atomic_write, read_own
from peer.fingerprint import CROCKFORD, FINGERPRINT_BYTES, Fingerprint

__all__ = [
    "CROCKFORD",
    "FINGERPRINT_BYTES",
    "SIGNATURE_BYTES",
    "Fingerprint",
    "Identity",
    "is_signed_untrusted",
]

SIGNATURE_BYTES = 64

_SCALAR_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair and its certificate. The `repr` shows only the fingerprint."""

    private_key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    fingerprint: Fingerprint

    @classmethod
    def create(cls) -> Self:
        """Create a new key pair."""
        return cls._of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def _of(cls, key: ec.EllipticCurvePrivateKey) -> Self:
        fingerprint = Fingerprint.of_public_key(key.public_key())
        return cls(key, _container(key, fingerprint), fingerprint)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PKCS#8 PEM key file.

        Raises `IdentityError` if it is missing, damaged, of another type, a symbolic link, owned by
        another user, or readable by other users.
        """
        try:
            pem, mode = read_own(path)
        except OSError as error:
            raise IdentityError(f"cannot read the key {path}: {error.strerror}") from error
        if mode & 0o077:
            raise IdentityError(
                f"the key {path} is readable by other users (mode {mode:04o})",
                advice=f"If it was not copied, run: chmod 600 {path}. If in doubt, replace it. "
                "A file system without permissions, such as FAT, cannot hold a key.",
            )
        try:
            return cls.from_pem(pem)
        except IdentityError as error:
            raise IdentityError(
                f"{path} {error}",
                advice=error.advice or "Restore it from a backup. handfast never overwrites a key.",
            ) from error

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> Self:
        """Read a private key in PEM: SEC 1 (RFC 5915), PKCS#8, or encrypted PKCS#8.

        Raises `IdentityError`; the message continues the name of the file.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if passphrase is not None:
                raise IdentityError(
                    "cannot be decrypted: the passphrase is wrong, or the file is damaged"
                ) from error
            raise IdentityError("is not an unencrypted PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise IdentityError("is not a P-256 key", advice="handfast uses P-256 only.")
        return cls._of(key)

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Read the key file, or create it if there is none. An existing file is never changed.

        Raises `IdentityError` as `load` does, and if the file cannot be written.
        """
        try:
            if not path.exists():
                cls.create().save(path)
        except FileExistsError:
            pass  # another process was faster, or it is a link to nothing
        except OSError as error:
            raise IdentityError(
                f"cannot write the key {path}: {error.strerror or error}",
                advice="Use a folder of your own on a disk that stores permissions.",
            ) from error
        return cls.load(path)

    def save(self, path: Path) -> None:
        """Write a new key file durably: mode 0600, in a folder of mode 0700.

        Raises `FileExistsError` if there is a file already, and `OSError` if it cannot be written.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(path, self.key_pem(), replace=False, is_secret=True)

    def replace(self, path: Path) -> None:
        """Write the key in place of the one in a key file, durably: after a crash, it is either.

        Raises `IdentityError` if it cannot be written; the old key is still there.
        """
        try:
            atomic_write(path, self.key_pem(), is_secret=True)
        except OSError as error:
            raise IdentityError(
                f"cannot write the key {path}: {error.strerror or error}",
                advice="The device keeps its present key.",
            ) from error

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key."""
        return self.private_key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign with ES256: return r‖s, 32 bytes each, big-endian (RFC 9053 §2.1).

        `data` must state its own purpose, since the same key signs DTLS handshakes.
        """
        r, s = decode_dss_signature(self.private_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_SCALAR_BYTES, "big") + s.to_bytes(_SCALAR_BYTES, "big")

    def key_pem(self) -> bytes:
        """Return the private key as PKCS#8 PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"Identity({self.fingerprint})"


def is_signed_untrusted(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether `signature` (r‖s) is an ES256 signature of `data` by `key`. Never raises.

    Both s and n-s are valid (RFC 9053 §2.1), so a signature does not identify what it signs.
    """
    if key.curve.name != "secp256r1" or len(signature) != SIGNATURE_BYTES:
        return False
    r, s = (
        int.from_bytes(half, "big")
        for half in (signature[:_SCALAR_BYTES], signature[_SCALAR_BYTES:])
    )
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _container(key: ec.EllipticCurvePrivateKey, fingerprint: Fingerprint) -> x509.Certificate:
    """Return a self-signed certificate for a key, without expiry (RFC 5280 §4.1.2.5).

    It is the same, byte for byte, whenever it is made, so that a stock client can store it as the
    one certificate that it trusts: the signature is deterministic (RFC 6979). Its DNS name is the
    host of the device's advert (protocol §2.6).
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fingerprint.device_id)])
    host = x509.DNSName(f"handfast-{fingerprint.device_id.lower()}.local")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 + int.from_bytes(fingerprint.digest[:8], "big"))
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
