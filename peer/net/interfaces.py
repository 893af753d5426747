"""The kernel's tables of interfaces and addresses, and a notification when they change.

pyroute2 parses the messages. The netlink socket is opened here, since the blocking interface of
pyroute2 runs an event loop of its own and cannot be used inside a running one. The kernel answers
within a millisecond, so that reading a table does not need a task.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pyroute2.netlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_GETADDR,
    RTM_GETLINK,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.ifinfmsg import (
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_UP,
)
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from peer.limits import NETLINK_DUMPS, NETLINK_SECONDS

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

SYSFS: Final = Path("/sys/class/net")
"""The folder in which kernels before 5.14 show the device behind an interface."""

_ARPHRD_ETHER: Final = 1
_BUFFER_BYTES: Final = 1 << 16
"""More than the kernel puts into one part of a dump (32 KiB)."""


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An own address of an interface, and the prefix of its neighbours.

    For a point-to-point address the prefix is that of the other end, and does not contain `own`.
    """

    own: IpAddress
    network: IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface, as the kernel describes it.

    `kind` is the driver's name of a virtual interface ("bridge", "wireguard"), or empty.
    `is_hardware` is true for an Ethernet or Wi-Fi interface of a bus device. `lower` is the index
    of its lower interface, `upper` that of the bridge or bond of which it is a port, and `peer`
    that of the other end of a veth pair; 0 means none in this network namespace. `is_elsewhere` is
    true if its lower interface or other end is in another network namespace.
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

    @classmethod
    def from_message(
        cls, message: nlmsg, addresses: tuple[InterfaceAddress, ...] = ()
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

    def ports_of(self, index: int) -> list[Interface]:
        """Return the interfaces that are ports of a bridge, bond or team."""
        return [interface for interface in self.by_index.values() if interface.upper == index]

    def on_top_of(self, index: int) -> list[Interface]:
        """Return the interfaces whose lower interface is this one."""
        return [interface for interface in self.by_index.values() if interface.lower == index]


def kernel_table() -> InterfaceTable:
    """Read the tables of this process's network namespace. Raises `OSError`."""
    addresses: dict[int, list[InterfaceAddress]] = {}
    for message in _dump(RTM_GETADDR):
        addresses.setdefault(message["index"], []).append(_address(message))
    return InterfaceTable.of(
        Interface.from_message(message, tuple(addresses.get(message["index"], ())))
        for message in _dump(RTM_GETLINK)
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
    return InterfaceAddress(
        own=ipaddress.ip_address(message.get("local") or near),
        network=ipaddress.ip_network(f"{near}/{message['prefixlen']}", strict=False),
    )


def _dump(what: int) -> list[nlmsg]:
    for _ in range(NETLINK_DUMPS):
        messages = list(_answers(what))
        if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in messages):
            return messages
    raise InterruptedError("the interface table changes while it is read")


def _answers(what: int) -> Iterator[nlmsg]:
    with _netlink() as sock:
        sock.settimeout(NETLINK_SECONDS)
        # struct nlmsghdr, then a struct ifinfomsg of zeros: every family, every interface
        sock.send(struct.pack("=IHHII16x", 32, what, NLM_F_REQUEST | NLM_F_DUMP, 1, 0))
        while True:
            data, (sender, _) = sock.recvfrom(_BUFFER_BYTES)
            if sender:  # not the kernel
                continue
            for message in MarshalRtnl().parse(data):
                header = message["header"]
                if header.get("error") is not None:
                    raise OSError(f"the kernel refuses its interface table: {header['error']}")
                if header["type"] == NLMSG_DONE:
                    return
                yield message


def _netlink(groups: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


class InterfaceWatch:
    """Calls `on_change` when an interface or an address is added, removed or changed.

    One call may cover many changes; `kernel_table` has the result. Needs a running loop.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._sock = _netlink(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
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
            self._sock.recv(_BUFFER_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # ENOBUFS: there were more changes than the kernel stores
            pass
        self._on_change()
