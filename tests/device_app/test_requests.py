"""Encoding and decoding of the request bodies for users, keys and invites."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.bodies import KeyRequest, UserPatch, UserRequest
from device_app.access.invitations import InviteRequest
from device_app.limits import LABEL_CHARACTERS_MAX
from iam.changes import KEEP
from iam.limits import INVITE_USES_MAX
from iam.model import Key, User
from peer.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

FINGERPRINT = "ab" * 32
NOW, LATEST = 1_900_000_000, 253_402_300_799

names = st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)
labels = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=LABEL_CHARACTERS_MAX)
begins = st.none() | st.integers(0, NOW).map(float)
ends = st.none() | st.integers(NOW + 1, LATEST).map(float)
keys = st.builds(KeyRequest, fingerprint=st.just(FINGERPRINT), name=labels)
users = st.builds(
    UserRequest,
    name=names,
    role=names,
    keys=st.lists(keys, max_size=1).map(tuple),
    display_name=labels,
    not_before=begins,
    not_after=ends,
)
patches = st.builds(
    UserPatch,
    name=st.none() | names,
    role=st.none() | names,
    display_name=st.none() | labels,
    not_before=st.just(KEEP) | begins,
    not_after=st.just(KEEP) | ends,
)
invites = st.builds(
    InviteRequest,
    name=names,
    role=names,
    seconds=st.none() | st.integers(1, 10**6).map(float),
    uses=st.integers(1, INVITE_USES_MAX),
    key=st.none() | st.just(FINGERPRINT),
    not_after=ends,
)


@given(users | patches | invites)
def test_a_decoded_request_equals_the_encoded_one(
    request: UserRequest | UserPatch | InviteRequest,
) -> None:
    body = json.loads(json.dumps(request.to_json()))
    assert type(request).parse_untrusted(body) == request


@given(users)
def test_a_request_made_from_a_user_creates_an_equal_user(request: UserRequest) -> None:
    user = request.user(5.0)
    assert UserRequest.from_user(user).user(5.0) == user
    assert (user.created, {key.added for key in user.keys} <= {5.0}) == (5.0, True)


def test_a_key_is_added_by_any_notation_of_its_fingerprint() -> None:
    grouped = "-".join(["ABAB"] * 16)
    user = UserRequest(name="anna", role="guest", keys=(KeyRequest(fingerprint=grouped),)).user(7.0)
    assert user == User(
        "anna", "guest", (Key(FINGERPRINT, "", "given", verified=True, added=7.0),), created=7.0
    )


@pytest.mark.parametrize(
    ("parse", "body", "field"),
    [
        (UserRequest.parse_untrusted, {"name": "anna"}, "role"),
        (UserRequest.parse_untrusted, {"name": "anna", "role": "guest", "keys": "ab"}, "keys"),
        (UserRequest.parse_untrusted, {"name": "anna", "role": "guest", "keys": [7]}, "keys"),
        (UserRequest.parse_untrusted, {"name": "anna", "role": "guest", "rank": 1}, "rank"),
        (UserRequest.parse_untrusted, {"name": "anna", "role": ""}, "role"),
        (UserRequest.parse_untrusted, {"name": "anna", "role": 7}, "role"),
        (
            UserRequest.parse_untrusted,
            {"name": "anna", "role": "guest", "keys": [{"fingerprint": FINGERPRINT, "rank": 1}]},
            "rank",
        ),
        (UserPatch.parse_untrusted, {"display": 7}, "display"),
        (UserPatch.parse_untrusted, {"display": "x" * (LABEL_CHARACTERS_MAX + 1)}, "display"),
        (UserPatch.parse_untrusted, {"display": "\x1b[2J"}, "display"),
        (UserPatch.parse_untrusted, {"not_after": "soon"}, "not_after"),
        (UserPatch.parse_untrusted, {"not_after": True}, "not_after"),
        (UserPatch.parse_untrusted, {"not_after": LATEST + 1}, "not_after"),
        (UserPatch.parse_untrusted, {"not_after": -LATEST - 1}, "not_after"),
        (UserPatch.parse_untrusted, {"not_after": 10**400}, "not_after"),
        (UserPatch.parse_untrusted, {"not_before": float("nan")}, "not_before"),
        (UserPatch.parse_untrusted, {"keys": []}, "keys"),
        (InviteRequest.parse_untrusted, {"name": "anna", "uses": INVITE_USES_MAX + 1}, "uses"),
        (InviteRequest.parse_untrusted, {"name": "anna", "rank": 1}, "rank"),
        (InviteRequest.parse_untrusted, {"name": "anna", "uses": 0}, "uses"),
        (InviteRequest.parse_untrusted, {"name": "anna", "uses": 1.5}, "uses"),
        (InviteRequest.parse_untrusted, {"name": "anna", "uses": True}, "uses"),
        (InviteRequest.parse_untrusted, {"name": "anna", "seconds": 0}, "seconds"),
        (InviteRequest.parse_untrusted, {"name": "anna", "seconds": True}, "seconds"),
        (InviteRequest.parse_untrusted, {"name": "anna", "seconds": LATEST + 1}, "seconds"),
        (InviteRequest.parse_untrusted, {"name": "anna", "seconds": float("nan")}, "seconds"),
        (InviteRequest.parse_untrusted, {"name": "anna", "key": 7}, "fingerprint"),
    ],
)
def test_a_wrong_field_is_named(
    parse: Callable[[dict[str, object]], object], body: dict[str, object], field: str
) -> None:
    with pytest.raises(Malformed, match=field):
        parse(body)
