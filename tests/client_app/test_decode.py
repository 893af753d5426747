"""What a device answers about its users, rules, invites, window and events: read, or Malformed."""

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
    "invitation": (decode.invitation_untrusted, {**INVITE, "token": "HANDFAST:I*0123ABC+"}),
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


def test_each_is_read() -> None:
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


def test_a_closed_window_has_nothing_else() -> None:
    assert decode.window_untrusted(cbor.encode({"open": False})) == Window(open=False)


def test_what_a_newer_device_adds_is_passed_over() -> None:
    for name, (read, body) in GOOD.items():
        if isinstance(body, dict) and name != "events":
            assert read(cbor.encode({**body, "newer": [1]})) == read(cbor.encode(body))


def test_a_token_is_in_no_repr_and_no_error() -> None:
    made = decode.invitation_untrusted(cbor.encode({**INVITE, "token": "HANDFAST:I*SECRET"}))
    assert made.token == "HANDFAST:I*SECRET"
    assert "SECRET" not in repr(made)
    for token in ("HANDFAST:I*SECRET\x1b[2J", "HANDFAST:1*SECRET", "secret", b"SECRET", ""):
        with pytest.raises(Malformed) as caught:
            decode.invitation_untrusted(cbor.encode({**INVITE, "token": token}))
        assert "SECRET" not in f"{caught.value} {caught.value.advice}".upper()


@pytest.mark.parametrize(
    "bad",
    [
        [event(2), event(1)],
        [event(1), event(1)],
        [event(1), event(2, previous=DIGESTS[5])],  # a link that does not hold
        [event(1), event(2, digest=DIGESTS[5])],  # not the end that is named
        [event(2), event(3)],  # beyond the end
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
def test_a_trail_that_does_not_hold(bad: list[dict[str, object]]) -> None:
    with pytest.raises(Malformed):
        events_untrusted(cbor.encode({"head": 2, "digest": DIGESTS[2], "events": bad}))


def test_a_hole_in_a_piece_is_none_of_pruning() -> None:
    """Also if the links are forged to fit: old events go from the front, never from within."""
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


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every place in a body where something else may stand."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    return [path] + [
        deeper
        for key, item in inner
        for deeper in (
            places(item, (*path, key)) if isinstance(item, dict | list) else [(*path, key)]
        )
    ]


def put(body: Any, path: tuple[object, ...], value: object) -> Any:
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
def test_one_thing_is_wrong(name: str, data: st.DataObject) -> None:
    """Any value in one place of a good answer is decoded, or is Malformed."""
    read, body = GOOD[name]
    changed = put(body, data.draw(st.sampled_from(places(body))), data.draw(ANYTHING))
    with contextlib.suppress(Malformed):
        read(cbor.encode(changed))


@pytest.mark.parametrize("name", GOOD)
@given(payload=st.binary(max_size=64))
def test_rubbish_is_malformed(name: str, payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        GOOD[name][0](payload)
