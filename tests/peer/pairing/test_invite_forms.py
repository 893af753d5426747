"""Invite tokens with other headers, structures, encodings or claims are rejected."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from tests.kit.tokens import DEVICE, GUEST, TOKEN, canonical, claims, forged, header, refused


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
    ids=type,  # the values contain a new key in each run, and test ids must not change
)
def test_other_protected_headers_are_rejected(other: object) -> None:
    refused(forged(header=other))


@pytest.mark.parametrize("other", [{1: -7}, {4: b"x"}, {2: [1]}, {"a": 1}, {1: -35}])
def test_any_unprotected_header_is_rejected(other: object) -> None:
    refused(forged(unprotected=other))
    refused(forged(header={}, unprotected=other))
    refused(forged(header=b"", unprotected={1: -7, 4: DEVICE.fingerprint.digest}))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: [p[0], p[1], None, p[3]],  # a detached payload
        # a payload that is not wrapped in a byte string
        lambda p: [p[0], p[1], cbor2.loads(p[2]), p[3]],
        lambda p: p[:3],
        lambda p: [*p, b""],
        lambda p: [cbor2.loads(p[0]), *p[1:]],
        lambda p: [p[0], [], p[2], p[3]],
        lambda p: [p[0], None, p[2], p[3]],
        lambda p: [*p[:3], p[3][:63]],
        lambda p: [*p[:3], p[3] + b"\0"],
        lambda p: [*p[:3], b""],
        lambda p: [*p[:3], None],
        lambda p: [*p[:3], [b"\x26", {}, p[3]]],  # COSE_Sign: several signers
        lambda p: {0: p},
        lambda p: p[3],
        lambda _: None,
    ],
)
def test_any_structure_but_cose_sign1_is_rejected(change: Callable[[list[Any]], object]) -> None:
    refused(canonical(change(cbor2.loads(TOKEN.sign(DEVICE)))))


def test_other_encodings_of_a_valid_token_are_rejected() -> None:
    signed = TOKEN.sign(DEVICE)
    assert signed[0] == 0x84
    assert signed[1:3] == b"\x58\x26"
    for other in (
        b"\xd2" + signed,  # tag 18
        b"\xd8\x3d\xd2" + signed,  # tags 61 and 18
        b"\xd8\x3d" + signed,
        b"\xd2\xd2" + signed,
        b"\xd9\xd9\xf7" + signed,  # the tag for self-described CBOR
        signed + b"\0",
        signed + signed,
        signed[:-1],
        signed[1:],
        b"\x9f" + signed[1:] + b"\xff",  # indefinite lengths
        signed[:1] + b"\x5f" + signed[1:41] + b"\xff" + signed[41:],
        b"\x98\x04" + signed[1:],  # a longer length encoding than needed
        signed[:1] + b"\x59\x00\x26" + signed[3:],
        canonical(signed),  # wrapped in another byte string
        b"",
    ):
        refused(other)


@pytest.mark.parametrize(
    "claim_set",
    [
        claims(c2=None),
        claims(c2=""),
        claims(c2=b"anna"),
        claims(c2="two  spaces"),
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
        b"\xa2\x02\x61a\x02\x61b",  # a duplicate key
    ],
)
def test_invalid_claims_are_rejected(claim_set: object) -> None:
    refused(forged(claim_set))


def test_a_null_holder_is_rejected() -> None:
    claim_set = claims()
    claim_set[8] = None
    refused(forged(claim_set))
