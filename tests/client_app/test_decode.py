"""Decoding of a device's responses about users, rules, invites, window and events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app import decode
from client_app.decode import me_untrusted
from client_app.decode_events import events_untrusted
from client_app.models import Condition, Invite, Permission, Role, User, UserKey, Window
from client_app.pairing import redemption
from peer import cbor
from peer.errors import Malformed

FP = "ab" * 32
DIGESTS = [f"{number:064x}" for number in range(10)]


def event(seq: int, **more: object) -> dict[str, object]:
    links = {"digest": DIGESTS[seq], "previous": DIGESTS[seq - 1]}
    return {"seq": seq, "kind": "key-added", "wall": 1.5, **links, **more}


USER = {
    "name": "anna",
    "role": "owner",
    "created": 5,
    "keys": [
        {"fingerprint": FP, "name": "phone", "method": "compare", "verified": True, "added": 6}
    ],
}
INVITE = {
    "id": "0f" * 16,
    "name": "mia",
    "role": "guest",
    "uses": 1,
    "created": 1,
    "expires": 9,
    "inviter": "anna",
}
GOOD: dict[str, tuple[Callable[[bytes], object], Any]] = {
    "users": (decode.users_untrusted, [USER, {**USER, "last_seen": 7, "not_after": None}]),
    "user": (decode.user_untrusted, USER),
    "roles": (decode.roles_untrusted, [{"id": "guest", "rank": 10, "policies": ["core-guest"]}]),
    "policies": (
        decode.policies_untrusted,
        [
            {
                "id": "p",
                "statements": [
                    {
                        "effect": "Allow",
                        "actions": ["A:B"],
                        "conditions": [{"operator": "Bool", "attribute": "X:Y", "values": ["1"]}],
                    }
                ],
            }
        ],
    ),
    "invites": (decode.invites_untrusted, [INVITE, {**INVITE, "key": FP, "not_after": 8}]),
    "invitation": (decode.invitation_untrusted, {**INVITE, "token": "HANDFAST:I:0123ABC+"}),
    "window": (
        decode.window_untrusted,
        {"open": True, "port": 5, "seconds_left": 1.5, "role": "guest", "methods": ["compare"]},
    ),
    "check": (decode.permission_untrusted, {"action": "A:B", "allowed": False, "missing": "much"}),
    "check that depends": (
        decode.permission_untrusted,
        {"action": "A:B", "allowed": False, "missing": "much", "depends": ["Lamp:Room"]},
    ),
    "events": (
        events_untrusted,
        {"head": 2, "digest": DIGESTS[2], "events": [event(1), event(2, hop_limit=64, user="x")]},
    ),
    "me": (
        lambda payload: me_untrusted(payload).whoami,
        {"user": "a", "role": "b", "actions": ["A:B"], "conditional": ["C:D"], "until": 5},
    ),
    "redeemed": (redemption.redeemed_untrusted, {"user": "a", "role": "b", "name": "c"}),
}


def test_each_valid_response_is_decoded() -> None:
    found: dict[str, Any] = {name: read(cbor.encode(body)) for name, (read, body) in GOOD.items()}
    key = UserKey(FP, "phone", "compare", verified=True, added=6)
    anna = User("anna", "owner", 5, (key,))
    assert found["user"] == anna
    assert found["users"][1].last_seen == 7
    assert found["roles"] == (Role("guest", 10, ("core-guest",)),)
    policy = found["policies"][0]
    assert policy.statements[0].conditions == (Condition("Bool", "X:Y", ("1",)),)
    mia = Invite("0f" * 16, "mia", "guest", 1, 1, 9, "anna")
    assert found["invites"][0] == mia
    assert found["window"] == Window(
        open=True, port=5, seconds_left=1.5, role="guest", methods=("compare",)
    )
    assert found["check"] == Permission("A:B", allowed=False, missing="much")
    assert found["check that depends"].depends == ("Lamp:Room",)
    assert found["events"].events[1].fields == {"hop_limit": 64, "user": "x"}
    assert found["me"].conditional == ("C:D",)


def test_a_closed_window_needs_no_other_field() -> None:
    assert decode.window_untrusted(cbor.encode({"open": False})) == Window(open=False)


def test_unknown_fields_of_a_newer_device_are_ignored() -> None:
    for name, (read, body) in GOOD.items():
        if isinstance(body, dict) and name != "events":
            assert read(cbor.encode({**body, "newer": [1]})) == read(cbor.encode(body))


def test_the_token_of_an_invite_is_in_no_repr_and_no_error() -> None:
    made = decode.invitation_untrusted(cbor.encode({**INVITE, "token": "HANDFAST:I:SECRET"}))
    assert made.token == "HANDFAST:I:SECRET"
    assert "SECRET" not in repr(made)
    for token in ("HANDFAST:I:SECRET\x1b[2J", "HANDFAST:1:SECRET", "secret", b"SECRET", ""):
        with pytest.raises(Malformed) as caught:
            decode.invitation_untrusted(cbor.encode({**INVITE, "token": token}))
        assert "SECRET" not in f"{caught.value} {caught.value.advice}".upper()


@pytest.mark.parametrize(
    "bad",
    [
        [event(2), event(1)],
        [event(1), event(1)],
        [event(1), event(2, previous=DIGESTS[5])],  # a link to another event
        [event(1), event(2, digest=DIGESTS[5])],  # not the digest of the head
        [event(2), event(3)],  # beyond the head
        [event(2, schema=2)],
        [event(2, lost=2)],
        [event(2, **{"\x1b[2J": "x"})],
        [event(2, detail=[])],
        [event(2, detail=None)],
        [event(2, wall=float("nan"))],
        [event(2, wall=1e300)],
        [event(2) | {"seq": 2**63}],
    ],
    ids=str,
)
def test_an_invalid_audit_trail_is_malformed(bad: list[dict[str, object]]) -> None:
    with pytest.raises(Malformed):
        events_untrusted(cbor.encode({"head": 2, "digest": DIGESTS[2], "events": bad}))


def test_a_gap_within_the_returned_events_is_malformed() -> None:
    """Even if the links are forged to fit: pruning removes the oldest events only."""
    events = [event(1), event(3) | {"previous": DIGESTS[1]}]
    with pytest.raises(Malformed, match="event 3 follows event 1"):
        events_untrusted(cbor.encode({"head": 3, "digest": DIGESTS[3], "events": events}))


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**64), 2**64 - 1),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=8),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(-3, 3), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths_of(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The path of every value in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    return [path] + [
        deeper
        for key, item in inner
        for deeper in (
            paths_of(item, (*path, key)) if isinstance(item, dict | list) else [(*path, key)]
        )
    ]


def with_value(body: Any, path: tuple[object, ...], value: object) -> Any:
    if not path:
        return value
    changed = deepcopy(body)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", GOOD)
@given(data=st.data())
def test_a_response_with_one_changed_value_is_decoded_or_malformed(
    name: str, data: st.DataObject
) -> None:
    """Replacing any one value of a valid response never raises anything but Malformed."""
    read, body = GOOD[name]
    changed = with_value(body, data.draw(st.sampled_from(paths_of(body))), data.draw(ANYTHING))
    with contextlib.suppress(Malformed):
        read(cbor.encode(changed))


@pytest.mark.parametrize("name", GOOD)
@given(payload=st.binary(max_size=64))
def test_random_bytes_are_decoded_or_malformed(name: str, payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        GOOD[name][0](payload)
