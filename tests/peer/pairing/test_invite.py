"""The token of an invite: read and written by a foreign COSE (pycose), and forged."""

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

DEVICE = Identity.create()
GUEST = Fingerprint(b"\x0c" * 32)
TOKEN = InviteToken(
    device=DEVICE.fingerprint,
    id=bytes(range(16)),
    name="anna",
    role="guest",
    expires=1_800_172_800,
    issued=1_800_000_000,
    addresses=("192.0.2.7:5684", "[2001:db8::7]:5684", "[fe80::1%eth0]:5684", "lamp.example:7000"),
    key=GUEST,
)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def oracle_key(identity: Identity = DEVICE) -> EC2Key:
    numbers = identity.private_key.private_numbers()
    point = numbers.public_numbers
    x, y, d = (value.to_bytes(32, "big") for value in (point.x, point.y, numbers.private_value))
    return EC2Key(crv=P256, x=x, y=y, d=d)


def claims(**others: Any) -> dict[Any, Any]:
    """What TOKEN claims, in plain CBOR values; `c4=…` is another claim 4, None takes it away."""
    said = {
        2: "anna",
        4: 1_800_172_800,
        6: 1_800_000_000,
        7: bytes(range(16)),
        8: {3: GUEST.digest},
        9: "guest",
        -65537: list(TOKEN.addresses),
    }
    said |= {int(key[1:].replace("_", "-")): value for key, value in others.items()}
    return {key: value for key, value in said.items() if value is not None}


