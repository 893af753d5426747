"""Valid and forged invite tokens, made with another implementation."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import Fingerprint, Identity
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


def claims(**others: Any) -> dict[Any, Any]:
    """The claims of TOKEN as CBOR values; `c4=…` replaces claim 4, and None removes it."""
    claim_set = {
        2: "anna",
        4: 1_800_172_800,
        6: 1_800_000_000,
        7: bytes(range(16)),
        8: {3: GUEST.digest},
        9: "guest",
        -65537: list(TOKEN.addresses),
    }
    claim_set |= {int(key[1:].replace("_", "-")): value for key, value in others.items()}
    return {key: value for key, value in claim_set.items() if value is not None}


def canonical(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def forged(
    claim_set: object = None,
    *,
    header: object = None,
    unprotected: object = None,
    write: Callable[[object], bytes] = canonical,
) -> bytes:
    """A token signed with the device's key that is valid except for the given parts."""
    payload = (
        claim_set
        if isinstance(claim_set, bytes)
        else write(claims() if claim_set is None else claim_set)
    )
    own = {1: -7, 4: DEVICE.fingerprint.digest}
    protected = header if isinstance(header, bytes) else write(own if header is None else header)
    signature = DEVICE.sign(canonical(["Signature1", protected, b"", payload]))
    return write([protected, {} if unprotected is None else unprotected, payload, signature])


def refused(signed: bytes) -> None:
    """Assert that the client and the device reject it, even with a valid signature."""
    with pytest.raises(Malformed) as caught:
        read_untrusted(signed)
    assert caught.value.advice
    with pytest.raises(Malformed):
        verify_untrusted(signed, DEVICE)
    with pytest.raises(Malformed):
        read_untrusted(InviteToken.text(signed))


# ---------------------------------------------------------------------------------- parts of tokens


def header(**others: Any) -> dict[Any, Any]:
    own = {1: -7, 4: DEVICE.fingerprint.digest}
    return own | {int(key[1:]): value for key, value in others.items()}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text()
    | st.binary(max_size=40) | st.sampled_from([16 * b"i", 32 * b"k", "anna", "guest"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.integers(-10, 10) | st.just(-65537) | st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
