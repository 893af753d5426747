"""A relay, and everyone on the way, sees neither who talks nor what about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peer.identity import Identity
from tests.kit.frames import captured
from tests.kit.nat_lab import Nat
from tests.kit.remote_home import RemoteHome

if TYPE_CHECKING:
    from tests.kit.system import Party

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver"),
]


def public_key(party: Party, file: str) -> bytes:
    """The key of a party as its certificate contains it (SEC 1, uncompressed)."""
    key = Identity.load(party.home / file).public_key
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_a_relay_sees_no_key_of_either_side(home: RemoteHome) -> None:
    keys = [public_key(home.device, "device-key.pem"), public_key(home.client, "identity.pem")]
    home.device.stop()
    home.boot(Nat.OPEN)
    home.lab.move_away(Nat.OPEN)
    at_address = f"{home.lab.device.open_address}:5684"
    home.client.set_last_seen(home.device, at_address)
    for via, is_seen in (("address", True), ("direct", False), ("relay", False)):
        with captured(home.lab.core) as capture:
            home.client.run("get", "kitchen", "/hello", "--via", via)
        assert [capture.has(key) for key in keys] == [is_seen, is_seen], via
