"""Invite tokens: compatible with another COSE implementation (pycose), and forgery-proof."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import ecdsa
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from pycose.algorithms import Es256, Es384
from pycose.headers import KID, Algorithm
from pycose.keys.curves import P256
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint, Identity
from peer.pairing.armour import LABEL, armour_fields, base32
from peer.pairing.errors import Mismatch
from peer.pairing.invite import InviteToken, read_untrusted, verify_untrusted
from tests.kit.tokens import DEVICE, TOKEN, canonical, claims, forged, refused, values

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def oracle_key(identity: Identity = DEVICE) -> EC2Key:
    numbers = identity.private_key.private_numbers()
    point = numbers.public_numbers
    x, y, d = (value.to_bytes(32, "big") for value in (point.x, point.y, numbers.private_value))
    return EC2Key(crv=P256, x=x, y=y, d=d)


# ------------------------------------------------------------------------------------ round trips


def test_a_token_is_parsed_and_verified() -> None:
    signed = TOKEN.sign(DEVICE)
    assert read_untrusted(signed) == (TOKEN, signed)
    assert read_untrusted(TOKEN.text(signed)) == (TOKEN, signed)
    assert read_untrusted(f" {TOKEN.text(signed).lower()}\n") == (TOKEN, signed)
    assert verify_untrusted(signed, DEVICE) == TOKEN
    assert verify_untrusted(signed, DEVICE.public_key) == TOKEN


def test_the_forging_helper_can_make_a_valid_token() -> None:
    assert verify_untrusted(forged(), DEVICE) == TOKEN
    assert forged()[:-64] == TOKEN.sign(DEVICE)[:-64]


tokens = st.builds(
    InviteToken,
    device=st.just(DEVICE.fingerprint),
    id=st.binary(min_size=16, max_size=16),
    name=st.from_regex(r"[a-zà-ö0-9]{1,20}", fullmatch=True),
    role=st.from_regex(r"[a-z-]{1,20}", fullmatch=True),
    expires=st.integers(0, 253_402_300_799),
    issued=st.integers(0, 253_402_300_799),
    addresses=st.lists(st.just("192.0.2.7:5684"), max_size=6).map(tuple),
    key=st.none() | st.binary(min_size=32, max_size=32).map(Fingerprint),
)


@given(tokens)
def test_a_token_is_equal_after_signing_and_parsing(token: InviteToken) -> None:
    signed = token.sign(DEVICE)
    assert verify_untrusted(signed, DEVICE) == token
    assert read_untrusted(token.text(signed))[0] == token
    assert cbor2.dumps(cbor2.loads(signed), canonical=True) == signed


def test_an_unbound_token_without_hints_is_the_shortest() -> None:
    token = replace(TOKEN, key=None, addresses=())
    signed = token.sign(DEVICE)
    assert cbor2.loads(cbor2.loads(signed)[2]).keys() == {2, 4, 6, 7, 9}
    assert verify_untrusted(signed, DEVICE) == token


def test_unknown_claims_are_ignored() -> None:
    assert verify_untrusted(forged(claims(c_65538="new", c3="audience")), DEVICE) == TOKEN


# ---------------------------------------------------------------------------------------- pycose


def test_pycose_verifies_our_tokens() -> None:
    message = Sign1Message.from_cose_obj(cbor2.loads(TOKEN.sign(DEVICE)), True)
    message.key = oracle_key()
    assert message.verify_signature()
    assert message.phdr == {Algorithm: Es256, KID: DEVICE.fingerprint.digest}
    assert message.uhdr == {}
    assert cbor2.loads(message.payload or b"") == claims()


def by_pycose(payload: bytes, **options: Any) -> bytes:
    header = {Algorithm: Es256, KID: DEVICE.fingerprint.digest}
    message = Sign1Message(phdr=options.pop("phdr", header), payload=payload, **options)
    message.key = oracle_key()
    encoded: bytes = message.encode(tag=False)
    return encoded


def test_a_token_made_by_pycose_is_verified() -> None:
    signed = by_pycose(canonical(claims()))
    assert verify_untrusted(signed, DEVICE) == TOKEN
    assert read_untrusted(InviteToken.text(signed)) == (TOKEN, signed)


def test_a_pycose_message_in_another_form_is_rejected() -> None:
    kid = DEVICE.fingerprint.digest
    payload = canonical(claims())
    tagged = Sign1Message(phdr={Algorithm: Es256, KID: kid}, payload=payload)
    tagged.key = oracle_key()
    refused(tagged.encode())  # tag 18
    refused(by_pycose(payload, phdr={Algorithm: Es256}, uhdr={KID: kid}))
    refused(by_pycose(payload, uhdr={KID: kid}))


def test_a_signature_with_external_aad_is_rejected() -> None:
    with pytest.raises(Mismatch, match="not signed"):
        verify_untrusted(by_pycose(canonical(claims()), external_aad=b"rotation"), DEVICE)


# ------------------------------------------------------------------------------------- signatures


def test_any_flipped_bit_is_rejected() -> None:
    signed = TOKEN.sign(DEVICE)
    for at in range(len(signed)):
        for bit in (0x01, 0x80):
            changed = bytearray(signed)
            changed[at] ^= bit
            with pytest.raises((Malformed, Mismatch)):
                verify_untrusted(bytes(changed), DEVICE)


def test_a_token_of_another_device_or_key_is_rejected() -> None:
    other = Identity.create()
    theirs = replace(TOKEN, device=other.fingerprint).sign(other)
    with pytest.raises(Mismatch, match="another device"):
        verify_untrusted(theirs, DEVICE)
    # The right fingerprint, with a signature by another key.
    parts = cbor2.loads(TOKEN.sign(DEVICE))
    parts[3] = other.sign(canonical(["Signature1", parts[0], b"", parts[2]]))
    with pytest.raises(Mismatch, match="not signed"):
        verify_untrusted(canonical(parts), DEVICE)
    with pytest.raises(ValueError, match="key of its device"):
        TOKEN.sign(other)


def with_signature(change: Callable[[int, int], tuple[int, int]]) -> bytes:
    parts = cbor2.loads(TOKEN.sign(DEVICE))
    r, s = (int.from_bytes(half, "big") for half in (parts[3][:32], parts[3][32:]))
    parts[3] = b"".join(value.to_bytes(32, "big") for value in change(r, s))
    return canonical(parts)


@pytest.mark.parametrize(
    "change",
    [
        lambda _r, s: (0, s),
        lambda r, _s: (r, 0),
        lambda _r, _s: (0, 0),
        lambda _r, _s: (ORDER, ORDER),
        lambda r, _s: (r, ORDER),
        lambda r, s: (s, r),
        lambda _r, _s: (2**256 - 1, 2**256 - 1),
        lambda _r, _s: (1, 1),
    ],
)
def test_degenerate_signatures_are_rejected(change: Callable[[int, int], tuple[int, int]]) -> None:
    with pytest.raises(Mismatch):
        verify_untrusted(with_signature(change), DEVICE)


def test_a_signature_with_high_s_is_accepted() -> None:
    # RFC 9053 allows both. Redeemed invites are counted by ID, so a second signature is of no use.
    assert verify_untrusted(with_signature(lambda r, s: (r, ORDER - s)), DEVICE) == TOKEN


def test_a_der_signature_is_rejected() -> None:
    parts = cbor2.loads(TOKEN.sign(DEVICE))
    key = ecdsa.SigningKey.from_secret_exponent(5, ecdsa.NIST256p)
    parts[3] = key.sign(b"", sigencode=ecdsa.util.sigencode_der)
    refused(canonical(parts))


def test_a_key_on_another_curve_is_rejected() -> None:
    with pytest.raises(Mismatch):
        verify_untrusted(TOKEN.sign(DEVICE), ec.generate_private_key(ec.SECP384R1()).public_key())


# ------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kitchen", "neither a label nor an invite"),
        (armour_fields(LABEL, "00", "00", "00"), "this is a label, not an invite"),
        (TOKEN.text(TOKEN.sign(DEVICE))[:-5], "contains an error|invite"),
        (armour_fields("I", base32(b"junk")), "this invite"),
        (armour_fields("I", "00", "00"), "does not support"),
        (None, "neither text nor bytes"),
        (7, "neither text nor bytes"),
    ],
)
def test_an_invalid_invite_is_rejected_with_a_reason(text: object, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        read_untrusted(text)
    assert caught.value.advice


def test_any_omitted_symbol_is_detected() -> None:
    # The check symbol misses one omission in 37; the length fields detect the others.
    text = TOKEN.text(TOKEN.sign(DEVICE))
    for at in range(len(text)):
        with pytest.raises(Malformed):
            read_untrusted(text[:at] + text[at + 1 :])


# A terminal of 80 columns has room for 17 + 4·13 = 69 modules, 77 with the quiet zone.
QR_VERSION = 13
LONG = replace(
    TOKEN,
    name="n" * 64,
    role="r" * 20,
    addresses=tuple(f"{'x' * 40}{number}.example:5684" for number in range(6)),
)


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        replace(TOKEN, key=None, addresses=()),
        LONG,
        replace(LONG, key=None),
        replace(TOKEN, name="名" * 60, key=None),
    ],
)
def test_the_qr_code_of_the_text_fits_a_terminal(token: InviteToken) -> None:
    text = token.text(token.sign(DEVICE))
    code = segno.make(text, error="l", boost_error=False, micro=False)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= QR_VERSION
    assert code.symbol_size(border=4)[0] <= 80


def test_address_hints_that_do_not_fit_are_omitted_from_the_end() -> None:
    kept = read_untrusted(LONG.sign(DEVICE))[0]
    assert kept == replace(LONG, addresses=LONG.addresses[: len(kept.addresses)])
    assert 1 <= len(kept.addresses) < 6


def test_a_name_that_is_too_long_for_a_token_is_rejected_with_advice() -> None:
    with pytest.raises(UsageError, match="too long") as caught:
        replace(TOKEN, name="𝒶" * 63).sign(DEVICE)
    assert caught.value.advice


# ---------------------------------------------------------------------------------- random input


@given(st.binary() | st.text())
def test_any_input_is_parsed_or_malformed(junk: bytes | str) -> None:
    for thing in (junk, f"HANDFAST:I:{junk!s}"):
        with pytest.raises(Malformed):
            read_untrusted(thing)
    with pytest.raises(Malformed):
        verify_untrusted(junk, DEVICE)


@given(values, values, values)
def test_any_values_in_a_token_are_parsed_or_malformed(
    claim: object, head: object, beside: object
) -> None:
    claim_set: dict[int, object] = dict.fromkeys([2, 4, 6, 7, 8, 9, -65537], claim)
    for signed in (
        forged(claim),
        forged(claim_set),
        forged(claims(c8=claim, c_65537=head)),
        forged(header=head),
        forged(header=beside, unprotected=beside),
        canonical([claim, head, beside, b"s" * 64]),
        canonical(claim),
    ):
        for thing in (signed, InviteToken.text(signed)):
            try:
                token, _ = read_untrusted(thing)
            except Malformed:
                continue
            assert token.name == "anna"


@given(st.integers(0, 400), st.binary(max_size=8))
def test_any_changed_token_is_parsed_or_malformed(at: int, patch: bytes) -> None:
    signed = forged()
    changed = signed[:at] + patch + signed[at + len(patch) :]
    try:
        read_untrusted(changed)
    except Malformed as error:
        assert error.advice  # noqa: PT017 - only this error may come


def test_a_repr_or_an_error_shows_no_signed_bytes() -> None:
    signed = TOKEN.sign(DEVICE)
    text = TOKEN.text(signed)
    output = repr(TOKEN)
    for give in (text + "0", text[:-1], signed[:-1], b"\xd2" + signed, text.replace("I:", "1:")):
        with pytest.raises(Malformed) as caught:
            read_untrusted(give)
        output += f"{caught.value!r} {caught.value.advice} {caught.value.__cause__}"
    with pytest.raises(Mismatch) as mismatch:
        verify_untrusted(signed, Identity.create())
    output += f"{mismatch.value!r} {mismatch.value.advice} {mismatch.value.__cause__}"
    for secret in (signed[-64:].hex(), repr(signed[-20:])[2:-1], text[-90:-50]):
        assert secret not in output


def test_es384_is_rejected() -> None:
    refused(forged(header={1: Es384.identifier, 4: DEVICE.fingerprint.digest}))
