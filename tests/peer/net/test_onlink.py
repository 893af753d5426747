import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from peer.limits import LOCALITY_DOUBT_SECONDS, LOCALITY_TABLE_SECONDS
from peer.net import interfaces, onlink
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import (
    Interface,
    InterfaceAddress,
    InterfaceTable,
    InterfaceWatch,
    kernel_table,
)
from peer.net.locality_verdict import LocalityVerdict
from peer.net.onlink import Locality, LocalMode

# ----------------------------------------------------------------------------- tables by hand


def on(*texts: str) -> tuple[InterfaceAddress, ...]:
    """Ordinary addresses, "192.0.2.1/24"."""
    return tuple(InterfaceAddress(ip_interface(t).ip, ip_interface(t).network) for t in texts)


def to_peer(own: str, far: str) -> tuple[InterfaceAddress, ...]:
    return (InterfaceAddress(ip_address(own), ip_network(far)),)


LO = Interface(index=1, name="lo", is_loopback=True, addresses=on("127.0.0.1/8", "::1/128"))
ETH = Interface(
    index=2,
    name="eth0",
    is_hardware=True,
    addresses=on("192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"),
)
WLAN = Interface(
    index=3, name="wlan0", is_hardware=True, addresses=on("198.51.100.1/24", "fe80::3/64")
)
BARE = Interface(index=4, name="eth1", is_hardware=True)
ALONE = Interface(
    index=5, name="eth2", is_hardware=True, addresses=on("203.0.113.5/32", "2001:db8:5::5/128")
)
PEERED = Interface(
    index=6, name="eth3", is_hardware=True, addresses=to_peer("10.0.0.1", "10.0.0.2/32")
)
TUNNEL = Interface(
    index=7,
    name="tun0",
    kind="tun",
    is_point_to_point=True,
    resolves_neighbours=False,
    addresses=to_peer("10.9.0.1", "10.9.0.2/32"),
)
PAIR = Interface(index=8, name="eth4", is_hardware=True, addresses=on("10.8.0.0/31"))
TABLE = InterfaceTable.of((LO, ETH, WLAN, BARE, ALONE, PEERED, TUNNEL, PAIR))

GOOD = Datagram(b"x", Address("192.0.2.9", 4000), "192.0.2.1", ETH.index, 255)
GOOD_V6 = Datagram(b"x", Address("2001:db8::9", 4000), "2001:db8::1", ETH.index, 255)
GOOD_LINK = Datagram(b"x", Address("fe80::9", 4000, ETH.index), "fe80::1", ETH.index, 255)
LOOPED = Datagram(b"x", Address("127.0.0.1", 4000), "127.0.0.1", LO.index, 255)


def came(
    source: str,
    destination: str,
    interface: Interface,
    *,
    hop_limit: int | None = 255,
    scope: int = 0,
) -> Datagram:
    return Datagram(b"x", Address(source, 4000, scope), destination, interface.index, hop_limit)


def judge(
    datagram: Datagram,
    *,
    table: InterfaceTable = TABLE,
    mode: LocalMode = LocalMode.STRICT,
    allow_loopback: bool = False,
    interfaces: frozenset[str] = frozenset(),
) -> LocalityVerdict:
    locality = Locality(
        mode=mode,
        allow_loopback=allow_loopback,
        interfaces=interfaces,
        table=lambda: table,
        now=lambda: 0.0,
    )
    return locality.judge(datagram)


def with_interface(interface: Interface, *others: Interface) -> InterfaceTable:
    return InterfaceTable.of((LO, interface, *others))


@pytest.mark.parametrize("datagram", [GOOD, GOOD_V6, GOOD_LINK])
def test_a_neighbour_is_local(datagram: Datagram) -> None:
    assert judge(datagram) == LocalityVerdict(True, "", "eth0", 255, "")


@pytest.mark.parametrize("hop_limit", [254, 64, 1, 0, 256, None])
@pytest.mark.parametrize("datagram", [GOOD, GOOD_V6, GOOD_LINK])
def test_rule_1_any_other_hop_limit(datagram: Datagram, hop_limit: int | None) -> None:
    verdict = judge(replace(datagram, hop_limit=hop_limit))
    assert (verdict.is_local, verdict.rule, verdict.hop_limit) == (False, "ttl", hop_limit)
    assert verdict.interface == "eth0"