def canonical(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def forged(
    said: object = None,
    *,
    header: object = None,
    unprotected: object = None,
    write: Callable[[object], bytes] = canonical,
) -> bytes:
    """What an attacker could make who had the device's key: right in all but what is asked for."""
    payload = said if isinstance(said, bytes) else write(claims() if said is None else said)
    own = {1: -7, 4: DEVICE.fingerprint.digest}
    protected = header if isinstance(header, bytes) else write(own if header is None else header)
    signature = DEVICE.sign(canonical(["Signature1", protected, b"", payload]))
    return write([protected, {} if unprotected is None else unprotected, payload, signature])


def refused(signed: bytes) -> None:
    """By the client who reads it, and by the device, even with a right signature."""
    with pytest.raises(Malformed) as caught:
        read_untrusted(signed)
    assert caught.value.advice
    with pytest.raises(Malformed):
        verify_untrusted(signed, DEVICE)
    with pytest.raises(Malformed):
        read_untrusted(InviteToken.text(signed))


# ------------------------------------------------------------------------------------ round trips


def test_a_token_is_read_and_verified() -> None:
    signed = TOKEN.sign(DEVICE)
    assert read_untrusted(signed) == (TOKEN, signed)
    assert read_untrusted(TOKEN.text(signed)) == (TOKEN, signed)
    assert read_untrusted(f" {TOKEN.text(signed).lower()}\n") == (TOKEN, signed)
    assert verify_untrusted(signed, DEVICE) == TOKEN
    assert verify_untrusted(signed, DEVICE.public_key) == TOKEN


def test_the_forger_of_these_tests_makes_right_ones() -> None:
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
def test_every_token_survives(token: InviteToken) -> None:
    signed = token.sign(DEVICE)
    assert verify_untrusted(signed, DEVICE) == token
    assert read_untrusted(token.text(signed))[0] == token
    assert cbor2.dumps(cbor2.loads(signed), canonical=True) == signed


def test_an_unbound_token_without_hints_is_the_shortest() -> None:
    token = replace(TOKEN, key=None, addresses=())
    signed = token.sign(DEVICE)
    assert cbor2.loads(cbor2.loads(signed)[2]).keys() == {2, 4, 6, 7, 9}
    assert verify_untrusted(signed, DEVICE) == token


def test_claims_of_a_later_version_are_passed_over() -> None:
    assert verify_untrusted(forged(claims(c_65538="new", c3="audience")), DEVICE) == TOKEN


# ---------------------------------------------------------------------------------------- pycose


def test_pycose_reads_and_verifies_ours() -> None:
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


def test_ours_verifies_pycose() -> None:
    signed = by_pycose(canonical(claims()))
    assert verify_untrusted(signed, DEVICE) == TOKEN
    assert read_untrusted(InviteToken.text(signed)) == (TOKEN, signed)


def test_a_pycose_message_in_another_form_is_refused() -> None:
    kid = DEVICE.fingerprint.digest
    payload = canonical(claims())
    tagged = Sign1Message(phdr={Algorithm: Es256, KID: kid}, payload=payload)
    tagged.key = oracle_key()
    refused(tagged.encode())  # tag 18
    refused(by_pycose(payload, phdr={Algorithm: Es256}, uhdr={KID: kid}))
    refused(by_pycose(payload, uhdr={KID: kid}))


def test_pycose_with_another_context_is_a_forgery() -> None:
    with pytest.raises(Mismatch, match="not signed"):
        verify_untrusted(by_pycose(canonical(claims()), external_aad=b"rotation"), DEVICE)


# ------------------------------------------------------------------------------------- signatures


def test_a_flipped_bit_anywhere_is_refused() -> None:
    signed = TOKEN.sign(DEVICE)
    for at in range(len(signed)):
        for bit in (0x01, 0x80):
            changed = bytearray(signed)
            changed[at] ^= bit
            with pytest.raises((Malformed, Mismatch)):
                verify_untrusted(bytes(changed), DEVICE)


def test_another_device_and_another_key_are_refused() -> None:
    other = Identity.create()
    theirs = replace(TOKEN, device=other.fingerprint).sign(other)
    with pytest.raises(Mismatch, match="another device"):
        verify_untrusted(theirs, DEVICE)
    # The right fingerprint, signed by another key.
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
def test_degenerate_signatures_are_refused(change: Callable[[int, int], tuple[int, int]]) -> None:
    with pytest.raises(Mismatch):
        verify_untrusted(with_signature(change), DEVICE)


def test_high_s_is_as_good_as_low_s() -> None:
    # RFC 9053 asks for neither; what is redeemed counts by its id, so a second form gains nothing.
    assert verify_untrusted(with_signature(lambda r, s: (r, ORDER - s)), DEVICE) == TOKEN


def test_a_der_signature_is_refused() -> None:
    parts = cbor2.loads(TOKEN.sign(DEVICE))
    key = ecdsa.SigningKey.from_secret_exponent(5, ecdsa.NIST256p)
    parts[3] = key.sign(b"", sigencode=ecdsa.util.sigencode_der)
    refused(canonical(parts))


def test_a_token_of_another_curve_is_refused() -> None:
    with pytest.raises(Mismatch):
        verify_untrusted(TOKEN.sign(DEVICE), ec.generate_private_key(ec.SECP384R1()).public_key())


# ------------------------------------------------------------------------------------------- form


def header(**others: Any) -> dict[Any, Any]:
    own = {1: -7, 4: DEVICE.fingerprint.digest}
    return own | {int(key[1:]): value for key, value in others.items()}


@pytest.mark.parametrize(
    "other",
    [
        {},
        b"",
        {4: DEVICE.fingerprint.digest},
        header(h1=-35),
        header(h1=5),
        header(h1=-8),
        header(h1=None),
        header(h1="ES256"),
        header(h1=-7.0),
        {1: -7},
        header(h4=b"short"),
        header(h4=DEVICE.fingerprint.hex),
        header(h2=[1]),
        header(h2=[-70000]),
        header(h2=[]),
        header(h16="application/cwt"),
        header(h3=61),
        [],
        canonical(header()) + b"\0",
        cbor2.dumps({4: DEVICE.fingerprint.digest, 1: -7}),
        b"\xbf" + canonical(header())[1:] + b"\xff",
    ],
    ids=type,  # the key is another one each time, and names of tests are not
)
def test_other_protected_headers_are_refused(other: object) -> None:
    refused(forged(header=other))


@pytest.mark.parametrize("other", [{1: -7}, {4: b"x"}, {2: [1]}, {"a": 1}, {1: -35}])
def test_any_unprotected_header_is_refused(other: object) -> None:
    refused(forged(unprotected=other))
    refused(forged(header={}, unprotected=other))
    refused(forged(header=b"", unprotected={1: -7, 4: DEVICE.fingerprint.digest}))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: [p[0], p[1], None, p[3]],  # a detached payload
        lambda p: [p[0], p[1], cbor2.loads(p[2]), p[3]],  # a payload that is not wrapped
        lambda p: p[:3],
        lambda p: [*p, b""],
        lambda p: [cbor2.loads(p[0]), *p[1:]],
        lambda p: [p[0], [], p[2], p[3]],
        lambda p: [p[0], None, p[2], p[3]],
        lambda p: [*p[:3], p[3][:63]],
        lambda p: [*p[:3], p[3] + b"\0"],
        lambda p: [*p[:3], b""],
        lambda p: [*p[:3], None],
        lambda p: [*p[:3], [b"\x26", {}, p[3]]],  # COSE_Sign: many signers
        lambda p: {0: p},
        lambda p: p[3],
        lambda _: None,
    ],
)
def test_what_is_not_a_sign1_is_refused(change: Callable[[list[Any]], object]) -> None:
    refused(canonical(change(cbor2.loads(TOKEN.sign(DEVICE)))))


