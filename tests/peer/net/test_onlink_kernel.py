"""Locality decisions for interfaces and datagrams of the real kernel."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from peer.net import interfaces
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import (
    Interface,
    InterfaceAddress,
    InterfaceWatch,
    kernel_table,
)
from peer.net.locality_verdict import LocalityVerdict, LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import judge, on, to_peer

# ---------------------------------------------------------------------------- the real kernel


async def test_the_kernel_table_can_be_read_inside_a_running_loop() -> None:
    table = kernel_table()
    lo = table.by_index[socket.if_nametoindex("lo")]
    assert lo.is_loopback
    assert lo.is_up
    assert InterfaceAddress(ip_address("127.0.0.1"), ip_network("127.0.0.0/8")) in lo.addresses
    assert ip_address("127.0.0.1") in table.own


class Message(dict[str, Any]):
    """A link message in the form of the netlink library."""

    def get_nested(self, _: str, name: str) -> Any:
        return self.get(name)


CARD = Message(index=2, ifname="no-such-interface", ifi_type=1, flags=0x1043, parent_dev_name="pci")


@pytest.mark.parametrize(
    ("message", "is_hardware"),
    [
        (CARD, True),
        (Message(CARD, parent_dev_name=None), False),  # like an L2TP Ethernet tunnel
        (Message(CARD, kind="gretap"), False),
        (Message(CARD, ifi_type=0xFFFE), False),  # raw IP, such as a modem's interface
        (Message(CARD, ifi_type=512), False),  # PPP
    ],
)
def test_an_interface_with_a_device_and_no_kind_is_hardware(
    message: Message, is_hardware: bool
) -> None:
    assert Interface.from_message(message).is_hardware == is_hardware


def test_the_device_is_read_from_sysfs_on_kernels_before_5_14(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    monkeypatch.setattr(interfaces, "SYSFS", tmp_path)
    old = Message(CARD, parent_dev_name=None, ifname="eth0")
    assert Interface.from_message(old).is_hardware
    assert not Interface.from_message(Message(old, ifname="l2tpeth0")).is_hardware


@pytest.mark.parametrize(("kind", "field"), [("vlan", "lower"), ("veth", "peer")])
def test_an_index_in_another_namespace_is_ignored(kind: str, field: str) -> None:
    """Its index would denote another interface here."""
    message = Message(CARD, kind=kind, link=7)
    here, there = (Interface.from_message(m) for m in (message, Message(message, link_netnsid=0)))
    assert (getattr(here, field), here.is_elsewhere) == (7, False)
    assert (getattr(there, field), there.is_elsewhere) == (0, True)


#: The device's end of a cable into another namespace, which is local only if it is named.
CABLE = frozenset({"eth0"})


class Device:
    """A socket in a namespace, and the verdicts on its datagrams."""

    def __init__(self, namespace: Any, sockets: Any, inbox: Any) -> None:
        self.namespace = namespace
        self.inbox = inbox
        with namespace.inside():
            self.port = sockets.bind("::", inbox).local_address.port

    async def verdict(
        self,
        *,
        mode: LocalMode = LocalMode.STRICT,
        interfaces: frozenset[str] = CABLE,
        allow_loopback: bool = False,
    ) -> LocalityVerdict:
        locality = Locality(
            mode=mode,
            allow_loopback=allow_loopback,
            interfaces=interfaces,
            table=self.namespace.table,
        )
        return locality.judge(await self.inbox.datagram())


@pytest.fixture
async def device(lan: Any, sockets: Any, inbox: Any) -> Device:
    return Device(lan.device, sockets, inbox)


def send(namespace: Any, source: str, to: str, port: int, *, hop_limit: int = 255) -> None:
    scope = namespace.index("eth0") if to.startswith(("fe80", "ff02")) else 0
    with namespace.sender(source, hop_limit=hop_limit) as sock:
        sock.sendto(b"x", (to, port, 0, scope) if ":" in to else (to, port))


ENDS = [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1"), ("fe80::2", "fe80::1")]


@pytest.mark.needs_root
@pytest.mark.parametrize(("client", "here"), ENDS)
async def test_real_neighbours_are_local(client: str, here: str, lan: Any, device: Any) -> None:
    send(lan.client, client, here, device.port)
    assert await device.verdict() == LocalityVerdict(True, "", "eth0", 255, "")


@pytest.mark.needs_root
@pytest.mark.parametrize(("client", "here"), ENDS)
async def test_real_clients_with_the_default_hop_limit_are_local_only_in_compat(
    client: str, here: str, lan: Any, device: Any
) -> None:
    for _ in range(2):
        send(lan.client, client, here, device.port, hop_limit=64)
    assert (await device.verdict()).rule == "ttl"
    assert (await device.verdict(mode=LocalMode.COMPAT)).is_local


@pytest.fixture
def routed_host(lan: Any, namespaces: Any) -> Any:
    """A host behind the client, which acts as a router."""
    made = namespaces.add()
    namespaces.join(lan.client, made, names=("eth1", "eth0"))
    lan.client.ip("addr", "add", "198.51.100.1/24", "dev", "eth1")
    lan.client.sysctl(ipv4__ip_forward=1)
    made.ip("addr", "add", "198.51.100.2/24", "dev", "eth0")
    made.ip("route", "add", "default", "via", "198.51.100.1")
    return made


@pytest.mark.needs_root
@pytest.mark.usefixtures("lan")
async def test_a_client_behind_a_router_is_not_local(routed_host: Any, device: Any) -> None:
    for _ in range(2):
        send(routed_host, "198.51.100.2", "192.0.2.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.hop_limit, verdict.interface) == ("ttl", 254, "eth0")
    assert (await device.verdict(mode=LocalMode.COMPAT)).rule == "prefix"


@pytest.mark.needs_root
@pytest.mark.needs_tool("nft")
async def test_a_client_behind_a_masquerading_router_is_not_local(
    lan: Any, routed_host: Any, device: Any
) -> None:
    """The router sends from its own on-link address, so only rule 1 can reject the datagram."""
    for command in (
        "add table ip n",
        "add chain ip n post { type nat hook postrouting priority 100 ; }",
        "add rule ip n post oif eth0 masquerade",
    ):
        lan.client.run("nft", command)
    send(routed_host, "198.51.100.2", "192.0.2.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.hop_limit) == ("ttl", 254)


@pytest.mark.needs_root
async def test_an_off_link_source_address_is_not_local(lan: Any, device: Any) -> None:
    """The hop limit is 255 and there is no router, so only the prefix can reject the datagram."""

    lan.client.ip("addr", "add", "203.0.113.9/32", "dev", "lo")
    lan.client.ip("addr", "add", "2001:db8:9::9/128", "dev", "lo", "nodad")
    send(lan.client, "203.0.113.9", "192.0.2.1", device.port)
    assert (await device.verdict()).rule == "prefix"
    send(lan.client, "2001:db8:9::9", "2001:db8::1", device.port)
    assert (await device.verdict()).rule == "prefix"


@pytest.mark.needs_root
async def test_an_interface_without_routes_has_no_neighbours(
    lan: Any, device: Any, udp_packet: Callable[..., bytes]
) -> None:
    """A route lookup restricted to this interface would consider every address on-link."""
    lan.device.ip("addr", "flush", "dev", "eth0")
    lan.device.ip("addr", "add", "192.0.2.1/32", "dev", "eth0")
    for source in ("8.8.8.8", "192.0.2.2"):
        lan.put_on_cable(udp_packet(source, "192.0.2.1", device.port))
        verdict = await device.verdict()
        assert (verdict.rule, verdict.interface) == ("prefix", "eth0")


@pytest.mark.needs_root
async def test_only_the_peer_of_a_real_point_to_point_address_is_local(
    lan: Any, device: Any, udp_packet: Callable[..., bytes]
) -> None:
    lan.device.ip("addr", "flush", "dev", "eth0")
    lan.device.ip("addr", "add", "10.0.0.1", "peer", "10.0.0.2/32", "dev", "eth0")
    lan.put_on_cable(udp_packet("10.0.0.2", "10.0.0.1", device.port))
    assert (await device.verdict()).is_local
    lan.put_on_cable(udp_packet("10.0.0.3", "10.0.0.1", device.port))
    assert (await device.verdict()).rule == "prefix"


@pytest.mark.needs_root
@pytest.mark.parametrize("own", ["2001:db8::1", "fe80::1"])
async def test_our_own_address_as_source_on_the_cable_is_not_local(
    own: str, lan: Any, device: Any, udp_packet: Callable[..., bytes]
) -> None:
    """Linux drops such datagrams for IPv4 and delivers them for IPv6."""
    lan.put_on_cable(udp_packet(own, own, device.port))
    assert (await device.verdict()).rule == "prefix"


@pytest.mark.needs_root
@pytest.mark.parametrize("own", ["192.0.2.1", "fe80::1", "127.0.0.1", "::1"])
async def test_datagrams_from_this_machine_are_local_only_if_loopback_is_allowed(
    own: str, lan: Any, device: Any
) -> None:
    for _ in range(2):
        send(lan.device, own, own, device.port)
    assert not (await device.verdict()).is_local
    assert (await device.verdict(allow_loopback=True)).is_local


@pytest.mark.needs_root
@pytest.mark.parametrize("to", ["192.0.2.255", "255.255.255.255", "ff02::1", "198.51.100.77"])
async def test_a_destination_that_is_not_ours_on_that_interface_is_not_local(
    to: str, lan: Any, device: Any
) -> None:
    """Broadcast, multicast, and an address of another interface, which Linux accepts here too."""
    lan.device.ip("addr", "add", "198.51.100.77/32", "dev", "lo")
    lan.client.ip("route", "add", "198.51.100.77", "via", "192.0.2.1")
    lan.client.ip("route", "add", "255.255.255.255", "dev", "eth0")
    send(lan.client, "fe80::2" if ":" in to else "192.0.2.2", to, device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.interface) == ("destination", "eth0")


@pytest.mark.needs_root
async def test_a_real_tun_is_not_a_link(
    lan: Any, device: Any, udp_packet: Callable[..., bytes]
) -> None:
    with lan.device.tun("vpn0", "10.7.0.1/24") as write:
        for _ in range(2):
            write(udp_packet("10.7.0.9", "10.7.0.1", device.port))
        verdict = await device.verdict()
        assert (verdict.rule, verdict.interface) == ("interface", "vpn0")
        assert (await device.verdict(interfaces=frozenset({"vpn0"}))).is_local


def add_tunnel(namespace: Any, near: str, far: str) -> None:
    namespace.ip(
        *("link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789"),
        *("local", near, "remote", far, "dev", "eth0"),
    )
    namespace.ip("link", "set", "vx0", "up")


@pytest.mark.needs_root
async def test_a_real_vxlan_is_not_a_link(lan: Any, device: Any) -> None:
    for namespace, near, far in ((lan.device, 1, 2), (lan.client, 2, 1)):
        add_tunnel(namespace, f"192.0.2.{near}", f"192.0.2.{far}")
        namespace.ip("addr", "add", f"10.7.0.{near}/24", "dev", "vx0")
    send(lan.client, "10.7.0.2", "10.7.0.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.interface) == ("interface", "vx0")
    assert "vxlan" in verdict.detail


@pytest.mark.needs_root
async def test_a_real_bridge_is_a_link_until_a_tunnel_becomes_its_port(
    lan: Any, device: Any
) -> None:
    add_tunnel(lan.client, "192.0.2.2", "192.0.2.1")
    lan.client.ip("addr", "add", "10.7.0.2/24", "dev", "vx0")
    add_tunnel(lan.device, "192.0.2.1", "192.0.2.2")
    lan.device.ip("link", "add", "br0", "type", "bridge")
    lan.device.ip("link", "set", "br0", "up")
    lan.device.ip("addr", "add", "10.7.0.1/24", "dev", "br0")
    assert judge_now(lan.device, "10.7.0.2", "10.7.0.1", "br0").is_local
    lan.device.ip("link", "set", "vx0", "master", "br0")
    send(lan.client, "10.7.0.2", "10.7.0.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.interface) == ("interface", "br0")
    assert "vx0" in verdict.detail


@pytest.fixture
def hidden_tunnel(lan: Any, namespaces: Any) -> Any:
    """A namespace whose bridge has a VXLAN to the far end of the cable.

    A host in a third namespace, on a veth to that bridge or a macvlan above such a veth, sees a
    plain Ethernet link.
    """
    add_tunnel(lan.client, "192.0.2.2", "192.0.2.1")
    lan.client.ip("addr", "add", "10.7.0.2/24", "dev", "vx0")
    add_tunnel(lan.device, "192.0.2.1", "192.0.2.2")
    lan.device.ip("link", "add", "br0", "type", "bridge")
    lan.device.ip("link", "set", "br0", "up")
    lan.device.ip("link", "set", "vx0", "master", "br0")
    board = namespaces.add()
    namespaces.join(lan.device, board, names=("port0", "eth0"))
    lan.device.ip("link", "set", "port0", "master", "br0")
    return board


@pytest.mark.needs_root
@pytest.mark.parametrize("interface", ["eth0", "mv0"])
async def test_a_tunnel_behind_another_namespace_is_not_a_link(
    interface: str, hidden_tunnel: Any, lan: Any, sockets: Any, inbox: Any
) -> None:
    """The datagram arrives with hop limit 255 and a source in the prefix of the interface."""
    board = hidden_tunnel
    if interface == "mv0":  # a macvlan in our namespace above a card in that one
        lan.device.ip("link", "del", "port0")
        lan.device.ip("link", "add", "link", "br0", "name", "mv0", "type", "macvlan")
        lan.device.ip("link", "set", "mv0", "netns", board.name)
        board.ip("link", "set", "mv0", "up")
    board.ip("addr", "add", "10.7.0.1/24", "dev", interface)
    device = Device(board, sockets, inbox)
    for _ in range(2):
        send(lan.client, "10.7.0.2", "10.7.0.1", device.port)
    verdict = await device.verdict(interfaces=frozenset())
    assert (verdict.rule, verdict.interface) == ("interface", interface)
    assert (verdict.hop_limit, "another network namespace" in verdict.detail) == (255, True)
    assert (await device.verdict(interfaces=frozenset({interface}))).is_local


@pytest.mark.needs_root
async def test_a_tunnel_behind_a_veth_pair_in_this_namespace_is_not_a_link(
    lan: Any, device: Any
) -> None:
    add_tunnel(lan.client, "192.0.2.2", "192.0.2.1")
    lan.client.ip("addr", "add", "10.7.0.2/24", "dev", "vx0")
    add_tunnel(lan.device, "192.0.2.1", "192.0.2.2")
    lan.device.ip("link", "add", "br0", "type", "bridge")
    lan.device.ip("link", "add", "lan0", "type", "veth", "peer", "name", "port0")
    lan.device.sysctl(ipv4__conf__all__arp_ignore=1)  # the bridge must not answer for lan0
    for name in ("br0", "lan0", "port0"):
        lan.device.ip("link", "set", name, "up")
    lan.device.ip("addr", "add", "10.7.0.1/24", "dev", "lan0")
    assert judge_now(lan.device, "10.7.0.2", "10.7.0.1", "lan0").is_local
    for name in ("port0", "vx0"):
        lan.device.ip("link", "set", name, "master", "br0")
    send(lan.client, "10.7.0.2", "10.7.0.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.interface, verdict.hop_limit) == ("interface", "lan0", 255)
    assert "vx0" in verdict.detail


def judge_now(
    namespace: Any,
    source: str,
    destination: str,
    interface: str,
    interfaces: frozenset[str] = frozenset(),
) -> LocalityVerdict:
    index = namespace.index(interface)
    return judge(
        Datagram(b"x", Address(source, 4000), destination, index, 255),
        table=namespace.table(),
        interfaces=interfaces,
    )


@pytest.mark.needs_root
def test_the_kernel_table_describes_each_interface(lan: Any) -> None:
    lan.device.ip("link", "add", "br0", "type", "bridge")
    lan.device.ip("link", "add", "eth9", "type", "veth", "peer", "name", "eth8")
    lan.device.ip("link", "set", "eth9", "master", "br0")
    lan.device.ip("addr", "add", "10.0.0.1", "peer", "10.0.0.2/32", "dev", "eth8")
    table = lan.device.table()
    by_name = {interface.name: interface for interface in table.by_index.values()}
    assert {name: by_name[name].kind for name in ("lo", "br0", "eth9", "eth0")} == {
        "lo": "",
        "br0": "bridge",
        "eth9": "veth",
        "eth0": "veth",
    }
    assert (by_name["eth0"].is_up, by_name["eth9"].is_up) == (True, False)
    assert table.ports_of(by_name["br0"].index) == [by_name["eth9"]]
    assert by_name["eth8"].addresses == to_peer("10.0.0.1", "10.0.0.2/32")
    assert by_name["eth0"].addresses == on("192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")
    assert not any(interface.is_hardware for interface in by_name.values())
    # the other end of a veth is a peer, not a lower interface
    assert by_name["eth9"].lower == by_name["eth0"].lower == 0
    assert (by_name["eth9"].peer, by_name["eth0"].peer) == (by_name["eth8"].index, 0)
    assert (by_name["eth9"].is_elsewhere, by_name["eth0"].is_elsewhere) == (False, True)
    lan.device.ip("link", "set", "eth8", "up")
    lan.device.ip("link", "set", "eth9", "nomaster", "up")
    assert judge_now(lan.device, "10.0.0.2", "10.0.0.1", "eth8").is_local
    lan.device.ip("link", "set", "eth8", "down")
    assert judge_now(lan.device, "10.0.0.2", "10.0.0.1", "eth8").rule == "interface"


@pytest.mark.needs_root
async def test_address_and_link_changes_are_reported(lan: Any) -> None:
    changed = asyncio.Event()
    with lan.device.inside():
        watch = InterfaceWatch(changed.set)
    try:
        for change in (
            ("addr", "add", "10.0.0.1/24", "dev", "eth0"),
            ("addr", "add", "fd00::5/64", "dev", "eth0"),
            ("link", "set", "eth0", "down"),
        ):
            changed.clear()
            lan.device.ip(*change)
            await asyncio.wait_for(changed.wait(), 10)
    finally:
        watch.close()
        watch.close()
