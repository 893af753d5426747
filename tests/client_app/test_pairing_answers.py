"""Invalid pairing responses of a device: offers, starts and states."""

import pytest

from client_app.pairing.messages import (
    is_accepted_untrusted,
    offer_untrusted,
    start_untrusted,
)
from peer.errors import (
    Malformed,
    PeerError,
    PinMismatch,
    RefusedByUser,
    RequestFailed,
    TimedOut,
    UsageError,
)
from peer.identity import Fingerprint

# ---------------------------------------------------------------------------- invalid responses

PROVED = Fingerprint(bytes(32))
OFFER = {"version": 1, "methods": ["compare"], "name": "kitchen", "fingerprint": PROVED.hex}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": 2}, UsageError),
        ({"version": None}, UsageError),
        ({"methods": "compare"}, Malformed),
        ({"methods": [1]}, Malformed),
        ({"port": -1}, Malformed),
        ({"port": True}, Malformed),
        ({"name": 1}, Malformed),
        ({"fingerprint": "11" * 32}, PinMismatch),
        ({"fingerprint": "12"}, Malformed),
    ],
)
def test_an_invalid_offer_is_refused(change: dict[str, object], kind: type[PeerError]) -> None:
    assert offer_untrusted(OFFER, proved=PROVED).name == "kitchen"
    with pytest.raises(kind):
        offer_untrusted({**OFFER, **change}, proved=PROVED)
    with pytest.raises(Malformed):
        offer_untrusted([], proved=PROVED)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"id": "c1", "window": b"short"},
        {"id": "c1", "window": "text"},
        {"id": "", "window": bytes(16)},
        {"id": 1, "window": bytes(16)},
        {"id": "c1", "window": bytes(16), "role": 1},
        {"state": "REGISTERED", "user": b"x"},
    ],
)
def test_an_invalid_start_response_is_malformed(body: object) -> None:
    with pytest.raises(Malformed):
        start_untrusted(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"state": "REFUSED"}, RefusedByUser),
        ({"state": "EXPIRED"}, TimedOut),
        ({"state": "REVOKED"}, RequestFailed),
        ({"state": "REGISTERED"}, RequestFailed),
        ({"state": "refused"}, Malformed),
        ({"state": 1}, Malformed),
        ({}, Malformed),
        ([], Malformed),
    ],
)
def test_only_a_pending_client_completion_is_accepted(body: object, kind: type[PeerError]) -> None:
    with pytest.raises(kind):
        is_accepted_untrusted(body)
    assert is_accepted_untrusted({"state": "PENDING_CLIENT_COMPLETION"})
    assert not is_accepted_untrusted({"state": "PENDING_USER_CONFIRMATION"})
