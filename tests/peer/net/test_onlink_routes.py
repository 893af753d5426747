"""Locality rules 3 and 4 for routes without a gateway, and for addresses of other interfaces."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from peer.limits import NETLINK_ROUTES
from peer.net import routes
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import Interface, InterfaceAddress, InterfaceTable
from tests.kit.interfaces import ALONE, ETH, LO, TUNNEL, WLAN, judge, on

# ------------------------------------------------------------------------------ routes to prefixes

MAIN, LOCAL = 254, 255
LINK_ROUTE = {
    "family": 2,
    "dst": "198.51.100.0",
    "dst_len": 24,
    "src_len": 0,
    "tos": 0,
    "table": MAIN,
    "proto": 3,  # boot
    "scope": 253,
    "type": 1,  # unicast
    "flags": 0,
    "oif": 2,
}
LINK_ROUTE_V6 = LINK_ROUTE | {"family": 10, "dst": "2001:db8::", "dst_len": 64, "scope": 0}


def networks(route: dict[str, Any]) -> list[tuple[int, str]]:
    return [(index, str(network)) for index, network in routes.on_link(route)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 9, 16, 99])  # kernel, boot, static, ra, dhcp, other
def test_a_route_without_a_gateway_is_on_link(protocol: int) -> None:
    assert networks(LINK_ROUTE | {"proto": protocol}) == [(2, "198.51.100.0/24")]
    assert networks(LINK_ROUTE_V6 | {"proto": protocol}) == [(2, "2001:db8::/64")]
    assert networks(LINK_ROUTE | {"scope": 0}) == [(2, "198.51.100.0/24")]
    assert networks(LINK_ROUTE | {"dst": "198.51.100.7", "dst_len": 32}) == [(2, "198.51.100.7/32")]


NOT_ON_LINK: dict[str, dict[str, Any]] = {
    "through a router": {"gateway": "192.0.2.9", "scope": 0},
    "through an IPv6 router": {"via": {"family": 10, "addr": "fe80::1"}, "scope": 0},
    "through a router by its interface alone": {"gateway": "203.0.113.9", "flags": 4},  # onlink
    "into a tunnel": {"encap_type": 2},  # LWTUNNEL_ENCAP_IP
    "without an interface": {"oif": None},
    "by redirect": {"proto": 1},
    "an exception": {"flags": 0x200},  # RTM_F_CLONED
    "an own address": {"type": 2},
    "broadcast": {"type": 3},
    "multicast": {"type": 5},
    "blackhole": {"type": 6},
    "unreachable": {"type": 7},
    "of the local table": {"table": LOCAL},
    "of a table for a rule": {"table": 100},
    "for one source": {"src_len": 64},
    "for one kind of traffic": {"tos": 8},
    "the default route": {"dst": None, "dst_len": 0},
    "of MPLS": {"family": 28},
}


@pytest.mark.parametrize("change", NOT_ON_LINK.values(), ids=NOT_ON_LINK)
def test_no_other_route_is_on_link(change: dict[str, Any]) -> None:
    assert networks(LINK_ROUTE | change) == []
    if "dst" not in change and "family" not in change:
        assert networks(LINK_ROUTE_V6 | change) == []


def test_each_path_of_a_multipath_route_counts_for_itself() -> None:
    paths = [{"oif": 2}, {"oif": 3, "gateway": "192.0.2.9"}, {"oif": 4}]
    route = LINK_ROUTE | {"oif": None, "multipath": paths}
    assert networks(route) == [(2, "198.51.100.0/24"), (4, "198.51.100.0/24")]


def test_no_route_counts_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def dump(_what: int, _body: bytes, *, strict: bool, most: int | None) -> list[dict[str, Any]]:
        asked.append(most)
        if len(asked) > 1 or not strict:
            raise OSError("too many")
        return [LINK_ROUTE, LINK_ROUTE_V6]

    monkeypatch.setattr(routes, "dump", dump)
    expected = frozenset((ip_network("198.51.100.0/24"), ip_network("2001:db8::/64")))
    assert routes.on_link_routes() == {2: expected}
    assert routes.on_link_routes() == {}
    assert asked == [NETLINK_ROUTES] * 2


# ----------------------------------------------------------------------------- prefixes to verdicts

LINK_ROUTES = (ip_network("203.0.113.0/24"), ip_network("2001:db8:5::/64"))
ROUTED = replace(ALONE, routes=LINK_ROUTES)


def rule_of(source: str, destination: str, arrival: Interface, *others: Interface) -> str:
    return judge(
        Datagram(b"x", Address(source, 4000), destination, arrival.index, 255),
        table=InterfaceTable.of((LO, arrival, *others)),
    ).rule


def test_rule_3_accepts_a_source_in_the_prefix_of_a_link_route() -> None:
    assert rule_of("203.0.113.9", "203.0.113.5", ROUTED) == ""
    assert rule_of("2001:db8:5::9", "2001:db8:5::5", ROUTED) == ""
    assert rule_of("203.0.113.9", "203.0.113.5", ALONE) == "prefix"
    assert rule_of("2001:db8:5::9", "2001:db8:5::5", ALONE) == "prefix"


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("203.0.114.9", "203.0.113.5"),
        ("203.0.113.5", "203.0.113.5"),  # our own
        ("203.0.113.0", "203.0.113.5"),
        ("203.0.113.255", "203.0.113.5"),
        ("2001:db8:6::9", "2001:db8:5::5"),
        ("2001:db8:5::5", "2001:db8:5::5"),
    ],
)
def test_rule_3_rejects_other_sources_despite_a_link_route(source: str, destination: str) -> None:
    assert rule_of(source, destination, ROUTED) == "prefix"


def test_rule_3_rejects_groups_whatever_the_routes() -> None:
    wide = replace(
        ETH, routes=(ip_network("192.0.0.0/16"), ip_network("239.0.0.0/8"), ip_network("ff00::/8"))
    )
    assert rule_of("192.0.3.9", "192.0.2.1", wide) == ""
    assert rule_of("192.0.2.255", "192.0.2.1", wide) == "prefix"  # broadcast of the address
    assert rule_of("239.1.2.3", "192.0.2.1", wide) == "prefix"
    assert rule_of("ff02::1", "2001:db8::1", wide) == "prefix"


@pytest.mark.parametrize(
    ("prefix", "is_on_link"),
    [
        ("0.0.0.0/0", False),
        ("128.0.0.0/1", False),
        ("196.0.0.0/6", False),
        ("198.0.0.0/7", False),
        ("198.0.0.0/8", True),
        ("::/0", False),
        ("2000::/3", False),
        ("2000::/7", False),
        ("2000::/8", True),
    ],
)
def test_rule_3_takes_no_large_part_of_the_internet_for_the_link(
    prefix: str, is_on_link: bool
) -> None:
    """A default route without a gateway, its two halves, or an address with such a prefix."""
    source, own = (
        ("2001:db8:5::9", "2001:db8::1") if ":" in prefix else ("198.51.100.9", "192.0.2.1")
    )
    routed = replace(ETH, routes=(ip_network(prefix),))
    addressed = replace(
        ETH, addresses=(*ETH.addresses, InterfaceAddress(ip_address(own), ip_network(prefix)))
    )
    for interface in (routed, addressed):
        assert rule_of(source, own, interface) == ("" if is_on_link else "prefix")


def test_the_link_route_of_another_interface_does_not_count() -> None:
    assert rule_of("203.0.113.9", "192.0.2.1", ETH, ROUTED) == "prefix"
    assert rule_of("203.0.113.9", "203.0.113.5", ETH, ROUTED) == "prefix"


@pytest.mark.parametrize(
    "tunnel",
    [
        TUNNEL,
        replace(TUNNEL, is_point_to_point=False),
        replace(TUNNEL, resolves_neighbours=True),
    ],
)
def test_the_routes_into_a_named_tunnel_do_not_count(tunnel: Interface) -> None:
    """All that is routed through the tunnel would be local; only its other end is."""
    routed = replace(tunnel, routes=(ip_network("10.9.0.0/16"),))
    for source, is_local in (("10.9.0.2", True), ("10.9.0.3", False)):
        verdict = judge(
            Datagram(b"x", Address(source, 4000), "10.9.0.1", TUNNEL.index, 255),
            table=InterfaceTable.of((LO, routed)),
            interfaces=frozenset({"tun0"}),
        )
        assert verdict.is_local == is_local


# ------------------------------------------------------------------- addresses of other interfaces

WIFI = replace(WLAN, addresses=on("192.0.2.3/24", "2001:db8::3/64", "fe80::3/64"))


@pytest.mark.parametrize(
    ("source", "destination"),
    [("192.0.2.9", "192.0.2.3"), ("2001:db8::9", "2001:db8::3")],
)
@pytest.mark.parametrize(
    "arrival",
    [
        ETH,
        *(replace(ETH, kind=kind, is_hardware=False) for kind in ("bridge", "bond", "veth")),
        # a VLAN and a macvlan on the Wi-Fi itself
        *(
            replace(ETH, kind=kind, is_hardware=False, lower=WIFI.index)
            for kind in ("vlan", "macvlan")
        ),
    ],
    ids=lambda interface: interface.kind or "hardware",
)
def test_rule_4_accepts_the_address_of_another_link_in_the_same_prefix(
    source: str, destination: str, arrival: Interface
) -> None:
    assert rule_of(source, destination, arrival, WIFI) == ""


@pytest.mark.parametrize("name", ["tun0", "lo", "docker0", "dummy0"])
def test_rule_4_accepts_an_own_address_in_the_prefix_on_any_interface(name: str) -> None:
    """The interface that received the datagram decides whether its sender is a neighbour."""
    holder = replace(TUNNEL, name=name, addresses=on("192.0.2.7/32"))
    assert rule_of("192.0.2.9", "192.0.2.7", ETH, holder) == ""
    assert rule_of("192.0.2.9", "192.0.2.8", ETH, holder) == "destination"


def test_rule_4_accepts_the_address_of_another_link_in_the_prefix_of_a_link_route() -> None:
    other = replace(WLAN, addresses=on("203.0.113.6/32", "2001:db8:5::6/128"))
    assert rule_of("203.0.113.9", "203.0.113.6", ROUTED, other) == ""
    assert rule_of("2001:db8:5::9", "2001:db8:5::6", ROUTED, other) == ""
    assert rule_of("203.0.113.9", "203.0.113.6", replace(other, routes=LINK_ROUTES), ROUTED) == ""


def test_rule_4_accepts_ipv4_link_local_addresses_of_both_links() -> None:
    """Two links without DHCP: Linux does not bind these addresses to their interface (RFC 3927)."""
    cable = replace(ETH, addresses=on("169.254.1.1/16"))
    wifi = replace(WLAN, addresses=on("169.254.3.3/16"))
    assert rule_of("169.254.9.9", "169.254.3.3", cable, wifi) == ""


@pytest.mark.parametrize(
    ("source", "destination", "detail"),
    [
        ("192.0.2.9", "198.51.100.1", "another interface"),
        ("192.0.2.9", "172.17.0.1", "another interface"),
        ("192.0.2.9", "127.0.0.1", "another interface"),
        ("192.0.2.9", "192.0.2.77", "not an address of eth0"),
        ("192.0.2.9", "224.0.0.251", "not an address of eth0"),
        ("2001:db8::9", "fe80::3", "not an address of eth0"),
        ("2001:db8::9", "::1", "another interface"),
        ("192.0.2.9", "", "unknown"),
    ],
)
def test_rule_4_says_why_a_destination_is_refused(
    source: str, destination: str, detail: str
) -> None:
    docker = replace(ETH, index=60, name="docker0", kind="bridge", addresses=on("172.17.0.1/16"))
    verdict = judge(
        Datagram(b"x", Address(source, 4000), destination, ETH.index, 255),
        table=InterfaceTable.of((LO, ETH, WLAN, docker)),
    )
    assert (verdict.rule, detail in verdict.detail) == ("destination", True)


def test_rule_4_rejects_an_own_address_that_is_broadcast_on_the_link() -> None:
    odd = replace(WLAN, addresses=on("192.0.2.255/32"))
    assert rule_of("192.0.2.9", "192.0.2.255", ETH, odd) == "destination"


def test_another_link_changes_nothing_about_the_source() -> None:
    assert rule_of("198.51.100.9", "192.0.2.3", ETH, WIFI) == "prefix"
    assert rule_of("192.0.2.3", "192.0.2.1", ETH, WIFI) == "prefix"  # our own address
    down = replace(ETH, is_up=False)
    assert rule_of("192.0.2.9", "192.0.2.3", down, WIFI) == "interface"
