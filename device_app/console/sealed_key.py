"""The device's private key, sealed with a passphrase: scrypt (RFC 7914) and AES-256-GCM.

The parameters are stored with the key, so that a later version can raise them. They come from a
file and decide about memory and time, so they are bounded before they are used. The fingerprint of
the key and all parameters are authenticated along with it.
"""

import base64
import binascii
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, TypedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from device_app.limits import (
    PASSPHRASE_CHARACTERS_MIN,
    SCRYPT_BLOCKS,
    SCRYPT_COST,
    SCRYPT_MEMORY_BYTES_MAX,
    SCRYPT_PARALLEL,
    SCRYPT_SALT_BYTES,
    SCRYPT_WORK_BYTES_MAX,
    SEALED_KEY_BYTES_MAX,
)
from peer.errors import IdentityError, Malformed, UsageError, WrongCode
from peer.identity import Fingerprint, Identity

_CIPHER: Final = "AES-256-GCM"
_KDF: Final = "scrypt"
_KEY_BYTES, _NONCE_BYTES = 32, 12

#: Random bytes that sealing a key takes: salt and nonce.
RANDOM_BYTES: Final = SCRYPT_SALT_BYTES + _NONCE_BYTES
_ADVICE: Final = "Use another backup."


class SealedKeyRecord(TypedDict):
    """A sealed key in the note of a backup; bytes are base64."""

    kdf: str
    n: int
    r: int
    p: int
    salt: str
    cipher: str
    nonce: str
    sealed: str


@dataclass(frozen=True, slots=True)
class _Parameters:
    n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes

    @classmethod
    def parse_untrusted(cls, record: Mapping[str, object]) -> Self:
        """Check the parameters of a record. Raises `Malformed`."""
        if record.get("kdf") != _KDF or record.get("cipher") != _CIPHER:
            raise Malformed(
                "the key is sealed in a way that this version does not know",
                advice="Update handfast.",
            )
        n, r, p = (_number_untrusted(record.get(name)) for name in ("n", "r", "p"))
        memory = 128 * n * r  # RFC 7914 §2
        if n < 2 or n & (n - 1) or memory > SCRYPT_MEMORY_BYTES_MAX:
            raise Malformed("the parameters of the sealed key are out of range", advice=_ADVICE)
        if memory * p > SCRYPT_WORK_BYTES_MAX:
            raise Malformed("the parameters of the sealed key are out of range", advice=_ADVICE)
        salt, nonce = (_bytes_untrusted(record.get(name)) for name in ("salt", "nonce"))
        if len(nonce) != _NONCE_BYTES or not salt:
            raise Malformed("salt or nonce of the sealed key have a wrong length", advice=_ADVICE)
        return cls(n, r, p, salt, nonce)

    def key(self, passphrase: str) -> AESGCM:
        """The cipher with the key that belongs to a passphrase."""
        kdf = Scrypt(salt=self.salt, length=_KEY_BYTES, n=self.n, r=self.r, p=self.p)
        return AESGCM(kdf.derive(_normal(passphrase)))

    def associated(self, fingerprint: Fingerprint) -> bytes:
        """Return the data that is authenticated along with the key."""
        said = [_KDF, self.n, self.r, self.p, self.salt.hex(), _CIPHER, fingerprint.hex]
        return json.dumps(said).encode()


def check_passphrase(passphrase: str) -> None:
    """Raise `UsageError` if a passphrase is too short to resist a search on a stolen backup."""
    if len(_normal(passphrase).decode()) < PASSPHRASE_CHARACTERS_MIN:
        raise UsageError(
            f"the passphrase is shorter than {PASSPHRASE_CHARACTERS_MIN} characters",
            advice="Take four or more random words. A finder of the backup can try many.",
        )


def seal(identity: Identity, passphrase: str, random_bytes: bytes) -> SealedKeyRecord:
    """Return the key, sealed. `random_bytes` are `RANDOM_BYTES` fresh ones. Raises `UsageError`."""
    check_passphrase(passphrase)
    assert len(random_bytes) == RANDOM_BYTES
    salt, nonce = random_bytes[:SCRYPT_SALT_BYTES], random_bytes[SCRYPT_SALT_BYTES:]
    made = _Parameters(SCRYPT_COST, SCRYPT_BLOCKS, SCRYPT_PARALLEL, salt, nonce)
    associated = made.associated(identity.fingerprint)
    sealed = made.key(passphrase).encrypt(nonce, identity.key_pem(), associated)
    return {
        "kdf": _KDF,
        "n": made.n,
        "r": made.r,
        "p": made.p,
        "salt": _text(salt),
        "cipher": _CIPHER,
        "nonce": _text(nonce),
        "sealed": _text(sealed),
    }


def unsealed_untrusted(
    record: Mapping[str, object], passphrase: str, fingerprint: Fingerprint
) -> Identity:
    """Return the key of a record.

    Args:
        record: the sealed key, of a file that anyone may have written.
        passphrase: the passphrase.
        fingerprint: the key's, as the backup says.

    Raises:
        WrongCode: the passphrase is wrong, or the record was changed.
        Malformed: the record is not one, or its parameters are out of range.
    """
    parameters = _Parameters.parse_untrusted(record)
    sealed = _bytes_untrusted(record.get("sealed"))
    try:
        opened = parameters.key(passphrase).decrypt(
            parameters.nonce, sealed, parameters.associated(fingerprint)
        )
    except InvalidTag:
        raise WrongCode(
            "the passphrase is wrong, or the backup was changed",
            advice="Try again with the passphrase of this backup.",
        ) from None
    try:
        identity = Identity.from_pem(opened)
    except IdentityError as error:
        raise Malformed(f"the sealed key cannot be used: {error}", advice=_ADVICE) from error
    if identity.fingerprint != fingerprint:
        raise Malformed("the backup holds another key than it says", advice=_ADVICE)
    return identity


def _normal(passphrase: str) -> bytes:
    """The bytes of a passphrase, the same for every way to type its accents."""
    return unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogateescape")


def _number_untrusted(value: object) -> int:
    if type(value) is not int or not 0 < value <= SCRYPT_WORK_BYTES_MAX:
        raise Malformed("the parameters of the sealed key are out of range", advice=_ADVICE)
    return value


def _bytes_untrusted(value: object) -> bytes:
    if isinstance(value, str) and len(value) <= 2 * SEALED_KEY_BYTES_MAX:
        try:
            found = base64.b64decode(value, validate=True)
        except binascii.Error:
            found = b""
        if found and len(found) <= SEALED_KEY_BYTES_MAX:
            return found
    raise Malformed("the sealed key is not complete", advice=_ADVICE)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