@pytest.mark.parametrize("hop_limit", [255, 254, 64, None])
def test_compat_drops_rule_1(hop_limit: int | None) -> None:
    assert judge(replace(GOOD, hop_limit=hop_limit), mode=LocalMode.COMPAT).is_local


@pytest.mark.parametrize(
    ("datagram", "rule"),
    [
        (came("10.9.0.2", "10.9.0.1", TUNNEL, hop_limit=64), "interface"),
        (replace(LOOPED, hop_limit=64), "interface"),
        (came("203.0.113.77", "192.0.2.1", ETH, hop_limit=64), "prefix"),
        (came("192.0.2.9", "198.51.100.1", ETH, hop_limit=64), "destination"),
    ],
)
def test_compat_drops_no_other_rule(datagram: Datagram, rule: str) -> None:
    assert judge(datagram, mode=LocalMode.COMPAT).rule == rule


# fmt: off
TUNNELS = [
    "tun", "wireguard", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "vxlan", "geneve",
    "ipip", "sit", "ip6tnl", "ppp", "vti", "vti6", "xfrm", "l2tp", "bareudp", "amt", "gtp",
    "ovpn", "macsec", "dummy", "ifb", "vrf", "netkit", "wwan", "can", "batadv", "unheard_of",
]
# fmt: on


@pytest.mark.parametrize("kind", TUNNELS)
def test_rule_2_kinds_that_are_no_link(kind: str) -> None:
    verdict = judge(GOOD, table=with_interface(replace(ETH, kind=kind, is_hardware=False)))
    assert (verdict.is_local, verdict.rule, verdict.interface) == (False, "interface", "eth0")
    assert kind in verdict.detail


@pytest.mark.parametrize("kind", sorted(onlink.LINK_KINDS))
def test_rule_2_kinds_that_are_a_link(kind: str) -> None:
    assert judge(GOOD, table=with_interface(replace(ETH, kind=kind, is_hardware=False))).is_local


NO_LINKS = [
    replace(ETH, is_hardware=False),  # no kind and no device behind it: an L2TP Ethernet tunnel
    replace(ETH, is_up=False),
    replace(ETH, is_point_to_point=True),
    replace(ETH, resolves_neighbours=False),
    replace(ETH, kind="ipvlan", is_hardware=False, resolves_neighbours=False),  # its L3 modes
]


@pytest.mark.parametrize("interface", NO_LINKS)
def test_rule_2_interfaces_without_neighbours(interface: Interface) -> None:
    assert judge(GOOD, table=with_interface(interface)).rule == "interface"


@pytest.mark.parametrize("ifindex", [0, 99, -1])
def test_rule_2_an_interface_nobody_knows(ifindex: int) -> None:
    verdict = judge(replace(GOOD, ifindex=ifindex))
    assert verdict.rule == "interface"
    assert verdict.interface == ("" if ifindex == 0 else f"#{ifindex}")


@pytest.mark.parametrize("interface", NO_LINKS)
def test_rule_2_a_named_interface_is_allowed(interface: Interface) -> None:
    table = with_interface(interface)
    assert judge(GOOD, table=table, interfaces=frozenset({"eth0"})).is_local
    assert judge(GOOD, table=table, interfaces=frozenset({"eth"})).rule == "interface"


def test_a_named_tunnel_still_obeys_the_other_rules() -> None:
    named = frozenset({"tun0"})
    assert judge(came("10.9.0.2", "10.9.0.1", TUNNEL), interfaces=named).is_local
    assert judge(came("10.9.0.3", "10.9.0.1", TUNNEL), interfaces=named).rule == "prefix"
    assert judge(came("10.9.0.2", "10.9.0.2", TUNNEL), interfaces=named).rule == "destination"
    far = came("10.9.0.2", "10.9.0.1", TUNNEL, hop_limit=64)
    assert judge(far, interfaces=named).rule == "ttl"


def test_naming_one_interface_does_not_forbid_the_others() -> None:
    assert judge(GOOD, interfaces=frozenset({"wlan0"})).is_local


GRETAP = Interface(index=20, name="gretap1", kind="gretap")
NIC = Interface(index=21, name="enp1s0", is_hardware=True)
NIC_BELOW = replace(ETH, kind="vlan", is_hardware=False, lower=NIC.index)
BRIDGE = replace(ETH, kind="bridge", is_hardware=False)


