"""The device's private key in a backup of the former format: sealed in the note of a copy.

Backups of this version are sealed as a whole (`sealed_backup`). The fingerprint of the key and all
parameters are authenticated along with the key.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device_app.console.passphrases import KDF, Stretching, normalized
from device_app.limits import SEALED_KEY_BYTES_MAX
from peer.errors import IdentityError, Malformed, WrongCode
from peer.identity import Fingerprint, Identity

CIPHER: Final = "AES-256-GCM"
_NONCE_BYTES: Final = 12
_ADVICE: Final = "Use another backup."


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
    if record.get("cipher") != CIPHER:
        raise Malformed(
            "the key is sealed in a way that this version does not know",
            advice="Update handfast.",
        )
    salt, nonce = (_bytes_untrusted(record.get(name)) for name in ("salt", "nonce"))
    if len(nonce) != _NONCE_BYTES:
        raise Malformed("salt or nonce of the sealed key have a wrong length", advice=_ADVICE)
    stretching = Stretching.parse_untrusted(record, salt)
    sealed = _bytes_untrusted(record.get("sealed"))
    key = AESGCM(stretching.key(normalized(passphrase)))  # this format knew no made ones
    try:
        opened = key.decrypt(nonce, sealed, associated(stretching, fingerprint))
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


def associated(stretching: Stretching, fingerprint: Fingerprint) -> bytes:
    """Return the data that is authenticated along with the key."""
    one = stretching
    return json.dumps([KDF, one.n, one.r, one.p, one.salt.hex(), CIPHER, fingerprint.hex]).encode()


def _bytes_untrusted(value: object) -> bytes:
    if isinstance(value, str) and len(value) <= 2 * SEALED_KEY_BYTES_MAX:
        try:
            found = base64.b64decode(value, validate=True)
        except binascii.Error:
            found = b""
        if found and len(found) <= SEALED_KEY_BYTES_MAX:
            return found
    raise Malformed("the sealed key is not complete", advice=_ADVICE)
