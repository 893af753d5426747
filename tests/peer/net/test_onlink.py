"""Locality rules 1 to 4, and the cached interface table, for given tables and datagrams."""

from dataclasses import replace

import pytest

from peer.limits import LOCALITY_DOUBT_SECONDS, LOCALITY_TABLE_SECONDS, LOCALITY_VERDICTS
from peer.net import onlink
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import (
    Interface,
    InterfaceTable,
)
from peer.net.locality_verdict import LocalityVerdict, LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import ALONE, BARE, ETH, LO, PAIR, PEERED, TABLE, TUNNEL, WLAN, judge

GOOD = Datagram(b"x", Address("192.0.2.9", 4000), "192.0.2.1", ETH.index, 255)
GOOD_V6 = Datagram(b"x", Address("2001:db8::9", 4000), "2001:db8::1", ETH.index, 255)
GOOD_LINK = Datagram(b"x", Address("fe80::9", 4000, ETH.index), "fe80::1", ETH.index, 255)
LOOPED = Datagram(b"x", Address("127.0.0.1", 4000), "127.0.0.1", LO.index, 255)


def datagram_of(
    source: str,
    destination: str,
    interface: Interface,
    *,
    hop_limit: int | None = 255,
    scope: int = 0,
) -> Datagram:
    return Datagram(b"x", Address(source, 4000, scope), destination, interface.index, hop_limit)


def with_interface(interface: Interface, *others: Interface) -> InterfaceTable:
    return InterfaceTable.of((LO, interface, *others))


@pytest.mark.parametrize("datagram", [GOOD, GOOD_V6, GOOD_LINK])
def test_a_neighbour_is_local(datagram: Datagram) -> None:
    assert judge(datagram) == LocalityVerdict(True, "", "eth0", 255, "")


@pytest.mark.parametrize("hop_limit", [254, 64, 1, 0, 256, None])
@pytest.mark.parametrize("datagram", [GOOD, GOOD_V6, GOOD_LINK])
def test_rule_1_rejects_any_hop_limit_but_255(datagram: Datagram, hop_limit: int | None) -> None:
    verdict = judge(replace(datagram, hop_limit=hop_limit))
    assert (verdict.is_local, verdict.rule, verdict.hop_limit) == (False, "ttl", hop_limit)
    assert verdict.interface == "eth0"


@pytest.mark.parametrize("hop_limit", [255, 254, 64, None])
def test_compat_mode_skips_rule_1(hop_limit: int | None) -> None:
    assert judge(replace(GOOD, hop_limit=hop_limit), mode=LocalMode.COMPAT).is_local


@pytest.mark.parametrize(
    ("datagram", "rule"),
    [
        (datagram_of("10.9.0.2", "10.9.0.1", TUNNEL, hop_limit=64), "interface"),
        (replace(LOOPED, hop_limit=64), "interface"),
        (datagram_of("203.0.113.77", "192.0.2.1", ETH, hop_limit=64), "prefix"),
        (datagram_of("192.0.2.9", "198.51.100.1", ETH, hop_limit=64), "destination"),
    ],
)
def test_compat_mode_keeps_the_other_rules(datagram: Datagram, rule: str) -> None:
    assert judge(datagram, mode=LocalMode.COMPAT).rule == rule


# fmt: off
TUNNELS = [
    "tun", "wireguard", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "vxlan", "geneve",
    "ipip", "sit", "ip6tnl", "ppp", "vti", "vti6", "xfrm", "l2tp", "bareudp", "amt", "gtp",
    "ovpn", "macsec", "dummy", "ifb", "vrf", "netkit", "wwan", "can", "batadv", "unheard_of",
]
# fmt: on


@pytest.mark.parametrize("kind", TUNNELS)
def test_rule_2_rejects_tunnels_and_unknown_kinds(kind: str) -> None:
    verdict = judge(GOOD, table=with_interface(replace(ETH, kind=kind, is_hardware=False)))
    assert (verdict.is_local, verdict.rule, verdict.interface) == (False, "interface", "eth0")
    assert kind in verdict.detail


@pytest.mark.parametrize("kind", sorted(onlink.LINK_KINDS))
def test_rule_2_accepts_link_kinds(kind: str) -> None:
    assert judge(GOOD, table=with_interface(replace(ETH, kind=kind, is_hardware=False))).is_local