def test_rule_2_what_an_interface_stands_on_counts() -> None:
    assert judge(GOOD, table=with_interface(NIC_BELOW, NIC)).is_local
    on_tunnel = replace(NIC_BELOW, lower=GRETAP.index)
    verdict = judge(GOOD, table=with_interface(on_tunnel, GRETAP))
    assert verdict.rule == "interface"
    assert "gretap1" in verdict.detail
    assert judge(
        GOOD, table=with_interface(on_tunnel, GRETAP), interfaces=frozenset({"gretap1"})
    ).is_local


def test_rule_2_a_bridge_with_a_tunnel_as_a_port_is_a_tunnel() -> None:
    nic, gretap = replace(NIC, upper=BRIDGE.index), replace(GRETAP, upper=BRIDGE.index)
    assert judge(GOOD, table=with_interface(BRIDGE, nic)).is_local
    assert judge(GOOD, table=with_interface(BRIDGE, nic, gretap)).rule == "interface"
    down = replace(gretap, is_up=False)
    assert judge(GOOD, table=with_interface(BRIDGE, nic, down)).is_local
    elsewhere = replace(gretap, upper=99)
    assert judge(GOOD, table=with_interface(BRIDGE, nic, elsewhere)).is_local
    deep = replace(GRETAP, kind="vlan", index=22, name="deep", upper=BRIDGE.index, lower=20)
    assert judge(GOOD, table=with_interface(BRIDGE, nic, deep, GRETAP)).rule == "interface"


@pytest.mark.parametrize("kind", sorted(onlink.LINK_KINDS))
def test_rule_2_what_leads_to_another_namespace_is_no_link(kind: str) -> None:
    led = replace(ETH, kind=kind, is_hardware=False, is_elsewhere=True)
    verdict = judge(GOOD, table=with_interface(led))
    assert (verdict.rule, "another network namespace" in verdict.detail) == ("interface", True)
    assert judge(GOOD, table=with_interface(led), interfaces=frozenset({"eth0"})).is_local
    below = replace(led, index=NIC.index, name="macvlan0")
    assert judge(GOOD, table=with_interface(NIC_BELOW, below)).rule == "interface"


def test_rule_2_an_interface_on_one_that_is_not_known() -> None:
    assert judge(GOOD, table=with_interface(NIC_BELOW)).rule == "interface"


VETH = replace(ETH, kind="veth", is_hardware=False, peer=40)
FAR_END = Interface(index=40, name="veth1", kind="veth", peer=ETH.index)
SWITCH = Interface(index=41, name="br1", kind="bridge")


