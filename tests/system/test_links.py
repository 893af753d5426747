"""Pairing on networks where the addresses alone do not tell who is a neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.namespaces import Namespace, Namespaces, two_links

if TYPE_CHECKING:
    from tests.kit.system import Device, Party, Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip")]

PAIRING = 5685


@pytest.fixture
def kitchen(stage: Stage) -> Device:
    """A device on the usual ports, whose cables lead to another namespace."""
    device = stage.device()
    device.run_options, device.port, device.pairing_port = [], 5684, PAIRING
    settings = device.home / "device.d" / "cables.toml"
    settings.write_text('[network]\nlocal_interfaces = ["eth0", "wlan0"]\n')
    return device


def put(party: Party, namespace: Namespace) -> None:
    party.place = ("ip", "netns", "exec", namespace.name)


def target(host: str) -> str:
    return f"[{host}]:{PAIRING}" if ":" in host else f"{host}:{PAIRING}"


def test_a_client_pairs_whichever_link_its_datagrams_take(
    namespaces: Namespaces, stage: Stage, kitchen: Device
) -> None:
    """Cable and Wi-Fi in one subnet: what is for one address arrives by the other link."""
    links = two_links(namespaces)
    links.device.sysctl(ipv4__conf__all__rp_filter=2)
    anna = stage.client("anna")
    put(kitchen, links.device)
    put(anna, links.client)
    links.resolve("192.0.2.1", "wlan0")
    kitchen.boot()
    assert kitchen.pair(anna, "anna", target=target("192.0.2.1")).value["role"] == "owner"
    links.resolve("192.0.2.1", "eth0")
    assert anna.json("whoami", "kitchen")["path"] == "local"
    assert kitchen.events("not-local") == []


@pytest.mark.parametrize(
    ("own", "host", "prefix"),
    [
        ("192.0.2.1/32", "192.0.2.2/24", "192.0.2.0/24"),
        ("2001:db8::1/128", "2001:db8::2/64", "2001:db8::/64"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_client_pairs_with_a_device_whose_prefix_is_a_route(
    namespaces: Namespaces, stage: Stage, kitchen: Device, own: str, host: str, prefix: str
) -> None:
    """A /128 of DHCPv6, or a /32: without a route for its link, the device has no neighbours."""
    device, client = namespaces.add(), namespaces.add()
    namespaces.join(device, client)
    device.ip("addr", "add", own, "dev", "eth0", *(["nodad"] if ":" in own else []))
    client.ip("addr", "add", host, "dev", "eth0", *(["nodad"] if ":" in own else []))
    family = "-6" if ":" in own else "-4"
    device.ip(family, "route", "add", "default", "dev", "eth0")
    anna = stage.client("anna")
    put(kitchen, device)
    put(anna, client)
    kitchen.boot()
    here = target(own.partition("/")[0])
    refused = anna.ask_to_pair(kitchen, here, "anna").end(code=13).error
    assert refused["kind"] == "NotLocal"
    [event] = kitchen.events("not-local")
    assert (event.result, event.interface, event.hop_limit) == ("prefix", "eth0", 255)
    assert "link route" in event.detail
    device.ip(family, "route", "add", prefix, "dev", "eth0")
    assert kitchen.pair(anna, "anna", target=here).value["role"] == "owner"
    assert anna.json("whoami", "kitchen")["path"] == "local"
