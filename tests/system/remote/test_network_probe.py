"""A device behind each kind of router finds out about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from peer.net.address import Address
from peer.remote.stun_probe import NatKind, probe_network, probe_relay
from tests.kit.nat_lab import RELAY, SECOND_STUN, Nat, nat_lab
from tests.kit.relays import coturn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.namespaces import Namespaces

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "turnserver"),
]

KINDS = {
    Nat.OPEN: NatKind.NONE,
    Nat.CONE: NatKind.CONE,
    Nat.SYMMETRIC: NatKind.SYMMETRIC,
    Nat.BLOCKED: NatKind.UNKNOWN,
}


def test_the_kind_of_each_router_is_found(namespaces: Namespaces, tmp_path: Path) -> None:
    lab = nat_lab(namespaces)
    second = f"listening-ip={SECOND_STUN}\n"
    with coturn(tmp_path, host=RELAY, namespace=lab.core, more=second) as relay:
        servers = (relay.stun, relay.stun.replace(RELAY, SECOND_STUN))
        for nat, kind in KINDS.items():
            lab.device.use(nat)
            with lab.device.host.inside():
                found = asyncio.run(probe_network(servers))
            assert found.nat is kind
            public = lab.device.open_address if nat is Nat.OPEN else lab.device.public
            if nat is Nat.BLOCKED:
                assert found.public_address is None
            else:
                assert isinstance(found.public_address, Address)
                assert found.public_address.host == public
        with lab.device.host.inside():  # where UDP is blocked, the relay over TLS works
            through = asyncio.run(probe_relay(relay.over_tls()))
        assert through.address.host in {RELAY, SECOND_STUN}
