"""Values that docs/handfast.cddl does not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peer import cbor
from tests.kit.documents import CddlError

if TYPE_CHECKING:
    from tests.kit.documents import Cddl

GOOD_OFFER = {
    "version": 1,
    "id": "B9X7HK54",
    "name": "kitchen",
    "methods": ["compare"],
    "seconds": 112,
    "port": 5684,
    "fingerprint": "5a" * 32,
}
GOOD_KEY = {"fingerprint": "5a" * 32, "name": "", "method": "", "verified": True, "added": 0}
GOOD_ME = {
    "user": "anna",
    "role": "guest",
    "fingerprint": "5a" * 32,
    "key": "",
    "path": "local",
    "actions": ["Hello:Get"],
}
GOOD_INVITE = {
    "id": "a0" * 16,
    "name": "mia",
    "role": "guest",
    "uses": 1,
    "created": 0,
    "expires": 1,
    "inviter": "",
}
GOOD_MADE = {**GOOD_INVITE, "token": "HANDFAST:I:0AZ%"}
GOOD_WINDOW = {
    "open": True,
    "port": 5685,
    "seconds_left": 1.5,
    "role": "guest",
    "methods": ["compare"],
}
GOOD_EVENT = {
    "seq": 1,
    "digest": "5a" * 32,
    "previous": "00" * 32,
    "kind": "paired",
    "boot": "",
    "monotonic": 1.5,
    "wall": 0,
}
GOOD_EVENTS = {"head": 1, "digest": "5a" * 32, "events": [GOOD_EVENT]}
GOOD_CONDITION = {"operator": "Bool", "attribute": "Lamp:Room", "values": ["true"]}
GOOD_CLAIMS = {2: "mia", 4: 1, 6: 0, 7: bytes(16), 9: "guest"}
GOOD_BOARD = {"load": [0.5, 1, 2.5], "temperature": None, "uptime": 1.5, "memory_available": 1}


@pytest.mark.parametrize(
    ("rule", "good", "change"),
    [
        ("offer", GOOD_OFFER, {"version": 2}),
        ("offer", GOOD_OFFER, {"seconds": 3601}),
        ("offer", GOOD_OFFER, {"seconds": 1.5}),
        ("offer", GOOD_OFFER, {"port": 0}),
        ("offer", GOOD_OFFER, {"id": "B9X7HK5U"}),
        ("offer", GOOD_OFFER, {"id": "B9X7HK5"}),
        ("offer", GOOD_OFFER, {"methods": "compare"}),
        ("offer", GOOD_OFFER, {"fingerprint": "5A" * 32}),
        ("offer", GOOD_OFFER, {"fingerprint": "5a" * 31}),
        ("offer", GOOD_OFFER, {"fingerprint": "5a" * 33}),
        ("offer", GOOD_OFFER, {"fingerprint": b"Z" * 32}),
        ("pair-start", {"method": "compare", "name": "anna"}, {"name": ""}),
        ("pair-start", {"method": "compare", "name": "anna"}, {"name": "a" * 256}),
        ("pair-state", {"state": "REFUSED"}, {"state": "REGISTERED"}),
        ("pair-state", {"state": "REFUSED"}, {"state": "refused"}),
        ("pair-state", {"state": "REFUSED"}, {"user": "anna"}),
        ("pair-confirm", {"confirm": bytes(32)}, {"confirm": bytes(31)}),
        ("pair-confirm", {"confirm": bytes(32)}, {"confirm": bytes(33)}),
        ("pair-confirm", {"confirm": bytes(32)}, {"confirm": "0" * 32}),
        ("key-info", GOOD_KEY, {"verified": 1}),
        ("key-info", GOOD_KEY, {"added": 1.5}),
        ("board", GOOD_BOARD, {"load": [0.5, 1]}),
        ("board", GOOD_BOARD, {"load": [0.5, 1, 2, 3]}),
        ("board", GOOD_BOARD, {"temperature": "warm"}),
        ("statement", {"effect": "Deny", "actions": ["Iam:*"]}, {"effect": "deny"}),
        ("statement", {"effect": "Deny", "actions": ["Iam:*"]}, {"actions": ["*"]}),
        ("statement", {"effect": "Deny", "actions": ["Iam:*"]}, {"conditions": []}),
        ("condition", GOOD_CONDITION, {"values": []}),
        ("condition", GOOD_CONDITION, {"values": [True]}),
        ("me", GOOD_ME, {"path": "near"}),
        ("me", GOOD_ME, {"actions": ["Hello:*"]}),
        ("me", GOOD_ME, {"conditional": []}),
        ("me", GOOD_ME, {"until": 1.5}),
        ("check", {"action": "Hello:Get", "allowed": True}, {"allowed": 1}),
        ("check", {"action": "Hello:Get", "allowed": True}, {"action": "Hello:*"}),
        ("key-info", GOOD_KEY, {"last_seen": 1.5}),
        ("invite-new", {"name": "mia"}, {"uses": 0}),
        ("invite-new", {"name": "mia"}, {"uses": 33}),
        ("invite-info", GOOD_INVITE, {"uses": 33}),
        ("invite-info", GOOD_INVITE, {"id": "A0" * 16}),
        ("invite-info", GOOD_INVITE, {"token": "HANDFAST:I:0AZ%"}),
        ("invite-made", GOOD_MADE, {"token": "HANDFAST:1:0AZ%"}),
        ("invite-made", GOOD_MADE, {"token": "HANDFAST:I:0az%"}),
        ("redeem", {"token": b""}, {"token": "HANDFAST:I:0AZ%"}),
        ("window", GOOD_WINDOW, {"open": False}),
        ("window", GOOD_WINDOW, {"methods": []}),
        ("window", GOOD_WINDOW, {"port": 0}),
        ("window", {"open": False}, {"open": True}),
        ("window-new", {}, {"surprise": 1}),
        ("events", GOOD_EVENTS, {"events": [{**GOOD_EVENT, "token": "x"}]}),
        ("events", GOOD_EVENTS, {"events": [{**GOOD_EVENT, "seq": -1}]}),
        ("event", GOOD_EVENT, {"action": 7}),
        ("event", GOOD_EVENT, {"digest": "5a"}),
        ("event", GOOD_EVENT, {"hop_limit": -1}),
        ("invite-claims", GOOD_CLAIMS, {7: bytes(15)}),
        ("invite-claims", GOOD_CLAIMS, {4: 1.5}),
        ("invite-claims", GOOD_CLAIMS, {8: {3: bytes(31)}}),
        ("invite-claims", GOOD_CLAIMS, {8: {1: bytes(32)}}),
        ("invite-claims", GOOD_CLAIMS, {8: {}}),
        ("invite-claims", GOOD_CLAIMS, {-65537: [5684]}),
        ("invite-header", {1: -7, 4: bytes(32)}, {1: -35}),
        ("invite-header", {1: -7, 4: bytes(32)}, {2: [1]}),
        ("problem-entry", {"reason": "busy"}, {"reason": "tired"}),
    ],
)
def test_an_invalid_value_violates_its_rule(
    cddl: Cddl, rule: str, good: dict[object, object], change: dict[object, object]
) -> None:
    cddl.validate(rule, cbor.encode(good))
    with pytest.raises(CddlError):
        cddl.validate(rule, cbor.encode({**good, **change}))


def test_a_token_with_another_structure_violates_its_rule(cddl: Cddl) -> None:
    header, claims = cbor.encode({1: -7, 4: bytes(32)}), cbor.encode(GOOD_CLAIMS)
    good = [header, {}, claims, bytes(64)]
    cddl.validate("invite-token", cbor.encode(good))
    wrong: list[list[object]] = [
        [header, {1: -7}, claims, bytes(64)],
        [header, {}, claims, bytes(63)],
        [header, {}, claims],
        [*good, b""],
        [claims, {}, header, bytes(64)],
        [{1: -7, 4: bytes(32)}, {}, GOOD_CLAIMS, bytes(64)],
    ]
    for other in wrong:
        with pytest.raises(CddlError):
            cddl.validate("invite-token", cbor.encode(other))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b"\xa2\x67allowed\xf5\x66action\x69Hello:Get", id="order of keys"),
        pytest.param(b"\xbf\x66action\x69Hello:Get\x67allowed\xf5\xff", id="indefinite length"),
        pytest.param(b"\xa2\x66action\x78\x09Hello:Get\x67allowed\xf5", id="long head"),
    ],
)
def test_a_body_with_another_encoding_violates_its_rule(cddl: Cddl, other: bytes) -> None:
    good = {"action": "Hello:Get", "allowed": True}
    cddl.validate("check", cbor.encode(good))
    with pytest.raises(CddlError):
        cddl.validate("check", other)
