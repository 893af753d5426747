"""The token of an invite: a statement signed by the device's key, in one string or QR code.

It is a CBOR Web Token (RFC 8392) in an untagged COSE_Sign1 (RFC 9052 §4.2), signed by the device's
own key with ES256. It has exactly one form, in deterministic CBOR:

    [ << {1: -7, 4: device's fingerprint} >>,      protected: alg ES256, kid
      {},                                          unprotected: empty
      << { 2: name,                                sub: the user's name
           4: expires, 6: issued,                  exp, iat: whole seconds since 1970
           7: id,                                  cti: 16 bytes
           9: role,                                scope
           ? 8: {3: fingerprint of the client},    cnf, a kid (RFC 8747 §3.4): only this key
           ? -65537: [addresses] } >>,             private use: addresses to try, "host:port"
      signature ]                                  r‖s, 64 bytes

The signer and the audience are the same device, so there is no issuer and no audience: the kid
names both. Unknown claims are ignored (RFC 8392 §3). Everything else that differs from this form is
refused: other algorithms, headers (`crit` too), tags, lengths, encodings of numbers.

The client cannot check the signature, because it does not have the key yet, and need not: it pins
the fingerprint and sends the token to that device alone. Forged or changed tokens fail at the
device. The token does not decide whether it is valid either: the device's list of invites does, by
the ID.

Anyone who has the signed bytes can redeem them (unless `key` is set), so they are a secret; no
error and no `repr` here shows them. Anything else that this key may sign with COSE in the future
needs a non-empty `external_aad`, since an invite's is empty.

A token has at most 379 bytes, so that its text fits a QR code of version 13-L: 69 modules and a
quiet zone of 4 on both sides are 77 of a terminal's 80 columns. Address hints that do not fit are
left out, the last ones first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from peer import cbor
from peer.errors import Malformed, UsageError
from peer.host_names import is_host_and_port
from peer.identity import (
    FINGERPRINT_BYTES,
    SIGNATURE_BYTES,
    Fingerprint,
    Identity,
    is_signed_untrusted,
)
from peer.limits import MAX_INVITE_ADDRESSES, MAX_INVITE_ROLE_CHARS
from peer.pairing.armour import INVITE, armour_fields, base32, base32_untrusted, fields_untrusted
from peer.pairing.errors import Mismatch
from peer.pairing.names import check_name

ID_BYTES = 16
SIGNED_MAX = 379  # bytes; 12 symbols and 8/5 of this are the 619 symbols of a QR code 13-L

_ALG, _KID, _ES256 = 1, 4, -7
_SUB, _EXP, _IAT, _CTI, _CNF, _SCOPE = 2, 4, 6, 7, 8, 9
_ADDRESSES = -65537  # claims below -65536 are for private use (RFC 8392 §9.1)
_LATEST = 253_402_300_799  # the last second of the year 9999
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class InviteToken:
    """The contents of an invite. Raises `Malformed` for values that an invite cannot have.

    Attributes:
        device: the device's fingerprint.
        id: the invite's ID, 16 bytes.
        name: the name of the user who redeems it, and
        role: the role.
        expires: when it expires, and
        issued: when it was created, in whole seconds since 1970.
        addresses: addresses to try, as `host:port`; six at most.
        key: the only client that may redeem it; None for any client.
    """

    device: Fingerprint
    id: bytes
    name: str
    role: str
    expires: int
    issued: int
    addresses: tuple[str, ...] = ()
    key: Fingerprint | None = None

    def __post_init__(self) -> None:
        if len(self.id) != ID_BYTES:
            raise _malformed("has an ID of the wrong length")
        if check_name(self.name) != self.name:
            raise _malformed("has a name that is not in NFC")
        if not (0 < len(self.role) <= MAX_INVITE_ROLE_CHARS and self.role.isprintable()):
            raise _malformed("has an invalid role")
        if not all(0 <= moment <= _LATEST for moment in (self.issued, self.expires)):
            raise _malformed("has a date outside the years 1970 to 9999")
        if len(self.addresses) > MAX_INVITE_ADDRESSES or not all(map(_is_address, self.addresses)):
            raise _malformed("has an invalid address, or too many addresses")

    def sign(self, identity: Identity) -> bytes:
        """Return the signed token, with as many addresses as fit, the first ones first.

        Raises `UsageError` if the name and the role alone are too long.
        """
        if identity.fingerprint != self.device:
            raise ValueError("an invite must be signed by the key of its device")
        token = self
        while len(_message(token, bytes(SIGNATURE_BYTES))) > SIGNED_MAX:
            if not token.addresses:
                raise UsageError(
                    "the name and the role are too long for an invite",
                    advice="Use a shorter name. It can be changed later.",
                )
            token = replace(token, addresses=token.addresses[:-1])
        return _message(
            token, identity.sign(_to_be_signed(_protected(self.device), _claims(token)))
        )

    @staticmethod
    def text(signed: bytes) -> str:
        """Return the text of a signed token: `HANDFAST:I:…`, for a QR code of version 13-L."""
        return armour_fields(INVITE, base32(signed))


def read_untrusted(given: object) -> tuple[InviteToken, bytes]:
    """Parse a token, given as text or bytes; return its contents and its signed bytes.

    The signature is NOT checked: a client reads the token before it pins the device. Raises
    `Malformed`, and nothing else.
    """
    if isinstance(given, str):
        given = base32_untrusted(fields_untrusted(given, kind=INVITE, count=1)[0])
    if not isinstance(given, bytes):
        raise _malformed("is neither text nor bytes")
    protected, claims, _ = _parts_untrusted(given)
    return _token_untrusted(protected, claims), given


def verify_untrusted(signed: object, key: Identity | ec.EllipticCurvePublicKey) -> InviteToken:
    """Parse a token and verify that this device has signed it.

    Raises `Malformed` if it is not a token, `Mismatch` if it is another device's, changed or
    forged.
    """
    if not isinstance(signed, bytes):
        raise _malformed("is not bytes")
    public = key.public_key if isinstance(key, Identity) else key
    protected, claims, signature = _parts_untrusted(signed)
    token = _token_untrusted(protected, claims)
    if token.device != Fingerprint.of_public_key(public):
        raise Mismatch(
            "this invite was created by another device",
            advice="Redeem it at that device, or ask for a new invite.",
        )
    if not is_signed_untrusted(public, signature, _to_be_signed(protected, claims)):
        raise Mismatch("this invite was not signed by this device", advice="Ask for a new invite.")
    return token


def _message(token: InviteToken, signature: bytes) -> bytes:
    return cbor.encode([_protected(token.device), {}, _claims(token), signature])


def _protected(device: Fingerprint) -> bytes:
    return cbor.encode({_ALG: _ES256, _KID: device.digest})


def _claims(token: InviteToken) -> bytes:
    claims: dict[int, object] = {
        _SUB: token.name,
        _EXP: token.expires,
        _IAT: token.issued,
        _CTI: token.id,
        _SCOPE: token.role,
    }
    if token.key is not None:
        claims[_CNF] = {3: token.key.digest}
    if token.addresses:
        claims[_ADDRESSES] = list(token.addresses)
    return cbor.encode(claims)


def _to_be_signed(protected: bytes, claims: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052 §4.4) with an empty external_aad."""
    return cbor.encode(["Signature1", protected, b"", claims])


