"""The order of own interfaces and addresses, and what is left out when there are too many."""

import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK

from peer.limits import MAX_ADVERT_ADDRESSES, MAX_MULTICAST_LINKS
from peer.net import interfaces
from peer.net.address import Address, is_own
from peer.net.adverts import Advert, Vantage, advert_untrusted, merged
from peer.net.interfaces import Interface, InterfaceTable, kernel_table
from peer.net.ranking import kept, links, ranked
from tests.kit.interfaces import on, to_peer
from tests.kit.mdns import text_record

NETWORKS = [
    Interface(index=n, name=f"br{n}", kind="bridge", addresses=on(f"172.{n}.0.1/16"))
    for n in range(10, 40)
]
PORT = Interface(
    index=50, name="veth0", kind="veth", upper=10, is_elsewhere=True, addresses=on("fe80::50/64")
)
CARD = Interface(index=90, name="eth0", is_hardware=True, addresses=on("192.168.1.5/24"))
CARD_IN_BRIDGE = Interface(index=91, name="eth1", is_hardware=True, upper=92)
BRIDGE_OF_CARD = Interface(index=92, name="br-lan", kind="bridge", addresses=on("192.168.2.5/24"))
VLAN = Interface(index=93, name="eth0.7", kind="vlan", lower=91, addresses=on("192.168.7.5/24"))
TO_HOST = Interface(
    index=94, name="eth2", kind="veth", is_elsewhere=True, addresses=on("172.17.0.9/16")
)


@pytest.mark.parametrize("link", [CARD, VLAN, TO_HOST], ids=lambda link: link.name)
def test_a_link_to_other_machines_is_never_left_out(link: Interface) -> None:
    table = InterfaceTable.of([*NETWORKS, PORT, CARD_IN_BRIDGE, link])
    found = links(table, None)
    assert len(found) == MAX_MULTICAST_LINKS
    assert found[0].index == link.index
    assert PORT.index not in {one.index for one in found}


def test_a_bridge_with_a_card_comes_before_container_networks() -> None:
    found = links(InterfaceTable.of([*NETWORKS, CARD_IN_BRIDGE, BRIDGE_OF_CARD]), None)
    assert found[0].index == BRIDGE_OF_CARD.index


def test_selected_interfaces_and_addresses_are_used_alone() -> None:
    table = InterfaceTable.of([*NETWORKS, CARD, VLAN])
    assert [one.index for one in links(table, ["eth0", "172.30.0.1"])] == [90, 30]
    assert links(table, ["eth9"]) == ()


def test_interfaces_without_neighbours_are_left_out() -> None:
    down = Interface(index=1, name="eth0", is_up=False, addresses=on("192.0.2.1/24"))
    loopback = Interface(index=2, name="lo", is_loopback=True, addresses=on("127.0.0.1/8"))
    tunnel = Interface(
        index=3, name="tun0", is_point_to_point=True, addresses=to_peer("10.9.0.1", "10.9.0.2/32")
    )
    assert links(InterfaceTable.of([down, loopback, tunnel]), None) == ()
    assert [one.index for one in links(InterfaceTable.of([loopback]), ["lo"])] == [2]


def test_addresses_are_ranked_and_a_link_local_one_is_always_kept() -> None:
    texts = ("fe80::1", "169.254.1.1", "fd00::1", "2606:4700::1", "192.168.1.1", "8.8.4.4")
    order = ("8.8.4.4", "192.168.1.1", "2606:4700::1", "fd00::1", "169.254.1.1", "fe80::1")
    assert tuple(map(str, ranked(on(*texts)))) == order
    many = [ip_address(f"2001:db8::{number}") for number in range(100)]
    found = ranked(on(*map(str, many), "fe80::1"))
    assert len(found) == MAX_ADVERT_ADDRESSES
    assert str(found[-1]) == "fe80::1"
    assert kept(many, 3) == tuple(many[:3])
    assert kept([], 3) == ()


