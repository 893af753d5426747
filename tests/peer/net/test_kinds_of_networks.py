"""On networks of many kinds, a client hears addresses at which the device counts it as local."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from peer.net import advertiser, discovery
from peer.net.advertiser import Advertiser
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.namespaces import Namespace

pytestmark = pytest.mark.needs_root

LOCAL = "local"


@dataclass(frozen=True)
class Network:
    """A cable between eth0 of a device and eth0 of a client, and what is made of it.

    `device` and `client` are arguments of `ip`. `heard` has the addresses that the client hears,
    with the verdict of the device on a datagram to each of them, which arrives by
    one of `interfaces`.
    """

    device: tuple[str, ...]
    client: tuple[str, ...]
    heard: dict[str, str]
    interfaces: tuple[str, ...] = ("eth0",)


NETWORKS = {
    "two addresses in one subnet": Network(
        ("addr add 192.0.2.1/24 dev eth0", "addr add 192.0.2.10/24 dev eth0"),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": LOCAL, "192.0.2.10": LOCAL},
    ),
    "two subnets on one link, of which the client has one": Network(
        ("addr add 10.0.0.1/24 dev eth0", "addr add 192.0.2.1/24 dev eth0"),
        ("addr add 192.0.2.2/24 dev eth0", "route add 10.0.0.0/24 dev eth0"),
        {"192.0.2.1": LOCAL, "10.0.0.1": LOCAL},
    ),
    "a prefix that is shorter at the client": Network(
        ("addr add 192.0.2.1/25 dev eth0",),
        ("addr add 192.0.2.130/24 dev eth0",),
        {"192.0.2.1": "prefix"},
    ),
    "a deprecated address": Network(
        (
            "addr add 2001:db8::1/64 dev eth0 nodad preferred_lft 0",
            "addr add 2001:db8::5/64 dev eth0 nodad",
        ),
        ("addr add 2001:db8::2/64 dev eth0 nodad preferred_lft 0",),
        {"2001:db8::5": LOCAL, "2001:db8::1": LOCAL},
    ),
    "unique local and global addresses": Network(
        ("addr add fd00::1/64 dev eth0 nodad", "addr add 2606:4700::1/64 dev eth0 nodad"),
        ("addr add fd00::2/64 dev eth0 nodad", "addr add 2606:4700::2/64 dev eth0 nodad"),
        {"2606:4700::1": LOCAL, "fd00::1": LOCAL},
    ),
    "link-local IPv4": Network(
        ("addr add 169.254.7.1/16 dev eth0",),
        ("addr add 169.254.9.2/16 dev eth0",),
        {"169.254.7.1": LOCAL},
    ),
    "link-local IPv6": Network(
        ("addr add fe80::1/64 dev eth0 nodad",),
        ("addr add fe80::2/64 dev eth0 nodad",),
        {"fe80::1": LOCAL},
    ),
    "two hosts in a /31": Network(
        ("addr add 192.0.2.0/31 dev eth0",),
        ("addr add 192.0.2.1/31 dev eth0",),
        {"192.0.2.0": LOCAL},
    ),
    "two hosts in a /127": Network(
        ("addr add 2001:db8::/127 dev eth0 nodad",),
        ("addr add 2001:db8::1/127 dev eth0 nodad",),
        {"2001:db8::": LOCAL},
    ),
    "a point-to-point address": Network(
        ("addr add 192.0.2.1 peer 192.0.2.2/32 dev eth0",),
        ("addr add 192.0.2.2 peer 192.0.2.1/32 dev eth0",),
        {"192.0.2.1": LOCAL},
    ),
    "a bridge of the device": Network(
        (
            "link add br0 type bridge",
            "link set br0 up",
            "link set eth0 master br0",
            "addr add 192.0.2.1/24 dev br0",
        ),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": LOCAL},
        interfaces=("br0",),
    ),
    "a macvlan of the device": Network(
        (
            "link add mac0 link eth0 type macvlan mode bridge",
            "link set mac0 up",
            "addr add 192.0.2.1/24 dev mac0",
        ),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": LOCAL},
        interfaces=("eth0", "mac0"),  # both answer ARP
    ),
    "a macvlan of the client": Network(
        ("addr add 192.0.2.1/24 dev eth0",),
        (
            "link add mac0 link eth0 type macvlan mode bridge",
            "link set mac0 up",
            "addr add 192.0.2.2/24 dev mac0",
        ),
        {"192.0.2.1": LOCAL},
    ),
    "rules for a routing table of their own": Network(
        (
            "addr add 192.0.2.1/24 dev eth0",
            "route add 192.0.2.0/24 dev eth0 table 100",
            "rule add from 192.0.2.1 table 100",
        ),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": LOCAL},
    ),
    "an on-link prefix in another table only": Network(
        (
            "addr add 192.0.2.1/32 dev eth0",
            "route add 192.0.2.0/24 dev eth0 table 100",
            "rule add from all table 100",
        ),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": "prefix"},
    ),
    "container networks with the client's prefix": Network(
        (
            "link add docker0 type bridge",
            "link set docker0 up",
            "addr add 192.0.2.129/25 dev docker0",
            "addr add 192.0.2.1/24 dev eth0",
        ),
        ("addr add 192.0.2.2/24 dev eth0",),
        {"192.0.2.1": LOCAL},
    ),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
async def test_a_client_hears_where_it_is_local(
    network: Network,
    namespaces: Any,
    sockets: Any,
    inbox: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, client = namespaces.add(), namespaces.add()
    namespaces.join(device, client)
    for end, lines in ((device, network.device), (client, network.client)):
        for line in lines:
            end.ip(*line.split())
    device.await_addresses(*network.heard)
    with device.inside():
        port = sockets.bind("::", inbox).local_address.port
    heard = await heard_addresses(device, client, port, {*network.heard}, monkeypatch)

    named = frozenset({"eth0"})  # the cable leads to another namespace
    locality = Locality(
        mode=LocalMode.STRICT, allow_loopback=False, interfaces=named, table=device.table
    )
    for address in heard:
        expected = network.heard[address.partition("%")[0]]
        send(client, address, port)
        verdict = locality.judge(await inbox.datagram())
        assert (verdict.rule or LOCAL) == expected
        assert verdict.interface in network.interfaces


async def heard_addresses(
    device: Namespace,
    client: Namespace,
    port: int,
    expected: set[str],
    patch: pytest.MonkeyPatch,
) -> tuple[str, ...]:
    """The addresses of a device as its client hears them: the expected ones, and no other."""
    hosts = set[str]()
    made = Advertiser(
        name="kitchen", device_id="7F3K2M1Q", port=port, pairing_port=port, interfaces=None
    )
    with patch.context() as patched:
        patched.setattr(advertiser, "kernel_table", device.table)
        patched.setattr(discovery, "kernel_table", client.table)
        with device.inside():
            await made.start()
        with client.inside():
            async with discovery.searching() as search, asyncio.timeout(TIMEOUT_SECONDS):
                while hosts != expected:  # addresses may arrive one by one
                    advert = await search.changes.get()
                    hosts = {one.partition("%")[0] for one in advert.addresses}
                    assert hosts <= expected
        await made.close()
    return advert.addresses


def send(client: Namespace, to: str, port: int) -> None:
    host, _, zone = to.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with client.inside(), contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.sendto(b"x", (host, port, 0, int(zone or 0)))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
            sock.sendto(b"x", (host, port))