def test_rule_2_the_other_end_of_a_pair_counts() -> None:
    """Its frames come from whatever sends by its other end."""
    assert judge(GOOD, table=with_interface(VETH, FAR_END)).is_local
    plugged, nic = replace(FAR_END, upper=SWITCH.index), replace(NIC, upper=SWITCH.index)
    assert judge(GOOD, table=with_interface(VETH, plugged, SWITCH, nic)).is_local
    tunnel = replace(GRETAP, upper=SWITCH.index)
    verdict = judge(GOOD, table=with_interface(VETH, plugged, SWITCH, nic, tunnel))
    assert (verdict.rule, "gretap1" in verdict.detail) == ("interface", True)
    # Also behind a VLAN on the other end, and for a VLAN on this one.
    tagged = Interface(index=42, name="veth1.7", kind="vlan", lower=40, upper=SWITCH.index)
    table = with_interface(VETH, FAR_END, tagged, SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    near = replace(NIC_BELOW, lower=50)
    pair = replace(VETH, index=50, name="veth0")
    table = with_interface(near, pair, replace(plugged, peer=50), SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    # A bridge that is plugged into itself ends as well.
    looped = replace(VETH, upper=SWITCH.index)
    assert judge(GOOD, table=with_interface(looped, plugged, SWITCH)).is_local
    # What routes for a VRF sends no frames of others.
    vrf = Interface(index=43, name="vrf0", kind="vrf")
    routed = replace(FAR_END, upper=vrf.index)
    assert judge(GOOD, table=with_interface(VETH, routed, vrf)).is_local


def test_rule_2_a_sibling_on_the_same_card_counts() -> None:
    """Two macvlans on one card reach each other, and so does what bridges one of them."""
    mine = replace(ETH, kind="macvlan", is_hardware=False, lower=NIC.index)
    sibling = Interface(index=44, name="mv1", kind="macvlan", lower=21, upper=SWITCH.index)
    table = with_interface(mine, NIC, sibling, SWITCH)
    assert judge(GOOD, table=table).is_local
    tunnel = replace(GRETAP, upper=SWITCH.index)
    table = with_interface(mine, NIC, sibling, SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    tagged = replace(sibling, kind="vlan")  # another segment
    assert judge(GOOD, table=with_interface(mine, NIC, tagged, SWITCH, tunnel)).is_local


def test_rule_2_many_bridges_are_looked_at_once() -> None:
    """Pairs between all of them make no more work than there are interfaces."""
    bridges = [Interface(index=100 + n, name=f"b{n}", kind="bridge") for n in range(6)]
    pairs: list[Interface] = []
    for one in bridges:
        for other in bridges:
            ends = 1000 + 2 * len(pairs), 1001 + 2 * len(pairs)
            for end, (mine, bridge) in enumerate(zip(ends, (one, other), strict=True)):
                peer = ends[1 - end]
                made = Interface(
                    index=mine, name=f"v{mine}", kind="veth", peer=peer, upper=bridge.index
                )
                pairs.append(made)
    here = replace(ETH, kind="bridge", is_hardware=False)
    pairs[0] = replace(pairs[0], upper=here.index)
    looked: list[str] = []

    class Watched(frozenset[str]):
        def __contains__(self, name: object) -> bool:
            looked.append(str(name))
            return False

    table = with_interface(here, *bridges, *pairs)
    assert judge(GOOD, table=table, interfaces=Watched()).is_local
    assert len(looked) == len({*looked}) <= len(bridges) + len(pairs) + 1


def test_rule_2_a_circle_of_interfaces_ends() -> None:
    one = replace(ETH, kind="vlan", is_hardware=False, lower=30)
    other = Interface(index=30, name="other", kind="vlan", lower=ETH.index)
    assert judge(GOOD, table=with_interface(one, other)).is_local
    assert judge(GOOD, table=with_interface(one, replace(other, kind="tun"))).rule == "interface"
    assert judge(GOOD, table=with_interface(replace(one, lower=one.index))).is_local


@pytest.mark.parametrize(
    "datagram",
    [
        came("203.0.113.9", "192.0.2.1", ETH),
        came("8.8.8.8", "192.0.2.1", ETH),
        came("198.51.100.9", "192.0.2.1", ETH),  # on-link, but on another interface
        came("2001:db8:1::9", "2001:db8::1", ETH),
        came("::", "2001:db8::1", ETH),
        came("0.0.0.0", "192.0.2.1", ETH),
        came("127.0.0.1", "192.0.2.1", ETH),
        came("192.0.2.255", "192.0.2.1", ETH),  # the broadcast address as a source
        came("192.0.2.0", "192.0.2.1", ETH),
        came("224.0.0.1", "192.0.2.1", ETH),
        came("ff02::1", "2001:db8::1", ETH),
        came("8.8.8.8", "192.0.2.1", BARE),  # no address and no route: nothing is on-link
        came("203.0.113.6", "203.0.113.5", ALONE),  # a /32 has no neighbours
        came("203.0.113.5", "203.0.113.5", ALONE),
        came("2001:db8:5::6", "2001:db8:5::5", ALONE),
        came("10.0.0.3", "10.0.0.1", PEERED),
        came("10.0.0.1", "10.0.0.1", PEERED),
    ],
)
def test_rule_3_sources_that_are_not_on_link_there(datagram: Datagram) -> None:
    verdict = judge(datagram)
    assert (verdict.is_local, verdict.rule) == (False, "prefix")
    assert datagram.source.host in verdict.detail


def test_rule_3_the_other_end_of_a_point_to_point_address_is_on_link() -> None:
    assert judge(came("10.0.0.2", "10.0.0.1", PEERED)).is_local
    assert judge(came("10.8.0.1", "10.8.0.0", PAIR)).is_local  # a /31 has no broadcast address


@pytest.mark.parametrize("own", ["192.0.2.1", "198.51.100.1", "203.0.113.5", "10.9.0.1"])
def test_rule_3_our_own_addresses_come_from_nobody_else(own: str) -> None:
    assert judge(came(own, "192.0.2.1", ETH)).rule == "prefix"
    assert judge(came("2001:db8::1", "2001:db8::1", ETH)).rule == "prefix"
    assert judge(came("fe80::1", "fe80::1", ETH, scope=ETH.index)).rule == "prefix"


@pytest.mark.parametrize("scope", [0, 1, WLAN.index, 99])
def test_rule_3_a_link_local_source_of_another_scope(scope: int) -> None:
    assert judge(came("fe80::9", "fe80::1", ETH, scope=scope)).rule == "prefix"


def test_rule_3_link_local_addresses_mean_nothing_on_another_link() -> None:
    """eth0's own fe80::1 may belong to any host on wlan0's link."""
    assert judge(came("fe80::1", "fe80::3", WLAN, scope=WLAN.index)).is_local


@pytest.mark.parametrize(
    "destination",
    [
        "192.0.2.255",
        "255.255.255.255",
        "224.0.0.251",
        "198.51.100.1",
        "192.0.2.77",
        "127.0.0.1",
        "",
    ],
)
def test_rule_4_destinations_that_are_not_ours_there(destination: str) -> None:
    assert judge(replace(GOOD, destination=destination)).rule == "destination"


@pytest.mark.parametrize("destination", ["ff02::1", "ff02::fd", "fe80::3", "::1", "2001:db8::2"])
def test_rule_4_ipv6_destinations_that_are_not_ours_there(destination: str) -> None:
    assert judge(replace(GOOD_V6, destination=destination)).rule == "destination"


def test_the_loopback_is_local_only_when_allowed() -> None:
    assert judge(LOOPED).rule == "interface"
    assert judge(LOOPED, interfaces=frozenset({"lo"})).rule == "interface"
    assert judge(LOOPED, allow_loopback=True).is_local
    assert judge(came("::1", "::1", LO), allow_loopback=True).is_local
    assert judge(came("127.0.0.9", "127.0.0.5", LO), allow_loopback=True).is_local
    # sent to our own address of eth0, which the kernel shows as received by eth0
    assert judge(came("192.0.2.1", "192.0.2.1", ETH), allow_loopback=True).is_local


@pytest.mark.parametrize(
    ("datagram", "rule"),
    [
        (replace(LOOPED, hop_limit=64), "ttl"),
        (came("8.8.8.8", "127.0.0.1", LO), "prefix"),
        (came("127.0.0.1", "224.0.0.251", LO), "destination"),
        (came("127.0.0.1", "192.0.2.1", ETH, hop_limit=64), "ttl"),
        (came("8.8.8.8", "192.0.2.1", ETH), "prefix"),
        (came("10.9.0.1", "10.9.0.1", TUNNEL), "interface"),
    ],
)
def test_an_allowed_loopback_obeys_the_other_rules(datagram: Datagram, rule: str) -> None:
    assert judge(datagram, allow_loopback=True).rule == rule


# ------------------------------------------------------------------------------ the kept table


class Kernel:
    """A table that can change, a clock that is set, and a count of the questions."""

    def __init__(self) -> None:
        self.table = TABLE
        self.asked = 0
        self.time = 100.0
        self.fails = False
        self.locality = Locality(
            mode=LocalMode.STRICT, allow_loopback=False, table=self.answer, now=lambda: self.time
        )

    def answer(self) -> InterfaceTable:
        self.asked += 1
        if self.fails:
            raise OSError("no descriptors left")
        return self.table


def test_a_yes_is_at_most_two_seconds_old() -> None:
    kernel = Kernel()
    assert kernel.locality.judge(GOOD).is_local
    kernel.table = with_interface(replace(ETH, is_up=False))
    kernel.time += LOCALITY_TABLE_SECONDS
    assert kernel.locality.judge(GOOD).is_local
    assert kernel.asked == 1
    kernel.time += 0.1
    assert not kernel.locality.judge(GOOD).is_local


def test_a_new_address_is_seen_at_once_but_doubt_is_bounded() -> None:
    kernel = Kernel()
    kernel.table = with_interface(replace(ETH, addresses=()))
    assert not kernel.locality.judge(GOOD).is_local
    kernel.table = TABLE
    assert not kernel.locality.judge(GOOD).is_local
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).is_local
    asked = kernel.asked
    for _ in range(1000):
        kernel.locality.judge(came("8.8.8.8", "192.0.2.1", ETH))
    assert kernel.asked == asked
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    for _ in range(1000):
        kernel.locality.judge(replace(GOOD, hop_limit=1))  # no table will change that
    assert kernel.asked == asked


def test_nobody_is_local_while_the_kernel_does_not_answer() -> None:
    kernel = Kernel()
    assert kernel.locality.judge(GOOD).is_local
    kernel.fails = True
    kernel.time += LOCALITY_TABLE_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).rule == "interface"
    assert kernel.locality.interface_name(ETH.index) == f"#{ETH.index}"
    kernel.fails = False
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).is_local


