"""A device with a /32 and a /128: the routes of the real kernel decide who is its neighbour."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest
from pyroute2.netlink.rtnl import RTM_GETROUTE

from peer.net.locality_verdict import LocalMode
from peer.net.netlink import dump
from peer.net.onlink import Locality
from tests.kit.sockets import icmp6_packet, icmp_packet, udp_packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer.net.locality_verdict import LocalityVerdict

pytestmark = pytest.mark.needs_root

#: The device's end of a cable into another namespace, which is local only if it is named.
CABLE = frozenset({"eth0"})

ENDS = [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")]
SUBNETS = {"192.0.2.2": "192.0.2.0/24", "2001:db8::2": "2001:db8::/64"}


class Receiver:
    """A socket of the device, and the verdicts on its datagrams."""

    def __init__(self, namespace: Any, sockets: Any, inbox: Any) -> None:
        self.namespace = namespace
        self._inbox = inbox
        with namespace.inside():
            self.port = sockets.bind("::", inbox).local_address.port

    async def verdict(self, mode: LocalMode = LocalMode.STRICT) -> LocalityVerdict:
        locality = Locality(
            mode=mode, allow_loopback=False, interfaces=CABLE, table=self.namespace.table
        )
        return locality.judge(await self._inbox.datagram())


@pytest.fixture
async def receiver(lan: Any, sockets: Any, inbox: Any) -> Receiver:
    """The device has its addresses from DHCPv6 and as a /32, without any route."""
    lan.device.ip("addr", "flush", "dev", "eth0", "scope", "global")
    lan.device.ip("addr", "add", "192.0.2.1/32", "dev", "eth0")
    lan.device.ip("addr", "add", "2001:db8::1/128", "dev", "eth0", "nodad")
    lan.device.await_addresses("192.0.2.1", "2001:db8::1")
    return Receiver(lan.device, sockets, inbox)


@pytest.fixture
def from_cable(
    lan: Any, receiver: Receiver, udp_packet: Callable[..., bytes]
) -> Callable[[str, str], None]:
    """Send a datagram with any source address, past the client's network stack."""

    def send(source: str, destination: str) -> None:
        lan.put_on_cable(udp_packet(source, destination, receiver.port))

    return send


def send(namespace: Any, source: str, to: str, port: int) -> None:
    with namespace.sender(source) as sock:
        sock.sendto(b"x", (to, port))


def add_route(namespace: Any, *route: str) -> None:
    namespace.ip("-6" if ":" in route[0] else "-4", "route", "add", *route)


@pytest.mark.parametrize("protocol", ["kernel", "boot", "static", "ra", "dhcp"])
@pytest.mark.parametrize(("client", "here"), ENDS)
async def test_a_client_in_the_prefix_of_a_link_route_is_local(
    lan: Any, receiver: Receiver, client: str, here: str, protocol: str
) -> None:
    send(lan.client, client, here, receiver.port)
    assert (await receiver.verdict()).rule == "prefix"
    add_route(lan.device, SUBNETS[client], "dev", "eth0", "proto", protocol)
    send(lan.client, client, here, receiver.port)
    assert (await receiver.verdict()).is_local
    lan.device.ip("route", "del", SUBNETS[client], "dev", "eth0")
    send(lan.client, client, here, receiver.port)
    assert (await receiver.verdict()).rule == "prefix"


async def test_a_route_to_one_host_makes_only_that_host_local(
    lan: Any, receiver: Receiver, from_cable: Callable[[str, str], None]
) -> None:
    add_route(lan.device, "192.0.2.2", "dev", "eth0")
    for source, is_local in (("192.0.2.2", True), ("192.0.2.3", False)):
        from_cable(source, "192.0.2.1")
        assert (await receiver.verdict()).is_local == is_local


# -- routes that are not on-link ----------------------------------------------------------------

OTHER_ROUTES = {
    "through a router": [("192.0.2.254", "dev", "eth0"), ("203.0.113.0/24", "via", "192.0.2.254")],
    "through a router by its interface": [
        ("203.0.113.0/24", "via", "192.0.2.254", "dev", "eth0", "onlink")
    ],
    "through an IPv6 router": [("203.0.113.0/24", "via", "inet6", "fe80::2", "dev", "eth0")],
    "default": [("default", "dev", "eth0")],
    "two halves": [("0.0.0.0/1", "dev", "eth0"), ("128.0.0.0/1", "dev", "eth0")],
    "another table": [("203.0.113.0/24", "dev", "eth0", "table", "100")],
    "another interface": [("203.0.113.0/24", "dev", "lo")],
    "unreachable": [("unreachable", "203.0.113.0/24")],
    "IPv6 through a router": [("2001:db8:9::/64", "via", "fe80::2", "dev", "eth0")],
    "IPv6 default": [("::/0", "dev", "eth0")],
    "IPv6 two halves": [("::/1", "dev", "eth0"), ("8000::/1", "dev", "eth0")],
    "IPv6 global unicast": [("2000::/3", "dev", "eth0")],
    "IPv6 another table": [("2001:db8:9::/64", "dev", "eth0", "table", "100")],
    "IPv6 for one source": [("2001:db8:9::/64", "from", "2001:db8::1", "dev", "eth0")],
}


