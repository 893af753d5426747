"""docs/handfast.cddl by itself: what its values may not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pycddl
import pytest

from peer import cbor

if TYPE_CHECKING:
    from tests.docs.conftest import Cddl

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
GOOD_BOARD = {"load": [0.5, 1, 2.5], "temperature": None, "uptime": 1.5, "memory_available": 1}


@pytest.mark.parametrize(
    ("rule", "good", "change"),
    [
        ("offer", GOOD_OFFER, {"version": 2}),
        ("offer", GOOD_OFFER, {"seconds": 901}),
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
        ("problem-entry", {"reason": "busy"}, {"reason": "tired"}),
    ],
)
def test_a_wrong_value_does_not_fit(
    cddl: Cddl, rule: str, good: dict[str, object], change: dict[str, object]
) -> None:
    cddl.validate(rule, cbor.encode(good))
    with pytest.raises(pycddl.ValidationError):
        cddl.validate(rule, cbor.encode({**good, **change}))