def test_interfaces_have_names() -> None:
    locality = Kernel().locality
    assert [locality.interface_name(index) for index in (2, 0, 99)] == ["eth0", "", "#99"]


# ---------------------------------------------------------------------------- the real kernel


async def test_the_kernel_tells_the_loopback_inside_a_running_loop() -> None:
    table = kernel_table()
    lo = table.by_index[socket.if_nametoindex("lo")]
    assert lo.is_loopback
    assert lo.is_up
    assert InterfaceAddress(ip_address("127.0.0.1"), ip_network("127.0.0.0/8")) in lo.addresses
    assert ip_address("127.0.0.1") in table.own


class Message(dict[str, Any]):
    """A link as netlink tells it."""

    def get_nested(self, _: str, name: str) -> Any:
        return self.get(name)


CARD = Message(index=2, ifname="no-such-interface", ifi_type=1, flags=0x1043, parent_dev_name="pci")


@pytest.mark.parametrize(
    ("message", "is_hardware"),
    [
        (CARD, True),
        (Message(CARD, parent_dev_name=None), False),  # an L2TP Ethernet tunnel looks like this
        (Message(CARD, kind="gretap"), False),
        (Message(CARD, ifi_type=0xFFFE), False),  # raw IP, as a modem's interface
        (Message(CARD, ifi_type=512), False),  # PPP
    ],
)
def test_what_counts_as_hardware(message: Message, is_hardware: bool) -> None:
    assert interfaces._interface(message, ()).is_hardware == is_hardware