WITHOUT_NEIGHBOURS = [
    replace(ETH, is_hardware=False),  # neither a kind nor a device: an L2TP Ethernet tunnel
    replace(ETH, is_up=False),
    replace(ETH, is_point_to_point=True),
    replace(ETH, resolves_neighbours=False),
    # ipvlan in an L3 mode
    replace(ETH, kind="ipvlan", is_hardware=False, resolves_neighbours=False),
]


@pytest.mark.parametrize("interface", WITHOUT_NEIGHBOURS)
def test_rule_2_rejects_interfaces_without_neighbours(interface: Interface) -> None:
    assert judge(GOOD, table=with_interface(interface)).rule == "interface"


@pytest.mark.parametrize("ifindex", [0, 99, -1])
def test_rule_2_rejects_an_unknown_interface(ifindex: int) -> None:
    verdict = judge(replace(GOOD, ifindex=ifindex))
    assert verdict.rule == "interface"
    assert verdict.interface == ("" if ifindex == 0 else f"#{ifindex}")


@pytest.mark.parametrize("interface", WITHOUT_NEIGHBOURS)
def test_rule_2_accepts_an_interface_named_in_the_settings(interface: Interface) -> None:
    table = with_interface(interface)
    assert judge(GOOD, table=table, interfaces=frozenset({"eth0"})).is_local
    assert judge(GOOD, table=table, interfaces=frozenset({"eth"})).rule == "interface"


def test_the_other_rules_apply_to_a_named_tunnel() -> None:
    named = frozenset({"tun0"})
    assert judge(datagram_of("10.9.0.2", "10.9.0.1", TUNNEL), interfaces=named).is_local
    assert judge(datagram_of("10.9.0.3", "10.9.0.1", TUNNEL), interfaces=named).rule == "prefix"
    assert (
        judge(datagram_of("10.9.0.2", "10.9.0.2", TUNNEL), interfaces=named).rule == "destination"
    )
    far = datagram_of("10.9.0.2", "10.9.0.1", TUNNEL, hop_limit=64)
    assert judge(far, interfaces=named).rule == "ttl"


def test_naming_one_interface_does_not_exclude_others() -> None:
    assert judge(GOOD, interfaces=frozenset({"wlan0"})).is_local


GRETAP = Interface(index=20, name="gretap1", kind="gretap")
NIC = Interface(index=21, name="enp1s0", is_hardware=True)
NIC_BELOW = replace(ETH, kind="vlan", is_hardware=False, lower=NIC.index)
BRIDGE = replace(ETH, kind="bridge", is_hardware=False)


def test_rule_2_checks_the_lower_interface_too() -> None:
    assert judge(GOOD, table=with_interface(NIC_BELOW, NIC)).is_local
    on_tunnel = replace(NIC_BELOW, lower=GRETAP.index)
    verdict = judge(GOOD, table=with_interface(on_tunnel, GRETAP))
    assert verdict.rule == "interface"
    assert "gretap1" in verdict.detail
    assert judge(
        GOOD, table=with_interface(on_tunnel, GRETAP), interfaces=frozenset({"gretap1"})
    ).is_local


def test_rule_2_rejects_a_bridge_with_a_tunnel_as_a_port() -> None:
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
def test_rule_2_rejects_interfaces_that_lead_to_another_namespace(kind: str) -> None:
    led = replace(ETH, kind=kind, is_hardware=False, is_elsewhere=True)
    verdict = judge(GOOD, table=with_interface(led))
    assert (verdict.rule, "another network namespace" in verdict.detail) == ("interface", True)
    assert judge(GOOD, table=with_interface(led), interfaces=frozenset({"eth0"})).is_local
    below = replace(led, index=NIC.index, name="macvlan0")
    assert judge(GOOD, table=with_interface(NIC_BELOW, below)).rule == "interface"


def test_rule_2_rejects_an_interface_above_an_unknown_one() -> None:
    assert judge(GOOD, table=with_interface(NIC_BELOW)).rule == "interface"


VETH = replace(ETH, kind="veth", is_hardware=False, peer=40)
FAR_END = Interface(index=40, name="veth1", kind="veth", peer=ETH.index)
SWITCH = Interface(index=41, name="br1", kind="bridge")


