"""Keys, signatures and fingerprints, compared with an independent implementation (python-ecdsa)."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import ecdsa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import IdentityError, Malformed
from peer.identity import Fingerprint, Identity, is_signed_untrusted

digests = st.binary(min_size=32, max_size=32).map(Fingerprint)


def test_the_fingerprint_is_the_sha256_of_the_spki(device: Identity) -> None:
    key = ecdsa.VerifyingKey.from_pem(
        device.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert key.curve.name == "NIST256p"
    assert device.fingerprint.hex == hashlib.sha256(key.to_der()).hexdigest()


def test_the_oracle_verifies_der_signatures_of_the_key(device: Identity) -> None:
    signature = device.private_key.sign(b"message", ec.ECDSA(hashes.SHA256()))
    key = ecdsa.VerifyingKey.from_pem(
        device.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    decode = ecdsa.util.sigdecode_der
    assert key.verify(signature, b"message", hashfunc=hashlib.sha256, sigdecode=decode)
    with pytest.raises(ecdsa.BadSignatureError):
        key.verify(signature, b"massage", hashfunc=hashlib.sha256, sigdecode=decode)


def oracle(identity: Identity) -> ecdsa.VerifyingKey:
    return ecdsa.VerifyingKey.from_pem(
        identity.public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def test_the_oracle_verifies_our_signatures(device: Identity) -> None:
    for number in range(20):
        message = b"message %d" * number
        signature = device.sign(message)
        assert len(signature) == 64
        assert oracle(device).verify(signature, message, hashfunc=hashlib.sha256)
        assert is_signed_untrusted(device.public_key, signature, message)


def test_signatures_of_the_oracle_are_verified(device: Identity) -> None:
    secret = device.private_key.private_numbers().private_value
    key = ecdsa.SigningKey.from_secret_exponent(secret, ecdsa.NIST256p)
    for number in range(20):
        message = b"message %d" % number
        signature = key.sign(message, hashfunc=hashlib.sha256)
        assert is_signed_untrusted(device.public_key, signature, message)


def test_an_invalid_signature_is_rejected(device: Identity, client: Identity) -> None:
    signature = device.sign(b"message")
    order = ecdsa.NIST256p.order
    high = (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert is_signed_untrusted(device.public_key, signature[:32] + high, b"message")
    assert not is_signed_untrusted(client.public_key, signature, b"message")
    assert not is_signed_untrusted(device.public_key, signature, b"massage")
    # as long as P-256, so its signatures have the right size
    other_curve = ec.generate_private_key(ec.SECP256K1())
    r, s = decode_dss_signature(other_curve.sign(b"message", ec.ECDSA(hashes.SHA256())))
    theirs = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert not is_signed_untrusted(other_curve.public_key(), theirs, b"message")
    zero, n, most = bytes(32), order.to_bytes(32, "big"), b"\xff" * 32
    for other in (
        b"",
        signature[:63],
        signature + b"\0",
        signature[:32] + b"\0" + signature[32:],  # the same numbers in another encoding
        signature[32:] + signature[:32],
        zero + signature[32:],
        signature[:32] + zero,
        zero + zero,
        n + n,
        most + most,
        device.private_key.sign(b"message", ec.ECDSA(hashes.SHA256())),  # DER
    ):
        assert not is_signed_untrusted(device.public_key, other, b"message")


@given(st.binary(max_size=80))
def test_random_bytes_are_rejected_as_a_signature(signature: bytes) -> None:
    key = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    assert not is_signed_untrusted(key, signature, b"message")


@given(digests)
def test_every_text_form_of_a_fingerprint_is_parsed(fingerprint: Fingerprint) -> None:
    colons = ":".join(fingerprint.hex[at : at + 2] for at in range(0, 64, 2))
    for text in (
        fingerprint.hex,
        fingerprint.hex.upper(),
        fingerprint.grouped,
        colons.upper(),
        fingerprint.ni,
        f" {fingerprint.grouped}\n",
    ):
        assert Fingerprint.parse(text) == fingerprint


@given(st.text())
def test_any_text_is_a_fingerprint_or_malformed(text: str) -> None:
    try:
        assert len(Fingerprint.parse(text).digest) == 32
    except Malformed as error:
        assert error.advice  # noqa: PT017 - only this error may come


@pytest.mark.parametrize(
    "text",
    ["", "ab", "g" * 64, "0" * 63, "0" * 65, "ni:///sha-256;AA", "ni:///sha-256;é", "٣" * 64],
)
def test_an_invalid_fingerprint_is_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        Fingerprint.parse(text)


def test_the_device_id_is_the_first_forty_bits_in_crockford_base32() -> None:
    assert Fingerprint(bytes(32)).device_id == "00000000"
    assert Fingerprint(b"\xff" * 32).device_id == "ZZZZZZZZ"
    assert Fingerprint(bytes([0b00001_000, 0b10_00011_0]) + bytes(30)).device_id == "12300000"


def test_a_key_file_is_created_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key.pem"
    before = os.umask(0)
    try:
        made = Identity.load_or_create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Identity.load_or_create(path).fingerprint == made.fingerprint
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = Identity.create()
    first.save(path)
    with pytest.raises(FileExistsError):
        Identity.create().save(path)
    assert Identity.load(path).fingerprint == first.fingerprint


def test_concurrent_first_starts_use_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    program = (
        "import sys; from pathlib import Path; from peer.identity import Identity;"
        "sys.stdin.read(1); print(Identity.load_or_create(Path(sys.argv[1])).fingerprint)"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("x")
        start.stdin.flush()
    assert len({start.communicate(timeout=60)[0] for start in starts}) == 1
    assert all(start.returncode == 0 for start in starts)


def test_a_key_file_that_other_users_can_read_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    Identity.create().save(path)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="readable by other users") as caught:
        Identity.load(path)
    assert "chmod 600" in caught.value.advice


def test_a_damaged_or_foreign_key_is_rejected_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    foreign: list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ]
    contents = [b"", b"not a key", Identity.create().key_pem()[:100]] + [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for key in foreign
    ]
    for content in contents:
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(IdentityError):
            Identity.load_or_create(path)
        assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(IdentityError, match="cannot read"):
        Identity.load(path)


def test_a_repr_shows_no_private_key(device: Identity) -> None:
    secret = format(device.private_key.private_numbers().private_value, "x")
    assert secret not in repr(device)
    assert repr(device) == f"Identity({device.fingerprint})"
    assert b"PRIVATE" not in device.certificate_pem()


def test_the_certificate_has_the_longest_validity_period(device: Identity) -> None:
    certificate = device.certificate
    assert certificate.not_valid_before_utc.year == 1970
    assert certificate.not_valid_after_utc.year == 9999


def test_the_certificate_of_a_key_never_changes(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first, second = Identity.load_or_create(path), Identity.load_or_create(path)
    assert first.certificate_pem() == second.certificate_pem()
    assert Identity.create().certificate_pem() != first.certificate_pem()


def test_the_certificate_names_the_host_of_the_devices_advert(device: Identity) -> None:
    names = device.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    host = f"handfast-{device.fingerprint.device_id.lower()}.local"
    assert names.value.get_values_for_type(x509.DNSName) == [host]
    assert not names.critical