def _parts_untrusted(signed: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the protected header, the claims and the signature, still encoded."""
    match _decoded_untrusted(signed):
        case [bytes() as protected, dict() as unprotected, bytes() as claims, bytes() as signature]:
            if unprotected:
                raise _malformed("has an unprotected header")
            if len(signature) != SIGNATURE_BYTES:
                raise _malformed("has no ES256 signature")
            return protected, claims, signature
        case _:
            raise _malformed("is not a COSE_Sign1 with an attached payload")


def _token_untrusted(protected: bytes, claims: bytes) -> InviteToken:
    header, said = _decoded_untrusted(protected), _decoded_untrusted(claims)
    kid = header.get(_KID) if isinstance(header, dict) else None
    device = _fingerprint_untrusted(kid)
    if protected != _protected(device):
        raise _malformed("has a header other than alg ES256 and a kid")
    if not isinstance(said, dict):
        raise _malformed("contains no claims")
    return InviteToken(
        device=device,
        id=_claim_untrusted(said, _CTI, bytes),
        name=_claim_untrusted(said, _SUB, str),
        role=_claim_untrusted(said, _SCOPE, str),
        expires=_claim_untrusted(said, _EXP, int),
        issued=_claim_untrusted(said, _IAT, int),
        addresses=_addresses_untrusted(said),
        key=_holder_untrusted(said),
    )


def _claim_untrusted(said: Mapping[object, object], claim: int, kind: type[_T]) -> _T:
    value = said.get(claim)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _malformed(f"has no claim {claim}, or the claim has the wrong type")
    return value


def _addresses_untrusted(said: Mapping[object, object]) -> tuple[str, ...]:
    addresses = said.get(_ADDRESSES, [])
    if not isinstance(addresses, list):
        raise _malformed("has no list of addresses")
    return tuple(addresses)  # `InviteToken` checks each


def _holder_untrusted(said: Mapping[object, object]) -> Fingerprint | None:
    """Return the client's fingerprint, if the token is bound to one.

    A `cnf` in another form is refused: ignoring it would permit any client.
    """
    if _CNF not in said:
        return None
    match said[_CNF]:
        case {3: kid, **others} if not others:
            return _fingerprint_untrusted(kid)
        case _:
            raise _malformed("is bound to something other than a fingerprint")


def _fingerprint_untrusted(kid: object) -> Fingerprint:
    if not isinstance(kid, bytes) or len(kid) != FINGERPRINT_BYTES:
        raise _malformed("identifies a key by something other than its fingerprint")
    return Fingerprint(kid)


def _decoded_untrusted(data: bytes) -> object:
    """Decode one item. Raises `Malformed` for any other encoding, so that a token has only one."""
    try:
        value = cbor.decode_untrusted(data, size=SIGNED_MAX)
    except Malformed:
        raise _malformed("is damaged, or has the wrong format") from None
    if cbor.encode(value) != data:
        raise _malformed("is not in deterministic encoding")
    return value


def _is_address(text: object) -> bool:
    return isinstance(text, str) and is_host_and_port(text)


def _malformed(what: str) -> Malformed:
    return Malformed(f"this invite {what}", advice="Give the whole text, or ask for a new invite.")
