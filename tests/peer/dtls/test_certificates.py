"""A peer's certificate may contain anything beside its key that OpenSSL can carry."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import crypto

from peer.dtls import openssl
from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.peer_key import peer_fingerprint
from peer.dtls.session import DtlsSession, SessionState
from peer.errors import PinMismatch, UnsupportedKey
from peer.identity import Fingerprint, Identity
from peer.limits import REMEMBERED_CERTIFICATE_BYTES, REMEMBERED_CERTIFICATES
from tests.kit.dtls_pair import establish
from tests.kit.internals import use_any_certificate
from tests.peer.dtls.test_session import MTU, begin_responder, run_handshake

SEQUENCE, SET, INTEGER, BITS, OCTETS, OID, UTF8, PRINTABLE, UTC, GENERALIZED = (
    0x30, 0x31, 0x02, 0x03, 0x04, 0x06, 0x0C, 0x13, 0x17, 0x18,
)  # fmt: skip
ECDSA_SHA256 = bytes.fromhex("2a8648ce3d040302")
COMMON_NAME, COUNTRY = bytes.fromhex("550403"), bytes.fromhex("550406")
KEY_USAGE, ALTERNATIVE, CONSTRAINTS = (bytes.fromhex(one) for one in ("551d0f", "551d11", "551d13"))
PURPOSES = bytes.fromhex("551d25")
TRUE = b"\x01\x01\xff"


def tlv(tag: int, *contents: bytes, long_form: bool = False) -> bytes:
    body = b"".join(contents)
    if len(body) < 128 and not long_form:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes(3, "big").lstrip(b"\0") or b"\0"
    return bytes([tag, 0x80 | len(length)]) + length + body


def name(value: bytes, *, kind: bytes = COMMON_NAME, tag: int = UTF8) -> bytes:
    attribute = tlv(SEQUENCE, tlv(OID, kind), tlv(tag, value))
    return tlv(SEQUENCE, tlv(SET, attribute))


def extension(kind: bytes, value: bytes, *, critical: bytes = b"") -> bytes:
    return tlv(SEQUENCE, tlv(OID, kind), critical, tlv(OCTETS, value))


@dataclass
class Parts:
    """The parts of a certificate, encoded. The defaults are ordinary."""

    version: bytes = tlv(0xA0, tlv(INTEGER, b"\x02"))
    serial: bytes = tlv(INTEGER, b"\x07")
    algorithm: bytes = tlv(SEQUENCE, tlv(OID, ECDSA_SHA256))
    outer_algorithm: bytes = tlv(SEQUENCE, tlv(OID, ECDSA_SHA256))
    issuer: bytes = name(b"x")
    subject: bytes = name(b"x")
    not_before: bytes = tlv(UTC, b"700101000000Z")
    not_after: bytes = tlv(GENERALIZED, b"99991231235959Z")
    extensions: list[bytes] = field(default_factory=list)
    signature: bytes = tlv(BITS, b"\0" + bytes(70))
    long_form: bool = False
    indefinite: bool = False

    def encode(self, spki: bytes) -> bytes:
        validity = tlv(SEQUENCE, self.not_before, self.not_after)
        extensions = [tlv(0xA3, tlv(SEQUENCE, *self.extensions))] if self.extensions else []
        to_be_signed = tlv(
            SEQUENCE,
            *(self.version, self.serial, self.algorithm, self.issuer, validity, self.subject),
            *(spki, *extensions),
            long_form=self.long_form,
        )
        parts = (to_be_signed, self.outer_algorithm, self.signature)
        if self.indefinite:
            return b"\x30\x80" + b"".join(parts) + b"\0\0"
        return tlv(SEQUENCE, *parts)


def extended(*extensions: bytes) -> Parts:
    return Parts(extensions=list(extensions))


ODD: dict[str, Parts] = {
    "a time with an offset": Parts(not_before=tlv(UTC, b"7001010000+0100")),
    "an end with an offset": Parts(not_after=tlv(GENERALIZED, b"20991231235959-0530")),
    "a time with fractions": Parts(not_after=tlv(GENERALIZED, b"20991231235959.5Z")),
    "a month 13": Parts(not_before=tlv(UTC, b"701301000000Z")),
    "an end before its start": Parts(
        not_before=tlv(UTC, b"300101000000Z"), not_after=tlv(UTC, b"200101000000Z")
    ),
    "a start in the future": Parts(not_before=tlv(GENERALIZED, b"29990101000000Z")),
    "a negative serial number": Parts(serial=tlv(INTEGER, b"\xff\x01")),
    "a serial number of zero": Parts(serial=tlv(INTEGER, b"\0")),
    "a long serial number": Parts(serial=tlv(INTEGER, b"\x11" * 40)),
    "version 7": Parts(version=tlv(0xA0, tlv(INTEGER, b"\x07"))),
    "version 1 with an extension": Parts(
        version=b"", extensions=[extension(ALTERNATIVE, tlv(SEQUENCE, tlv(0x82, b"x")))]
    ),
    "an explicit version 1": Parts(version=tlv(0xA0, tlv(INTEGER, b"\0"))),
    "no names": Parts(issuer=tlv(SEQUENCE), subject=tlv(SEQUENCE)),
    "an issuer of its own": Parts(issuer=name(b"a CA that no one knows")),
    "a printable name with an umlaut": Parts(subject=name(b"k\xfcche", tag=PRINTABLE)),
    "a country of five letters": Parts(subject=name(b"Japan", kind=COUNTRY, tag=PRINTABLE)),
    "an unknown critical extension": extended(extension(b"\x2a\x03\x04", b"?", critical=TRUE)),
    "an extension twice": extended(*[extension(ALTERNATIVE, tlv(SEQUENCE, tlv(0x82, b"x")))] * 2),
    "a malformed extension": extended(extension(ALTERNATIVE, b"\x30\x05\x01")),
    "a boolean that is not DER": extended(
        extension(CONSTRAINTS, tlv(SEQUENCE, b"\x01\x01\x01"), critical=b"\x01\x01\x07")
    ),
    "a false that is spelled out": extended(
        extension(CONSTRAINTS, tlv(SEQUENCE), critical=b"\x01\x01\x00")
    ),
    "a CA": extended(extension(CONSTRAINTS, tlv(SEQUENCE, TRUE), critical=TRUE)),
    "another purpose": extended(
        extension(PURPOSES, tlv(SEQUENCE, tlv(OID, bytes.fromhex("2b06010505070303"))))
    ),
    "an empty list of extensions": Parts(
        extensions=[b""], version=tlv(0xA0, tlv(INTEGER, b"\x02"))
    ),
    "an unknown signature algorithm": Parts(
        algorithm=tlv(SEQUENCE, tlv(OID, b"\x2a\x03\x05")),
        outer_algorithm=tlv(SEQUENCE, tlv(OID, b"\x2a\x03\x05")),
    ),
    "two signature algorithms": Parts(outer_algorithm=tlv(SEQUENCE, tlv(OID, b"\x2a\x03\x05"))),
    "an empty signature": Parts(signature=tlv(BITS, b"\0")),
    "long lengths": Parts(long_form=True),
    "an indefinite length": Parts(indefinite=True),
}


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def handshake(device: Identity, sender: Identity, der: bytes, *, by_device: bool) -> DtlsSession:
    """Run a handshake in which one side sends the certificate; return the other side."""
    server = ServerContext(device, resumption=True)
    client = ClientContext(sender)
    changed = server.ssl if by_device else client.ssl
    use_any_certificate(changed, der)
    changed.use_privatekey((device if by_device else sender).private_key)
    initiator = DtlsSession.client(client, mtu=MTU, pinned=None)
    responder = begin_responder(initiator, server)
    run_handshake(initiator, responder)
    return initiator if by_device else responder


#: OpenSSL does not send these as a server.
CLIENTS_ONLY = {"an extension twice", "a malformed extension"}


@pytest.mark.parametrize(
    ("case", "by_device"),
    [(case, at) for case in ODD for at in (False, True) if not (at and case in CLIENTS_ONLY)],
)
def test_nothing_but_the_key_of_a_certificate_matters(
    device: Identity, client: Identity, case: str, by_device: bool
) -> None:
    sender = device if by_device else client
    der = ODD[case].encode(spki_of(sender.public_key))
    judge = handshake(device, client, der, by_device=by_device)
    assert judge.state is SessionState.ESTABLISHED, judge.failure
    assert judge.peer_fingerprint == sender.fingerprint


def raw_spki(algorithm: bytes, point: bytes) -> bytes:
    return tlv(SEQUENCE, algorithm, tlv(BITS, b"\0", point))


def test_a_compressed_point_is_the_same_key(device: Identity, client: Identity) -> None:
    point = client.public_key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    algorithm = spki_of(client.public_key)[2:23]
    judge = handshake(device, client, Parts().encode(raw_spki(algorithm, point)), by_device=False)
    assert judge.state is SessionState.ESTABLISHED, judge.failure
    assert judge.peer_fingerprint == client.fingerprint


EXPLICIT_P256 = bytes.fromhex(
    "3082010306072a8648ce3d02013081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000000000"
    "000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000ffffffffff"
    "fffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d36"
    "0886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a139"
    "45d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff000000"
    "00ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101"
)


def encoded(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def explicit(key: ec.EllipticCurvePublicKey) -> bytes:
    return raw_spki(EXPLICIT_P256, spki_of(key)[-65:])


WRONG: dict[str, Callable[[], bytes]] = {
    "P-384": lambda: encoded(ec.generate_private_key(ec.SECP384R1())),
    "P-521": lambda: encoded(ec.generate_private_key(ec.SECP521R1())),
    "secp256k1": lambda: encoded(ec.generate_private_key(ec.SECP256K1())),
    "brainpool": lambda: encoded(ec.generate_private_key(ec.BrainpoolP256R1())),
    "Ed25519": lambda: encoded(ed25519.Ed25519PrivateKey.generate()),
    "RSA": lambda: encoded(rsa.generate_private_key(65537, 2048)),
    "explicit parameters": lambda: explicit(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "a point that is not on the curve": lambda: raw_spki(
        spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())[2:23], b"\x04" + bytes(64)
    ),
    "an unknown algorithm": lambda: raw_spki(tlv(SEQUENCE, tlv(OID, b"\x2a\x03\x04")), b"?"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_no_other_kind_of_key_is_accepted(kind: str) -> None:
    der = Parts().encode(WRONG[kind]())
    certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    for _ in range(2):  # a refusal is not remembered
        with pytest.raises(UnsupportedKey) as caught:
            peer_fingerprint(certificate, der)
    assert "prime256v1" in caught.value.advice


@pytest.mark.parametrize("key", [ec.SECP384R1(), ec.SECP521R1(), ec.BrainpoolP256R1()])
def test_the_peer_receives_an_alert_for_an_unsupported_key(
    device: Identity, key: ec.EllipticCurve
) -> None:
    private = ec.generate_private_key(key)
    der = Parts().encode(encoded(private))
    certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, der).to_cryptography()
    sender = Identity(private, certificate, Fingerprint.of_public_key(private.public_key()))
    initiator = DtlsSession.client(ClientContext(sender), mtu=MTU, pinned=None)
    responder = begin_responder(initiator, ServerContext(device, resumption=True))
    run_handshake(initiator, responder)
    assert isinstance(responder.failure, UnsupportedKey)
    assert "alert unsupported certificate" in str(initiator.failure)


def test_a_certificate_that_openssl_cannot_decode_gets_an_alert(
    device: Identity, client: Identity
) -> None:
    initiator = DtlsSession.client(ClientContext(client), mtu=MTU, pinned=None)
    responder = begin_responder(initiator, ServerContext(device, resumption=True))
    run_handshake(
        initiator,
        responder,
        relay=lambda datagram: [
            datagram.replace(b"\x17\x0d700101000000Z", b"\x17\x0dnot a time...")
        ],
    )
    assert responder.state is initiator.state is SessionState.FAILED


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[crypto.PKey]:
    """The keys that are read from certificates."""
    keys: list[crypto.PKey] = []
    dump = crypto.dump_publickey

    def counted(kind: int, key: crypto.PKey) -> bytes:
        keys.append(key)
        return dump(kind, key)

    monkeypatch.setattr(crypto, "dump_publickey", counted)
    return keys


def test_the_key_of_a_certificate_is_read_once(reads: list[crypto.PKey]) -> None:
    """OpenSSL asks several times about one certificate, and reading a key is costly."""
    device, client = Identity.create(), Identity.create()
    for _ in range(3):
        near, far = establish(device, client)
        assert near.peer_fingerprint == device.fingerprint
        assert far.peer_fingerprint == client.fingerprint
    assert len(reads) == 2, "one by each side"


def test_strangers_with_many_certificates_fill_a_bounded_memory(reads: list[crypto.PKey]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    ders = [
        Parts(serial=tlv(INTEGER, (0x10000 + number).to_bytes(3))).encode(encoded(private))
        for number in range(1, REMEMBERED_CERTIFICATES + 2)
    ]
    long = extended(extension(ALTERNATIVE, bytes(REMEMBERED_CERTIFICATE_BYTES)))

    def read(der: bytes) -> int:
        before = len(reads)
        certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
        assert peer_fingerprint(certificate, der) == Fingerprint.of_public_key(private.public_key())
        return len(reads) - before

    assert [read(der) for der in ders] == [1] * len(ders)
    assert read(ders[-1]) == 0
    assert read(ders[0]) == 1, "the oldest was dropped"
    assert [read(long.encode(encoded(private))) for _ in range(2)] == [1, 1]


def test_another_certificate_is_verified_by_itself(device: Identity, client: Identity) -> None:
    """The answer for one certificate is not given for another."""
    session = DtlsSession.client(ClientContext(client), mtu=MTU, pinned=device.fingerprint)
    mine, other = (crypto.X509.from_cryptography(one.certificate) for one in (device, client))
    assert session.verify_certificate(mine) == openssl.ACCEPTED
    assert session.verify_certificate(other) == openssl.UNKNOWN_KEY
    assert isinstance(session.failure, PinMismatch)
    assert session.verify_certificate(mine) == openssl.ACCEPTED
    assert session.peer_fingerprint == device.fingerprint
