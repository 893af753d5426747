"""The public key of a peer's certificate.

A certificate is a container for a key (protocol §1): dates, names, serial number, version,
extensions and signature have no meaning, so no code here parses them, and no odd encoding of them
makes a certificate invalid. OpenSSL decodes the key, as it does for the proof of possession.

To encode a key is a tenth of a handshake's cost for OpenSSL, so the fingerprints of certificates
are remembered. Each depends on the bytes of its certificate alone, and proves nothing by itself.
"""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto

from peer.bounded_dict import BoundedDict
from peer.errors import UnsupportedKey
from peer.identity import Fingerprint
from peer.limits import REMEMBERED_CERTIFICATE_BYTES, REMEMBERED_CERTIFICATES

# A SubjectPublicKeyInfo of a P-256 key with an uncompressed point, up to its
# coordinates. Its length is in the first bytes.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_ALGORITHM = slice(2, 23)  # the AlgorithmIdentifier in it
_ADVICE = "Use an EC key on prime256v1."


_remembered: BoundedDict[bytes, Fingerprint] = BoundedDict(REMEMBERED_CERTIFICATES)


def peer_fingerprint(certificate: crypto.X509, der: bytes) -> Fingerprint:
    """Return the fingerprint of the key of a certificate, whose encoding is `der`.

    A compressed point is the same key as the uncompressed one. The curve has to be named: explicit
    parameters are refused (RFC 5480 §2.1.1).

    Raises `UnsupportedKey`, and no other error, if it is not a P-256 key or cannot be decoded.
    """
    known = _remembered.get(der)
    if known is None:
        known = _read_untrusted(certificate)
        if len(der) <= REMEMBERED_CERTIFICATE_BYTES:
            _remembered[der] = known
    return known


def _read_untrusted(certificate: crypto.X509) -> Fingerprint:
    try:
        encoded = certificate.get_pubkey()
        # Encoded by OpenSSL, which has decoded it before and found that the point is on the curve.
        der = crypto.dump_publickey(crypto.FILETYPE_ASN1, encoded)
        if der.startswith(_P256):
            return Fingerprint.of_spki(der)
        key: object = encoded.to_cryptography_key()
    except Exception as error:  # an unknown curve, algorithm or encoding: many types of error
        raise UnsupportedKey("the peer's key cannot be decoded", advice=_ADVICE) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UnsupportedKey("the peer's key is not a P-256 key", advice=_ADVICE)
    canonical = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if der[_ALGORITHM] != canonical[_ALGORITHM]:
        raise UnsupportedKey("the peer's key does not name its curve", advice=_ADVICE)
    return Fingerprint.of_spki(canonical)