def test_rule_2_checks_the_other_end_of_a_veth_pair_too() -> None:
    """Frames on a veth come from everything that can send through its other end."""
    assert judge(GOOD, table=with_interface(VETH, FAR_END)).is_local
    plugged, nic = replace(FAR_END, upper=SWITCH.index), replace(NIC, upper=SWITCH.index)
    assert judge(GOOD, table=with_interface(VETH, plugged, SWITCH, nic)).is_local
    tunnel = replace(GRETAP, upper=SWITCH.index)
    verdict = judge(GOOD, table=with_interface(VETH, plugged, SWITCH, nic, tunnel))
    assert (verdict.rule, "gretap1" in verdict.detail) == ("interface", True)
    # A VLAN on the other end counts too, and so does a VLAN on this end.
    tagged = Interface(index=42, name="veth1.7", kind="vlan", lower=40, upper=SWITCH.index)
    table = with_interface(VETH, FAR_END, tagged, SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    near = replace(NIC_BELOW, lower=50)
    pair = replace(VETH, index=50, name="veth0")
    table = with_interface(near, pair, replace(plugged, peer=50), SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    # The search ends if a bridge is connected to itself.
    looped = replace(VETH, upper=SWITCH.index)
    assert judge(GOOD, table=with_interface(looped, plugged, SWITCH)).is_local
    # A VRF routes, so it forwards no frames of other interfaces.
    vrf = Interface(index=43, name="vrf0", kind="vrf")
    routed = replace(FAR_END, upper=vrf.index)
    assert judge(GOOD, table=with_interface(VETH, routed, vrf)).is_local


def test_rule_2_checks_macvlan_siblings_on_the_same_card_too() -> None:
    """Two macvlans on one card reach each other, and so does anything bridged with one of them."""
    mine = replace(ETH, kind="macvlan", is_hardware=False, lower=NIC.index)
    sibling = Interface(index=44, name="mv1", kind="macvlan", lower=21, upper=SWITCH.index)
    table = with_interface(mine, NIC, sibling, SWITCH)
    assert judge(GOOD, table=table).is_local
    tunnel = replace(GRETAP, upper=SWITCH.index)
    table = with_interface(mine, NIC, sibling, SWITCH, tunnel)
    assert judge(GOOD, table=table).rule == "interface"
    tagged = replace(sibling, kind="vlan")  # a VLAN is another segment
    assert judge(GOOD, table=with_interface(mine, NIC, tagged, SWITCH, tunnel)).is_local


def test_rule_2_checks_each_of_many_interfaces_once() -> None:
    """With a veth pair between every two bridges, each interface is still checked once."""
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

    class CountedNames(frozenset[str]):
        def __contains__(self, name: object) -> bool:
            looked.append(str(name))
            return False

    table = with_interface(here, *bridges, *pairs)
    assert judge(GOOD, table=table, interfaces=CountedNames()).is_local
    assert len(looked) == len({*looked}) <= len(bridges) + len(pairs) + 1


def test_rule_2_handles_a_cycle_of_interfaces() -> None:
    one = replace(ETH, kind="vlan", is_hardware=False, lower=30)
    other = Interface(index=30, name="other", kind="vlan", lower=ETH.index)
    assert judge(GOOD, table=with_interface(one, other)).is_local
    assert judge(GOOD, table=with_interface(one, replace(other, kind="tun"))).rule == "interface"
    assert judge(GOOD, table=with_interface(replace(one, lower=one.index))).is_local


@pytest.mark.parametrize(
    "datagram",
    [
        datagram_of("203.0.113.9", "192.0.2.1", ETH),
        datagram_of("8.8.8.8", "192.0.2.1", ETH),
        datagram_of("198.51.100.9", "192.0.2.1", ETH),  # on-link, but on another interface
        datagram_of("2001:db8:1::9", "2001:db8::1", ETH),
        datagram_of("::", "2001:db8::1", ETH),
        datagram_of("0.0.0.0", "192.0.2.1", ETH),
        datagram_of("127.0.0.1", "192.0.2.1", ETH),
        datagram_of("192.0.2.255", "192.0.2.1", ETH),  # the broadcast address as a source
        datagram_of("192.0.2.0", "192.0.2.1", ETH),
        datagram_of("224.0.0.1", "192.0.2.1", ETH),
        datagram_of("ff02::1", "2001:db8::1", ETH),
        datagram_of("8.8.8.8", "192.0.2.1", BARE),  # no address and no route: nothing is on-link
        datagram_of("203.0.113.6", "203.0.113.5", ALONE),  # a /32 has no neighbours
        datagram_of("203.0.113.5", "203.0.113.5", ALONE),
        datagram_of("2001:db8:5::6", "2001:db8:5::5", ALONE),
        datagram_of("10.0.0.3", "10.0.0.1", PEERED),
        datagram_of("10.0.0.1", "10.0.0.1", PEERED),
    ],
)
def test_rule_3_rejects_sources_that_are_not_on_link(datagram: Datagram) -> None:
    verdict = judge(datagram)
    assert (verdict.is_local, verdict.rule) == (False, "prefix")
    assert datagram.source.host in verdict.detail


def test_rule_3_accepts_the_peer_of_a_point_to_point_address() -> None:
    assert judge(datagram_of("10.0.0.2", "10.0.0.1", PEERED)).is_local
    assert judge(
        datagram_of("10.8.0.1", "10.8.0.0", PAIR)
    ).is_local  # a /31 has no broadcast address


@pytest.mark.parametrize("own", ["192.0.2.1", "198.51.100.1", "203.0.113.5", "10.9.0.1"])
def test_rule_3_rejects_our_own_addresses_as_source(own: str) -> None:
    assert judge(datagram_of(own, "192.0.2.1", ETH)).rule == "prefix"
    assert judge(datagram_of("2001:db8::1", "2001:db8::1", ETH)).rule == "prefix"
    assert judge(datagram_of("fe80::1", "fe80::1", ETH, scope=ETH.index)).rule == "prefix"


@pytest.mark.parametrize("scope", [0, 1, WLAN.index, 99])
def test_rule_3_rejects_a_link_local_source_of_another_scope(scope: int) -> None:
    assert judge(datagram_of("fe80::9", "fe80::1", ETH, scope=scope)).rule == "prefix"


def test_rule_3_accepts_our_link_local_address_on_another_link() -> None:
    """eth0's own fe80::1 may belong to any host on wlan0's link."""
    assert judge(datagram_of("fe80::1", "fe80::3", WLAN, scope=WLAN.index)).is_local


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
def test_rule_4_rejects_destinations_that_are_not_ours(destination: str) -> None:
    assert judge(replace(GOOD, destination=destination)).rule == "destination"


@pytest.mark.parametrize("destination", ["ff02::1", "ff02::fd", "fe80::3", "::1", "2001:db8::2"])
def test_rule_4_rejects_ipv6_destinations_that_are_not_ours(destination: str) -> None:
    assert judge(replace(GOOD_V6, destination=destination)).rule == "destination"


def test_the_loopback_is_local_only_when_allowed() -> None:
    assert judge(LOOPED).rule == "interface"
    assert judge(LOOPED, interfaces=frozenset({"lo"})).rule == "interface"
    assert judge(LOOPED, allow_loopback=True).is_local
    assert judge(datagram_of("::1", "::1", LO), allow_loopback=True).is_local
    assert judge(datagram_of("127.0.0.9", "127.0.0.5", LO), allow_loopback=True).is_local
    # sent to our own address of eth0, which the kernel shows as received by eth0
    assert judge(datagram_of("192.0.2.1", "192.0.2.1", ETH), allow_loopback=True).is_local


@pytest.mark.parametrize(
    ("datagram", "rule"),
    [
        (replace(LOOPED, hop_limit=64), "ttl"),
        (datagram_of("8.8.8.8", "127.0.0.1", LO), "prefix"),
        (datagram_of("127.0.0.1", "224.0.0.251", LO), "destination"),
        (datagram_of("127.0.0.1", "192.0.2.1", ETH, hop_limit=64), "ttl"),
        (datagram_of("8.8.8.8", "192.0.2.1", ETH), "prefix"),
        (datagram_of("10.9.0.1", "10.9.0.1", TUNNEL), "interface"),
    ],
)
def test_the_other_rules_apply_to_an_allowed_loopback(datagram: Datagram, rule: str) -> None:
    assert judge(datagram, allow_loopback=True).rule == rule


# ---------------------------------------------------------------------------- the cached table


class FakeKernel:
    """A changeable interface table and clock, and a count of the table reads."""

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


def test_a_positive_verdict_is_based_on_a_table_two_seconds_old_at_most() -> None:
    kernel = FakeKernel()
    assert kernel.locality.judge(GOOD).is_local
    kernel.table = with_interface(replace(ETH, is_up=False))
    kernel.time += LOCALITY_TABLE_SECONDS
    assert kernel.locality.judge(GOOD).is_local
    assert kernel.asked == 1
    kernel.time += 0.1
    assert not kernel.locality.judge(GOOD).is_local


def test_a_new_address_is_seen_soon_and_table_reads_are_rate_limited() -> None:
    kernel = FakeKernel()
    kernel.table = with_interface(replace(ETH, addresses=()))
    assert not kernel.locality.judge(GOOD).is_local
    kernel.table = TABLE
    assert not kernel.locality.judge(GOOD).is_local
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).is_local
    asked = kernel.asked
    for _ in range(1000):
        kernel.locality.judge(datagram_of("8.8.8.8", "192.0.2.1", ETH))
    assert kernel.asked == asked
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    for _ in range(1000):
        kernel.locality.judge(replace(GOOD, hop_limit=1))  # decided without the table
    assert kernel.asked == asked


def test_no_peer_is_local_while_the_kernel_table_cannot_be_read() -> None:
    kernel = FakeKernel()
    assert kernel.locality.judge(GOOD).is_local
    kernel.fails = True
    kernel.time += LOCALITY_TABLE_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).rule == "interface"
    assert kernel.locality.interface_name(ETH.index) == f"#{ETH.index}"
    kernel.fails = False
    kernel.time += LOCALITY_DOUBT_SECONDS * 1.1
    assert kernel.locality.judge(GOOD).is_local


