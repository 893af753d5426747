"""The fingerprint of a key: SHA-256 over the DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).

This module is apart from `peer.identity`, which imports `cryptography`: most commands compare and
print fingerprints and use no key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from peer import pasted
from peer.digit_groups import in_groups
from peer.errors import Malformed
from peer.limits import MAX_FINGERPRINT_CHARACTERS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # base32 without I, L, O and U
FINGERPRINT_BYTES = 32

_NI = "ni:///sha-256;"
_NI_FORM = re.compile(r"(?i:ni://[^/]*/sha-256;)([A-Za-z0-9_-]*)=*(?:\?.*)?[.,]?")
_PLAIN = re.compile(r"[0-9a-f]{64}")  # as files and other programs have it
_PREFIXES = ("SHA256", "0X")
_HEX_DIGITS = "0123456789ABCDEF"


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """SHA-256 over a public key's DER SubjectPublicKeyInfo: 32 bytes."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != FINGERPRINT_BYTES:
            raise Malformed("a fingerprint has 32 bytes", advice="Give all 64 hex digits.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse 64 hex digits in any spelling, or `ni:///sha-256;…` (RFC 6920 §3).

        Any case, a prefix `SHA256:`, colons, and everything that `pasted.compact` removes are
        accepted. Raises `Malformed` for any other text.
        """
        if len(text) > MAX_FINGERPRINT_CHARACTERS:
            raise _not_a_fingerprint("it is too long")
        if _PLAIN.fullmatch(text):
            return cls(bytes.fromhex(text))
        uri = pasted.uri(text)
        if uri[:3].lower() == "ni:":
            return cls._of_uri(uri)
        digits = pasted.compact(text, also=":")
        for prefix in _PREFIXES:
            digits = digits.removeprefix(prefix)
        if other := pasted.first_other(digits, _HEX_DIGITS):
            raise _not_a_fingerprint(f"it contains {other}")
        if len(digits) != 2 * FINGERPRINT_BYTES:
            raise _not_a_fingerprint(f"it has {len(digits)} hex digits")
        return cls(bytes.fromhex(digits))

    @classmethod
    def _of_uri(cls, uri: str) -> Self:
        form = _NI_FORM.fullmatch(uri)
        if form is None:
            raise _not_a_fingerprint("the URI is not ni:///sha-256;…")
        try:
            digest = base64.b64decode(form[1] + "=" * (-len(form[1]) % 4), b"-_", validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != FINGERPRINT_BYTES or cls(digest).ni != _NI + form[1]:
            why = f"the URI has {len(form[1])} characters of base64url, not 43"
            raise _not_a_fingerprint(why if len(form[1]) != 43 else "the URI ends differently")
        return cls(digest)

    @classmethod
    def of_spki(cls, der: bytes) -> Self:
        """Return the fingerprint of a DER SubjectPublicKeyInfo."""
        return cls(hashlib.sha256(der).digest())

    @classmethod
    def of_public_key(cls, key: ec.EllipticCurvePublicKey) -> Self:
        """Return the fingerprint of a public key."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

        return cls.of_spki(
            key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    @property
    def hex(self) -> str:
        """The canonical form: 64 lower-case hex digits."""
        return self.digest.hex()

    @property
    def grouped(self) -> str:
        """The form for display: groups of four digits."""
        return in_groups(self.hex)

    @property
    def ni(self) -> str:
        """The URI form: RFC 6920 §3."""
        return _NI + base64.urlsafe_b64encode(self.digest).rstrip(b"=").decode()

    @property
    def device_id(self) -> str:
        """The device ID: the first eight Crockford base32 symbols. It is not unique."""
        number = int.from_bytes(self.digest[:5], "big")
        return "".join(CROCKFORD[number >> shift & 31] for shift in range(35, -1, -5))

    def __str__(self) -> str:
        return self.hex


def _not_a_fingerprint(why: str) -> Malformed:
    return Malformed(
        f"the text is not a fingerprint: {why}",
        advice="Give all 64 hex digits of the fingerprint.",
    )