@pytest.mark.parametrize("routes", OTHER_ROUTES.values(), ids=OTHER_ROUTES)
async def test_no_other_route_makes_a_source_local(
    lan: Any,
    receiver: Receiver,
    from_cable: Callable[[str, str], None],
    routes: list[tuple[str, ...]],
) -> None:
    for route in routes:
        add_route(lan.device, *route)
    lan.device.ip("rule", "add", "table", "100")
    is_ipv6 = ":" in routes[0][0]
    source, here = ("2001:db8:9::9", "2001:db8::1") if is_ipv6 else ("203.0.113.9", "192.0.2.1")
    from_cable(source, here)
    verdict = await receiver.verdict(LocalMode.COMPAT)
    assert (verdict.rule, verdict.interface) == ("prefix", "eth0")


NEXTHOPS = {
    "link": (("dev", "eth0"), ("dev", "eth0")),
    "router": (("via", "192.0.2.2", "dev", "eth0"), ("via", "fe80::2", "dev", "eth0")),
}


@pytest.mark.parametrize("is_shown", [True, False], ids=["resolved", "number only"])
@pytest.mark.parametrize("is_group", [False, True], ids=["one", "group"])
@pytest.mark.parametrize("kind", NEXTHOPS)
async def test_a_route_by_a_nexthop_object_counts_if_the_kernel_shows_a_link(
    lan: Any,
    receiver: Receiver,
    from_cable: Callable[[str, str], None],
    kind: str,
    *,
    is_group: bool,
    is_shown: bool,
) -> None:
    """With `nexthop_compat_mode` 0 a route shows the number of its nexthop and nothing else."""
    lan.device.sysctl(ipv4__nexthop_compat_mode=int(is_shown))
    lan.device.ip("route", "add", "192.0.2.2", "dev", "eth0")  # the router
    for number, (family, far, nexthop) in enumerate(
        zip(("-4", "-6"), ("203.0.113.0/24", "2001:db8:9::/64"), NEXTHOPS[kind], strict=True), 1
    ):
        lan.device.ip(family, "nexthop", "add", "id", str(number), *nexthop)
        chosen = str(number)
        if is_group:
            chosen = str(number + 10)
            lan.device.ip("nexthop", "add", "id", chosen, "group", str(number))
        lan.device.ip(family, "route", "add", far, "nhid", chosen)
    for source, here in (("203.0.113.9", "192.0.2.1"), ("2001:db8:9::9", "2001:db8::1")):
        from_cable(source, here)
        is_local = (await receiver.verdict(LocalMode.COMPAT)).is_local
        assert is_local == (kind == "link" and is_shown)


# -- attackers ----------------------------------------------------------------


async def test_a_redirect_makes_no_source_local(
    lan: Any, receiver: Receiver, from_cable: Callable[[str, str], None]
) -> None:
    """A neighbour takes the router's address and says that a remote host is on the link.

    The kernel believes it and sends to that host without the router. In mode `compat`, and with a
    route by redirect, datagrams that the router forwards from that host would be local.
    """
    add_route(lan.device, "::/0", "via", "fe80::2", "dev", "eth0")
    far = "2001:db8:9::9"
    lan.put_on_cable(redirect(router="fe80::2", device="fe80::1", host=far))
    with lan.device.inside():
        routes = [one for one in dump(RTM_GETROUTE) if one.get("dst") == far]
    assert [(one.get("gateway"), one["dst_len"]) for one in routes] == [(None, 128)]
    from_cable(far, "2001:db8::1")
    assert (await receiver.verdict(LocalMode.COMPAT)).rule == "prefix"


async def test_an_ipv4_redirect_makes_no_source_local(
    lan: Any, receiver: Receiver, from_cable: Callable[[str, str], None]
) -> None:
    """As above: the neighbour also answers ARP for the remote host (RFC 1122 §3.2.2.2)."""
    far, here, router = "203.0.113.9", "192.0.2.1", "192.0.2.2"
    lan.device.sysctl(
        ipv4__conf__all__accept_redirects=1,
        ipv4__conf__eth0__accept_redirects=1,
        ipv4__conf__all__secure_redirects=0,
        ipv4__conf__eth0__secure_redirects=0,
    )
    add_route(lan.device, router, "dev", "eth0")
    add_route(lan.device, "default", "via", router)
    lan.device.ip("neigh", "add", far, "lladdr", "02:00:00:00:00:09", "dev", "eth0")
    sent = udp_packet(here, far, 9)[:28]  # the kernel looks for the socket of this datagram
    with lan.device.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((here, 4242))
    message = struct.pack("!BBxx", 5, 1) + IPv4Address(far).packed + sent
    with sock:
        lan.put_on_cable(icmp_packet(router, here, message))
    assert f"{far} via {far} dev eth0" in lan.device.output("ip", "route", "get", far)
    from_cable(far, here)
    assert (await receiver.verdict(LocalMode.COMPAT)).rule == "prefix"