def test_kernels_before_5_14_show_the_device_in_sysfs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    monkeypatch.setattr(interfaces, "SYSFS", tmp_path)
    old = Message(CARD, parent_dev_name=None, ifname="eth0")
    assert interfaces._interface(old, ()).is_hardware
    assert not interfaces._interface(Message(old, ifname="l2tpeth0"), ()).is_hardware


@pytest.mark.parametrize(("kind", "field"), [("vlan", "lower"), ("veth", "peer")])
def test_what_is_in_another_namespace_is_not_looked_for_here(kind: str, field: str) -> None:
    """Its index means another interface here."""
    message = Message(CARD, kind=kind, link=7)
    here, there = (
        interfaces._interface(m, ()) for m in (message, Message(message, link_netnsid=0))
    )
    assert (getattr(here, field), here.is_elsewhere) == (7, False)
    assert (getattr(there, field), there.is_elsewhere) == (0, True)


#: The device's end of a cable whose other end is in another namespace: it has to be named.
CABLE = frozenset({"eth0"})


class Device:
    """A socket in a namespace, and what it makes of what arrives."""

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
async def test_real_stock_clients_are_local_in_compat_alone(
    client: str, here: str, lan: Any, device: Any
) -> None:
    for _ in range(2):
        send(lan.client, client, here, device.port, hop_limit=64)
    assert (await device.verdict()).rule == "ttl"
    assert (await device.verdict(mode=LocalMode.COMPAT)).is_local


@pytest.fixture
def beyond(lan: Any, namespaces: Any) -> Any:
    """A host behind the client, which routes."""
    made = namespaces.add()
    namespaces.join(lan.client, made, names=("eth1", "eth0"))
    lan.client.ip("addr", "add", "198.51.100.1/24", "dev", "eth1")
    lan.client.sysctl(ipv4__ip_forward=1)
    made.ip("addr", "add", "198.51.100.2/24", "dev", "eth0")
    made.ip("route", "add", "default", "via", "198.51.100.1")
    return made


