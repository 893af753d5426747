"""The kernel's tables of interfaces and addresses, and a notification when they change."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from peer.net.netlink import BUFFER_BYTES, dump, open_netlink
from peer.net.netlink_messages import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_OPTIMISTIC,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_UP,
    RTM_GETADDR,
    RTM_GETLINK,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
    nlmsg,
)
from peer.net.routes import IpNetwork, on_link_routes

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SYSFS: Final = Path("/sys/class/net")
"""The folder in which kernels before 5.14 show the device behind an interface."""

_ARPHRD_ETHER: Final = 1


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An own address of an interface, and the prefix of its neighbours.

    For a point-to-point address the prefix is that of the other end, and does not contain `own`.
    `is_usable` is false until duplicate address detection has succeeded (RFC 4862 §5.4).
    `is_lasting` is false for deprecated and temporary addresses (§5.5.4, RFC 8981): they are valid,
    but others should not begin to use them.
    """

    own: IpAddress
    network: IpNetwork
    is_usable: bool = True
    is_lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface, as the kernel describes it.

    `kind` is the driver's name of a virtual interface ("bridge", "wireguard"), or empty.
    `is_hardware` is true for an Ethernet or Wi-Fi interface of a bus device. `lower` is the index
    of its lower interface, `upper` that of the bridge or bond of which it is a port, and `peer`
    that of the other end of a veth pair; 0 means none in this network namespace. `is_elsewhere` is
    true if its lower interface or other end is in another network namespace. `routes` are the
    prefixes of its routes without a gateway, as far as `addresses` do not have them.
    """

    index: int
    name: str
    kind: str = ""
    is_hardware: bool = False
    is_up: bool = True
    is_loopback: bool = False
    is_point_to_point: bool = False
    resolves_neighbours: bool = True
    lower: int = 0
    upper: int = 0
    peer: int = 0
    is_elsewhere: bool = False
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[IpNetwork, ...] = ()

    @classmethod
    def from_message(
        cls,
        message: nlmsg,
        addresses: tuple[InterfaceAddress, ...] = (),
        routes: frozenset[IpNetwork] = frozenset(),
    ) -> "Interface":
        """Return the interface of a netlink message (RTM_NEWLINK), with these addresses."""
        flags = message["flags"]
        name = message.get("ifname") or str(message["index"])
        kind = message.get_nested("linkinfo", "kind") or ""
        is_elsewhere = message.get("link_netnsid") is not None
        link = 0 if is_elsewhere else message.get("link") or 0  # an index of that namespace
        return cls(
            index=message["index"],
            name=name,
            kind=kind,
            is_hardware=not kind and message["ifi_type"] == _ARPHRD_ETHER and _has_device(message),
            is_up=bool(flags & IFF_UP),
            is_loopback=bool(flags & IFF_LOOPBACK),
            is_point_to_point=bool(flags & IFF_POINTOPOINT),
            resolves_neighbours=not flags & IFF_NOARP,
            lower=link if kind != "veth" else 0,
            upper=message.get("master") or 0,
            peer=link if kind == "veth" else 0,
            is_elsewhere=is_elsewhere,
            addresses=addresses,
            routes=tuple(routes - {address.network for address in addresses}),
        )


@dataclass(frozen=True, slots=True)
class InterfaceTable:
    """All interfaces of this network namespace at one time, by index."""

    by_index: Mapping[int, Interface]
    own: frozenset[IpAddress] = field(init=False)

    def __post_init__(self) -> None:
        own = (a.own for interface in self.by_index.values() for a in interface.addresses)
        object.__setattr__(self, "own", frozenset(own))

    @classmethod
    def of(cls, interfaces: Iterable[Interface]) -> "InterfaceTable":
        """Create a table of these interfaces."""
        return cls(MappingProxyType({interface.index: interface for interface in interfaces}))

    def is_on_link(self, host: str) -> bool:
        """Return whether an IP address is on a network of an interface, without a gateway."""
        address = ipaddress.ip_address(host)
        return address.is_link_local or any(
            address in network
            for interface in self.by_index.values()
            if interface.is_up
            for network in (*(one.network for one in interface.addresses), *interface.routes)
        )

    def ports_of(self, index: int) -> list[Interface]:
        """Return the interfaces that are ports of a bridge, bond or team."""
        return [interface for interface in self.by_index.values() if interface.upper == index]

    def on_top_of(self, index: int) -> list[Interface]:
        """Return the interfaces whose lower interface is this one."""
        return [interface for interface in self.by_index.values() if interface.lower == index]


def kernel_table() -> InterfaceTable:
    """Read the tables of this process's network namespace. Raises `OSError`."""
    addresses: dict[int, list[InterfaceAddress]] = {}
    for message in dump(RTM_GETADDR):
        addresses.setdefault(message["index"], []).append(_address(message))
    routes = on_link_routes()
    return InterfaceTable.of(
        Interface.from_message(
            message,
            tuple(addresses.get(message["index"], ())),
            routes.get(message["index"], frozenset()),
        )
        for message in dump(RTM_GETLINK)
    )


def _has_device(message: nlmsg) -> bool:
    """Return whether an interface belongs to a bus device.

    This distinguishes a network card from an L2TP Ethernet tunnel, which has no kind either.
    Kernels before 5.14 do not report it over netlink, but show it in sysfs.
    """
    if message.get("parent_dev_name") is not None:
        return True
    return (SYSFS / str(message.get("ifname")) / "device").exists()


def _address(message: nlmsg) -> InterfaceAddress:
    # IFA_ADDRESS is the other end of a point-to-point address, else the own address. IFA_LOCAL is
    # the own address; it is missing if there is no other end (IPv6).
    near = message.get("address") or message.get("local")
    flags = message["flags"] if message["family"] == socket.AF_INET6 else 0
    return InterfaceAddress(
        own=ipaddress.ip_address(message.get("local") or near),
        network=ipaddress.ip_network(f"{near}/{message['prefixlen']}", strict=False),
        is_usable=not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) or bool(flags & IFA_F_OPTIMISTIC),
        is_lasting=not flags & (IFA_F_DEPRECATED | IFA_F_TEMPORARY),
    )


class InterfaceWatch:
    """Calls `on_change` when an interface or an address is added, removed or changed.

    One call may cover many changes; `kernel_table` has the result. Needs a running loop.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._sock = open_netlink(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop watching. Safe to repeat."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        try:
            self._sock.recv(BUFFER_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # ENOBUFS: there were more changes than the kernel stores
            pass
        self._on_change()
