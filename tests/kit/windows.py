"""A pairing window, and the steps of a ceremony in it."""

from typing import Any

from peer.identity import Fingerprint
from peer.pairing.binding import Channel
from peer.pairing.ceremony import Ceremony, State
from peer.pairing.compare import CompareClient
from peer.pairing.compare import offer as offer_compare
from peer.pairing.sides import Terms
from peer.pairing.window import Window

ANNA, BERT, DEVICE = (Fingerprint(bytes([n]) * 32) for n in (1, 2, 3))
WINDOW_ID = b"\x0a" * 16
ASKED, PENDING = State.PENDING_USER_CONFIRMATION, State.PENDING_CLIENT_COMPLETION


def open_window(now: float = 0.0, **options: Any) -> Window:
    given: dict[str, Any] = {
        "seconds": 120,
        "role": "guest",
        "methods": [offer_compare()],
        "window_id": WINDOW_ID,
        "device": DEVICE,
    }
    return Window.open(now, **given | options)


def start(window: Window, now: float = 0.0, **options: Any) -> Ceremony:
    given: dict[str, Any] = {
        "fingerprint": ANNA,
        "session_id": 1,
        "ekm": b"\x11" * 32,
        "method": "compare",
        "name": "anna",
        "ceremony_id": "c1",
    }
    return window.start(now, **given | options)


def client_of(ceremony: Ceremony, ekm: bytes = b"\x11" * 32) -> CompareClient:
    channel = Channel(ekm, ceremony.fingerprint, DEVICE, ceremony.window_id)
    client = CompareClient()
    client.begin()
    client.started_untrusted(Terms(channel, ceremony.role, ceremony.name, ceremony.id), {})
    return client


def kinds(window: Window) -> list[str]:
    return [event.kind.value for event in window.take_events()]
