"""The on-link prefixes that only the kernel's routing table knows (protocol §3, rule `prefix`).

A host that has its address from DHCPv6 has it as a /128, and the prefix of its neighbours is a
route without a gateway. IPv4 hosts with a /32 and a link route are configured in the same way.

Only the main table counts: whether a rule selects another one depends on more than addresses, and
VPN software keeps its catch-all routes there. A default route without a gateway does not make the
Internet on-link. Neither does what other hosts can write without being a router or a DHCP server: a
redirect (RFC 4861 §8, RFC 1122 §3.2.2.2) is a cached exception, and not a route.
"""

import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from peer.limits import NETLINK_ROUTES
from peer.net.netlink import dump
from peer.net.netlink_messages import RTM_GETROUTE, rt_proto, rt_type

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAIN: Final = 254  # RT_TABLE_MAIN
_CLONED: Final = 0x200  # RTM_F_CLONED
_REQUEST: Final = struct.pack("=12xHHI", 8, 15, _MAIN)
"""struct rtmsg of zeros, which is every family, and RTA_TABLE."""


def on_link_routes() -> Mapping[int, frozenset[IpNetwork]]:
    """Return the on-link prefixes of the main table, by the index of their interface.

    There are none if the table cannot be read: then only addresses decide. Never raises `OSError`.
    """
    found: defaultdict[int, set[IpNetwork]] = defaultdict(set)
    try:
        messages = dump(RTM_GETROUTE, _REQUEST, strict=True, most=NETLINK_ROUTES)
    except OSError:
        return {}
    for message in messages:
        for index, network in on_link(message):
            found[index].add(network)
    return {index: frozenset(networks) for index, networks in found.items()}


def on_link(message: Mapping[str, Any]) -> Iterator[tuple[int, IpNetwork]]:
    """Return the interfaces on which a route makes a prefix on-link, with the prefix."""
    if not _can_be_on_link(message):
        return
    network = ipaddress.ip_network(f"{message.get('dst')}/{message['dst_len']}", strict=False)
    for hop in message.get("multipath") or (message,):
        index = hop.get("oif")
        if index and not (hop.get("gateway") or hop.get("via") or hop.get("encap_type")):
            yield index, network


def _can_be_on_link(message: Mapping[str, Any]) -> bool:
    return (
        message["family"] in (socket.AF_INET, socket.AF_INET6)
        and message.get("table") == _MAIN
        and message["type"] == rt_type["unicast"]
        and message["proto"] != rt_proto["redirect"]
        and not message["flags"] & _CLONED
        and not (message["src_len"] or message["tos"])  # not valid for every packet
        and message.get("dst") is not None  # not the default route
    )
