"""The public key of a peer's certificate.

A certificate is a container for a key (protocol §1): dates, names, serial number, version,
extensions and signature have no meaning, so no code here parses them, and no odd encoding of them
makes a certificate invalid. OpenSSL decodes the key, as it does for the proof of possession.
"""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto

from peer.errors import UnsupportedKey

_ALGORITHM = slice(2, 23)  # the AlgorithmIdentifier in a SubjectPublicKeyInfo of a P-256 key
_ADVICE = "Use an EC key on prime256v1."


def peer_key(certificate: crypto.X509) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate.

    A compressed point is the same key as the uncompressed one. The curve has to be named: explicit
    parameters are refused (RFC 5480 §2.1.1).

    Raises `UnsupportedKey`, and no other error, if it is not a P-256 key or cannot be decoded.
    """
    try:
        encoded = certificate.get_pubkey()
        der = crypto.dump_publickey(crypto.FILETYPE_ASN1, encoded)
        key: object = encoded.to_cryptography_key()
    except Exception as error:  # an unknown curve, algorithm or encoding: many types of error
        raise UnsupportedKey("the peer's key cannot be decoded", advice=_ADVICE) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UnsupportedKey("the peer's key is not a P-256 key", advice=_ADVICE)
    if der[_ALGORITHM] != _spki(key)[_ALGORITHM]:
        raise UnsupportedKey("the peer's key does not name its curve", advice=_ADVICE)
    return key


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
