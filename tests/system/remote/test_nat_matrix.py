"""A client reaches its device behind each combination of routers, directly where that is possible.

Datagrams can go directly unless one side blocks UDP, or both sides translate and one of them has
another port for each destination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.brokers import nats
from tests.kit.nat_lab import Nat
from tests.kit.remote_home import RemoteHome, remote_home

if TYPE_CHECKING:
    from tests.kit.namespaces import Namespaces
    from tests.kit.system import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver", "nats-server"),
]

DIRECT = {
    frozenset({Nat.OPEN}),
    frozenset({Nat.CONE}),
    frozenset({Nat.OPEN, Nat.CONE}),
    frozenset({Nat.OPEN, Nat.SYMMETRIC}),
}
"""The combinations between which datagrams can go directly."""


def way_to_device(home: RemoteHome) -> str:
    """How a new process of the client reaches the device at first."""
    found = home.client.json("whoami", "kitchen", "--via", "direct,relay")
    assert found["role"] == "owner"
    return str(found["route"])


@pytest.mark.parametrize("device_nat", Nat)
def test_a_client_behind_each_router_reaches_a_device_behind(
    device_nat: Nat, home: RemoteHome
) -> None:
    home.device.stop()
    home.boot(device_nat)
    for client_nat in Nat:
        home.lab.move_away(client_nat)
        is_direct = frozenset({device_nat, client_nat}) in DIRECT
        assert way_to_device(home) in ({"direct", "relay"} if is_direct else {"relay"}), client_nat
        if is_direct:
            home.client.run("get", "kitchen", "/hello", "--via", "direct")


def test_ipv6_is_direct_where_ipv4_is_not(home: RemoteHome) -> None:
    """The routers drop what comes in by IPv6, until their host has sent to its sender."""
    home.device.stop()
    home.boot(Nat.SYMMETRIC, ipv6=True)
    home.lab.move_away(Nat.SYMMETRIC, ipv6=True)
    home.client.run("get", "kitchen", "/hello", "--via", "direct")
    assert way_to_device(home) in {"direct", "relay"}


def test_a_client_reaches_a_device_over_nats(stage: Stage, namespaces: Namespaces) -> None:
    with remote_home(stage, namespaces, start_broker=nats) as home:
        home.lab.move_away(Nat.SYMMETRIC)
        assert way_to_device(home) == "relay"