def test_an_interface_name_is_found_by_its_index() -> None:
    locality = FakeKernel().locality
    assert [locality.interface_name(index) for index in (2, 0, 99)] == ["eth0", "", "#99"]


class CountedNames(frozenset[str]):
    """The names in the settings; it counts how often a verdict looks for one."""

    looked = 0

    def __contains__(self, name: object) -> bool:
        type(self).looked += 1
        return super().__contains__(name)


def test_a_session_costs_one_decision_for_each_table() -> None:
    """The datagrams of a session share a path; a path with another hop limit is another one."""
    CountedNames.looked, time = 0, [100.0]
    locality = Locality(
        mode=LocalMode.COMPAT,
        allow_loopback=False,
        interfaces=CountedNames(),
        table=lambda: TABLE,
        now=lambda: time[0],
    )

    def decisions(datagram: Datagram) -> int:
        before = CountedNames.looked
        assert locality.judge(datagram).hop_limit == datagram.hop_limit
        return CountedNames.looked - before

    assert [decisions(GOOD), decisions(replace(GOOD, data=b"y")), decisions(GOOD)] == [1, 0, 0]
    assert decisions(replace(GOOD, hop_limit=64)) == 1
    assert decisions(replace(GOOD, destination="192.0.2.255")) == 1
    time[0] += LOCALITY_TABLE_SECONDS * 1.1
    assert decisions(GOOD) == 1
    for number in range(LOCALITY_VERDICTS):  # forgets, so that a flood of sources takes no memory
        decisions(
            replace(GOOD, source=Address(f"192.0.2.{number % 100 + 10}", 1), hop_limit=number)
        )
    assert decisions(GOOD) == 1


def test_a_neighbour_is_answered_by_its_link_and_others_by_the_routing_table() -> None:
    locality = FakeKernel().locality
    assert [locality.answer_interface(one) for one in (GOOD, GOOD_V6, GOOD_LINK)] == [2, 2, 2]
    assert locality.answer_interface(replace(GOOD_LINK, hop_limit=64)) == 2  # has no other link
    for far in (replace(GOOD, hop_limit=64), datagram_of("8.8.8.8", "192.0.2.1", ETH)):
        assert locality.answer_interface(far) == 0


def test_a_hello_from_elsewhere_makes_the_device_read_no_table() -> None:
    """Its source address is not proved yet, so that anyone could send many of them."""
    kernel = FakeKernel()
    kernel.locality.answer_interface(GOOD)
    for number in range(100):
        kernel.time += LOCALITY_TABLE_SECONDS / 101
        kernel.locality.answer_interface(datagram_of(f"8.8.8.{number}", "192.0.2.1", ETH))
    assert kernel.asked == 1