def test_addresses_that_will_be_removed_come_after_the_lasting_ones() -> None:
    [old, new, local] = on("2606:4700::1/64", "fd00::2/64", "fe80::1/64")
    found = ranked([replace(old, is_lasting=False), new, local])
    assert tuple(map(str, found)) == ("fd00::2", "2606:4700::1", "fe80::1")


@pytest.mark.parametrize(
    ("flags", "is_usable", "is_lasting"),
    [
        (0x80, True, True),  # permanent
        (0x01, True, False),  # temporary
        (0xA0, True, False),  # deprecated
        (0xC0, False, True),  # duplicate address detection is not complete
        (0xC4, True, True),  # optimistic (RFC 4429)
        (0xC8, False, True),  # another host has the address
    ],
)
def test_the_state_of_an_address_is_that_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, flags: int, *, is_usable: bool, is_lasting: bool
) -> None:
    head = {"index": 7, "ifi_type": 1, "flags": 1, "prefixlen": 64}
    ipv6 = Message(head, family=socket.AF_INET6, address="2001:db8::1")
    ipv4 = Message(head, family=socket.AF_INET, address="192.0.2.1", prefixlen=24)
    for message in (ipv6, ipv4):
        message["flags"] = flags
    answers = {RTM_GETADDR: [ipv6, ipv4], RTM_GETLINK: [Message(head)]}
    monkeypatch.setattr(interfaces, "dump", answers.get)
    monkeypatch.setattr(interfaces, "on_link_routes", dict)
    [one, other] = kernel_table().by_index[7].addresses
    assert (one.is_usable, one.is_lasting) == (is_usable, is_lasting)
    assert (other.is_usable, other.is_lasting) == (True, True)  # 0x01: secondary
    table = InterfaceTable.of([replace(CARD, addresses=(one,))])
    assert bool(links(table, None)) == is_usable


class Message(dict[str, Any]):
    """A message in the form of the netlink library."""

    def get_nested(self, *_: str) -> None:
        """No nested attribute exists."""


def test_the_addresses_on_the_receiving_link_come_first() -> None:
    table = InterfaceTable.of([CARD])
    vantage = Vantage(interface=90, networks=links(table, None)[0].networks, own=table.own)
    texts = [f"172.{number}.0.1" for number in range(17, 33)]
    advert = advert_untrusted(
        host="h.local.",
        port=5684,
        addresses=[*texts, "192.168.1.5", "fe80::1%90", "192.168.1.20"],
        text=text_record(),
        vantage=vantage,
    )
    assert advert.addresses[0] == "192.168.1.20"
    assert advert.addresses[7] == "fe80::1%90", "a client tries eight addresses of an advert"
    assert "192.168.1.5" not in advert.addresses
    assert len(advert.addresses) == MAX_ADVERT_ADDRESSES


def test_adverts_of_several_links_are_merged_for_display() -> None:
    def advert(*addresses: str) -> Advert:
        return advert_untrusted(
            host="h.local.",
            port=5684,
            addresses=addresses,
            text=text_record(),
            vantage=Vantage(),
        )

    one = advert("10.0.0.1", "fe80::1%2")
    two = advert("10.0.1.1", "10.0.0.1")
    assert merged([one, two]).addresses == ("10.0.1.1", "10.0.0.1", "fe80::1%2")


@pytest.mark.needs_root
def test_own_addresses_are_recognised_without_sending(lan: Any) -> None:
    with lan.client.inside():
        index = lan.client.index("eth0")
        own = [Address("192.0.2.2", 5684), Address("2001:db8::2", 5684)]
        own.append(Address("fe80::2", 5684, index))
        others = [Address("192.0.2.1", 5684), Address("2001:db8::1", 0)]
        others.append(Address("fe80::1", 5684, index))
        others += [Address("127.0.0.1", 5684), Address("::1", 5684)]  # this machine, if it is named
        others.append(Address("203.0.113.1", 5684))  # no route
        assert [one for one in (*own, *others) if is_own(one)] == own