def test_other_encodings_of_a_right_token_are_refused() -> None:
    signed = TOKEN.sign(DEVICE)
    assert signed[0] == 0x84
    assert signed[1:3] == b"\x58\x26"
    for other in (
        b"\xd2" + signed,  # tag 18
        b"\xd8\x3d\xd2" + signed,  # tags 61 and 18
        b"\xd8\x3d" + signed,
        b"\xd2\xd2" + signed,
        b"\xd9\xd9\xf7" + signed,  # "this is CBOR"
        signed + b"\0",
        signed + signed,
        signed[:-1],
        signed[1:],
        b"\x9f" + signed[1:] + b"\xff",  # indefinite lengths
        signed[:1] + b"\x5f" + signed[1:41] + b"\xff" + signed[41:],
        b"\x98\x04" + signed[1:],  # a longer head than needed
        signed[:1] + b"\x59\x00\x26" + signed[3:],
        canonical(signed),  # wrapped once more
        b"",
    ):
        refused(other)


@pytest.mark.parametrize(
    "said",
    [
        claims(c2=None),
        claims(c2=""),
        claims(c2=b"anna"),
        claims(c2="two words"),
        claims(c2="Zoe\u0308"),
        claims(c2="x" * 65),
        claims(c4=None),
        claims(c4=1_800_172_800.0),
        claims(c4=1.5),
        claims(c4="1800172800"),
        claims(c4=True),
        claims(c4=-1),
        claims(c4=2**63),
        claims(c6=None),
        claims(c6=1_800_000_000.0),
        claims(c6=[1_800_000_000]),
        claims(c7=None),
        claims(c7=b""),
        claims(c7=b"x" * 15),
        claims(c7=b"x" * 17),
        claims(c7="x" * 16),
        claims(c9=None),
        claims(c9=""),
        claims(c9=b"guest"),
        claims(c9="gu\x1b[31mest"),
        claims(c9="x" * 65),
        claims(c8={1: {1: 2}}),
        claims(c8={}),
        claims(c8={3: b"short"}),
        claims(c8={3: GUEST.hex}),
        claims(c8={3: GUEST.digest, 1: {}}),
        claims(c8=GUEST.digest),
        claims(c8=[3, GUEST.digest]),
        claims(c_65537="192.0.2.7:5684"),
        claims(c_65537=[1]),
        claims(c_65537=["192.0.2.7"]),
        claims(c_65537=["192.0.2.7:0"]),
        claims(c_65537=["192.0.2.7:65536"]),
        claims(c_65537=["192.0.2.7:٣"]),
        claims(c_65537=["two words:5684"]),
        claims(c_65537=["a\n:5684"]),
        claims(c_65537=["a\u202e:5684"]),
        claims(c_65537=["user@host:5684"]),
        claims(c_65537=["2001:db8::7:5684"]),
        claims(c_65537=["[::1]:5684\n"]),
        claims(c_65537=["a:1"] * 7),
        claims(c_65537={0: "a:1"}),
        [],
        "anna",
        canonical(claims()) + b"\0",
        cbor2.dumps(dict(reversed(claims().items()))),
        cbor2.dumps(claims() | {4: cbor2.CBORTag(1, 1_800_172_800)}),
        b"\xa2\x02\x61a\x02\x61b",  # one key twice
    ],
)
def test_other_claims_are_refused(said: object) -> None:
    refused(forged(said))