@pytest.mark.parametrize(("flags", "is_local"), [(0x80, True), (0, False)], ids=["L", "no L"])
async def test_a_prefix_that_a_router_announces_as_on_link_is_local(
    lan: Any,
    receiver: Receiver,
    udp_packet: Callable[..., bytes],
    flags: int,
    is_local: bool,
) -> None:
    """A neighbour can forge this, for the prefix of a remote host. The hop limit still refuses it.

    `compat` does not notice: this is a documented residual risk.
    """
    lan.device.sysctl(ipv6__conf__eth0__accept_ra=2)
    lan.put_on_cable(advertisement(router="fe80::2", device="fe80::1", flags=flags))
    for hop_limit in (255, 254, 254):
        lan.put_on_cable(
            udp_packet("2001:db8:9::9", "2001:db8::1", receiver.port, hop_limit=hop_limit)
        )
    assert (await receiver.verdict()).is_local == is_local
    assert (await receiver.verdict()).rule == "ttl"
    assert (await receiver.verdict(LocalMode.COMPAT)).is_local == is_local


def advertisement(*, router: str, device: str, flags: int) -> bytes:
    """A Router Advertisement (RFC 4861 §4.2) with 2001:db8:9::/64, not for autoconfiguration."""
    head = struct.pack("!BBxxBBHII", 134, 0, 64, 0, 0, 0, 0)
    prefix = struct.pack("!BBBBIIxxxx", 3, 4, 64, flags, 3600, 3600)
    return icmp6_packet(router, device, head + prefix + IPv6Address("2001:db8:9::").packed)


def redirect(*, router: str, device: str, host: str) -> bytes:
    """A Redirect message (RFC 4861 §4.5): the target is the destination, which is on-link."""
    target = IPv6Address(host).packed
    return icmp6_packet(router, device, struct.pack("!BBxxI", 137, 0, 0) + target + target)


@pytest.fixture
def proxied_host(lan: Any, namespaces: Any) -> Any:
    """A host behind a router that answers for it on the link (proxy ARP, RFC 1027)."""
    made = namespaces.add()
    namespaces.join(lan.client, made, names=("eth1", "eth0"))
    lan.client.sysctl(ipv4__ip_forward=1, ipv4__conf__eth0__proxy_arp=1)
    add_route(lan.client, "192.0.2.77", "dev", "eth1")
    made.ip("addr", "add", "192.0.2.77/32", "dev", "eth0")
    add_route(made, "192.0.2.2", "dev", "eth0")
    add_route(made, "default", "via", "192.0.2.2")
    return made


async def test_a_host_behind_a_router_in_the_prefix_of_a_link_route_is_not_local(
    lan: Any, receiver: Receiver, proxied_host: Any
) -> None:
    """Only the hop limit shows the router, so that `compat` does not notice it."""
    add_route(lan.device, "192.0.2.0/24", "dev", "eth0")
    for _ in range(2):
        send(proxied_host, "192.0.2.77", "192.0.2.1", receiver.port)
    verdict = await receiver.verdict()
    assert (verdict.rule, verdict.hop_limit) == ("ttl", 254)
    assert (await receiver.verdict(LocalMode.COMPAT)).is_local


async def test_addresses_alone_decide_if_there_are_too_many_routes(
    lan: Any, receiver: Receiver, from_cable: Callable[[str, str], None]
) -> None:
    add_route(lan.device, "192.0.2.0/24", "dev", "eth0")
    from_cable("192.0.2.2", "192.0.2.1")
    assert (await receiver.verdict()).is_local
    lines = [f"route add 10.{n // 256}.{n % 256}.0/24 dev eth0" for n in range(300)]
    lan.device.batch(lines)
    from_cable("192.0.2.2", "192.0.2.1")
    assert (await receiver.verdict()).rule == "prefix"
    lan.device.ip("addr", "add", "192.0.2.4/24", "dev", "eth0", "noprefixroute")
    from_cable("192.0.2.2", "192.0.2.1")
    assert (await receiver.verdict()).is_local


def test_a_prefix_that_an_address_has_is_no_route(lan: Any) -> None:
    """The usual device has no further prefixes to compare."""
    table = lan.device.table()
    assert all(not interface.routes for interface in table.by_index.values())