@pytest.mark.needs_root
async def test_who_comes_through_a_router_is_not_local(lan: Any, beyond: Any, device: Any) -> None:
    for _ in range(2):
        send(beyond, "198.51.100.2", "192.0.2.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.hop_limit, verdict.interface) == ("ttl", 254, "eth0")
    assert (await device.verdict(mode=LocalMode.COMPAT)).rule == "prefix"


@pytest.mark.needs_root
@pytest.mark.needs_tool("nft")
async def test_masquerading_does_not_make_anybody_local(lan: Any, beyond: Any, device: Any) -> None:
    """The router lends its own on-link address: rule 1 is what is left, and it holds."""
    for command in (
        "add table ip n",
        "add chain ip n post { type nat hook postrouting priority 100 ; }",
        "add rule ip n post oif eth0 masquerade",
    ):
        lan.client.run("nft", command)
    send(beyond, "198.51.100.2", "192.0.2.1", device.port)
    verdict = await device.verdict()
    assert (verdict.rule, verdict.hop_limit) == ("ttl", 254)


@pytest.mark.needs_root
async def test_an_address_off_the_link_is_not_local(lan: Any, device: Any) -> None:
    """With hop limit 255, straight from the cable: only the prefix tells."""
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
    """A route look-up that names this interface would call every address on-link."""
    lan.device.ip("addr", "flush", "dev", "eth0")
    lan.device.ip("addr", "add", "192.0.2.1/32", "dev", "eth0")
    for source in ("8.8.8.8", "192.0.2.2"):
        lan.put_on_cable(udp_packet(source, "192.0.2.1", device.port))
        verdict = await device.verdict()
        assert (verdict.rule, verdict.interface) == ("prefix", "eth0")


@pytest.mark.needs_root
async def test_the_other_end_of_a_real_point_to_point_address(
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
async def test_our_own_address_from_the_cable(
    own: str, lan: Any, device: Any, udp_packet: Callable[..., bytes]
) -> None:
    """Linux drops that for IPv4, and delivers it for IPv6."""
    lan.put_on_cable(udp_packet(own, own, device.port))
    assert (await device.verdict()).rule == "prefix"


@pytest.mark.needs_root
@pytest.mark.parametrize("own", ["192.0.2.1", "fe80::1", "127.0.0.1", "::1"])
async def test_this_machine_is_not_its_own_neighbour(own: str, lan: Any, device: Any) -> None:
    for _ in range(2):
        send(lan.device, own, own, device.port)
    assert not (await device.verdict()).is_local
    assert (await device.verdict(allow_loopback=True)).is_local


@pytest.mark.needs_root
@pytest.mark.parametrize("to", ["192.0.2.255", "255.255.255.255", "ff02::1", "198.51.100.77"])
async def test_a_destination_that_is_not_ours_on_that_interface(
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
async def test_a_real_bridge_is_a_link_until_a_tunnel_joins_it(lan: Any, device: Any) -> None:
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
    """A namespace whose bridge holds a VXLAN to the far end of the cable. A host in a third
    one, on a veth to that bridge or a macvlan on such a veth, sees a plain Ethernet link."""
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
    """The datagram comes with hop limit 255, from an address of the interface's own prefix."""
    board = hidden_tunnel
    if interface == "mv0":  # the card is in that namespace, a macvlan on it in ours
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
async def test_a_tunnel_behind_a_pair_in_this_namespace_is_not_a_link(
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
def test_the_kernel_tells_what_an_interface_is(lan: Any) -> None:
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
    assert by_name["eth9"].lower == by_name["eth0"].lower == 0  # a cable is not a floor
    assert (by_name["eth9"].peer, by_name["eth0"].peer) == (by_name["eth8"].index, 0)
    assert (by_name["eth9"].is_elsewhere, by_name["eth0"].is_elsewhere) == (False, True)
    lan.device.ip("link", "set", "eth8", "up")
    lan.device.ip("link", "set", "eth9", "nomaster", "up")
    assert judge_now(lan.device, "10.0.0.2", "10.0.0.1", "eth8").is_local
    lan.device.ip("link", "set", "eth8", "down")
    assert judge_now(lan.device, "10.0.0.2", "10.0.0.1", "eth8").rule == "interface"


@pytest.mark.needs_root
async def test_changes_are_told(lan: Any) -> None:
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