def test_a_null_holder_is_not_an_unbound_token() -> None:
    said = claims()
    said[8] = None
    refused(forged(said))


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
def test_the_reason_is_said(text: object, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        read_untrusted(text)
    assert caught.value.advice


def test_a_symbol_left_out_is_found_everywhere() -> None:
    # The check symbol misses one in 37 of these; the lengths inside find the rest.
    text = TOKEN.text(TOKEN.sign(DEVICE))
    for at in range(len(text)):
        with pytest.raises(Malformed):
            read_untrusted(text[:at] + text[at + 1 :])


# What a terminal of 80 columns can show: 17 + 4·13 = 69 modules, 77 with the quiet zone.
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
def test_the_text_fits_a_qr_code_that_a_terminal_shows(token: InviteToken) -> None:
    text = token.text(token.sign(DEVICE))
    code = segno.make(text, error="l", boost_error=False, micro=False)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= QR_VERSION
    assert code.symbol_size(border=4)[0] <= 80


def test_hints_that_do_not_fit_are_left_out_from_the_end() -> None:
    kept = read_untrusted(LONG.sign(DEVICE))[0]
    assert kept == replace(LONG, addresses=LONG.addresses[: len(kept.addresses)])
    assert 1 <= len(kept.addresses) < 6


def test_a_name_that_leaves_no_room_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="too long") as caught:
        replace(TOKEN, name="𝒶" * 63).sign(DEVICE)
    assert caught.value.advice


# ---------------------------------------------------------------------------------------- anything


@given(st.binary() | st.text())
def test_anything_is_read_or_malformed(junk: bytes | str) -> None:
    for thing in (junk, f"HANDFAST:I*{junk!s}"):
        with pytest.raises(Malformed):
            read_untrusted(thing)
    with pytest.raises(Malformed):
        verify_untrusted(junk, DEVICE)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text()
    | st.binary(max_size=40) | st.sampled_from([16 * b"i", 32 * b"k", "anna", "guest"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.integers(-10, 10) | st.just(-65537) | st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(values, values, values)
def test_any_values_in_its_places_are_read_or_malformed(
    claim: object, head: object, beside: object
) -> None:
    said: dict[int, object] = dict.fromkeys([2, 4, 6, 7, 8, 9, -65537], claim)
    for signed in (
        forged(claim),
        forged(said),
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
def test_any_change_is_read_or_malformed(at: int, patch: bytes) -> None:
    signed = forged()
    changed = signed[:at] + patch + signed[at + len(patch) :]
    try:
        read_untrusted(changed)
    except Malformed as error:
        assert error.advice  # noqa: PT017 - only this error may come


def test_neither_repr_nor_errors_show_the_signed_bytes() -> None:
    signed = TOKEN.sign(DEVICE)
    text = TOKEN.text(signed)
    said = repr(TOKEN)
    for give in (text + "0", text[:-1], signed[:-1], b"\xd2" + signed, text.replace("I*", "1*")):
        with pytest.raises(Malformed) as caught:
            read_untrusted(give)
        said += f"{caught.value!r} {caught.value.advice} {caught.value.__cause__}"
    with pytest.raises(Mismatch) as mismatch:
        verify_untrusted(signed, Identity.create())
    said += f"{mismatch.value!r} {mismatch.value.advice} {mismatch.value.__cause__}"
    for secret in (signed[-64:].hex(), repr(signed[-20:])[2:-1], text[-90:-50]):
        assert secret not in said


def test_es384_is_refused() -> None:
    refused(forged(header={1: Es384.identifier, 4: DEVICE.fingerprint.digest}))
