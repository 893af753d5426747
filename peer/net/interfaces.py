"""The kernel's table of interfaces and their addresses, as plain values, and word when it changes.

The messages are pyroute2's; the netlink socket is ours, because pyroute2's blocking face runs an
event loop of its own and therefore cannot be used from inside a running one. A dump is answered
by the kernel at once (below a millisecond), so asking for it does not need a task.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pyroute2.netlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE
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
"""Where kernels before 5.14 show the device behind an interface."""

_ARPHRD_ETHER: Final = 1
_BUFFER_BYTES: Final = 1 << 16
"""More than the kernel puts into one part of a dump (32 KiB)."""


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of an interface: our own, and the prefix whose addresses are its neighbours.

    On a point-to-point address the prefix is the other end's, and ``own`` is not in it.
    """

    own: IpAddress
    network: IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What the kernel says of one interface.

    ``kind`` is the driver's name of a virtual interface ("bridge", "wireguard") and empty where
    the kernel gives none; ``is_hardware`` is true for an Ethernet-like interface (Wi-Fi too) with
    a device behind it. ``lower`` is the index of the interface it stands on, ``upper`` of the
    bridge or bond it is a port of, ``peer`` of the other end of a veth pair; 0 = none in this
    network namespace. ``is_elsewhere``: what it stands on, or its other end, is in another one.
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


@dataclass(frozen=True, slots=True)
class InterfaceTable:
    """All interfaces at one moment, by index."""

    by_index: Mapping[int, Interface]
    own: frozenset[IpAddress] = field(init=False)

    def __post_init__(self) -> None:
        own = (a.own for interface in self.by_index.values() for a in interface.addresses)
        object.__setattr__(self, "own", frozenset(own))

    @classmethod
    def of(cls, interfaces: Iterable[Interface]) -> "InterfaceTable":
        """A table of these interfaces."""
        return cls(MappingProxyType({interface.index: interface for interface in interfaces}))

    def ports_of(self, index: int) -> list[Interface]:
        """The interfaces that are ports of a bridge, bond or team."""
        return [interface for interface in self.by_index.values() if interface.upper == index]

    def standing_on(self, index: int) -> list[Interface]:
        """The interfaces that stand on this one."""
        return [interface for interface in self.by_index.values() if interface.lower == index]


def kernel_table() -> InterfaceTable:
    """Ask the kernel, in the network namespace of this process. Raises OSError."""
    addresses: dict[int, list[InterfaceAddress]] = {}
    for message in _dump(RTM_GETADDR):
        addresses.setdefault(message["index"], []).append(_address(message))
    return InterfaceTable.of(
        _interface(message, tuple(addresses.get(message["index"], ())))
        for message in _dump(RTM_GETLINK)
    )


def _interface(message: Any, addresses: tuple[InterfaceAddress, ...]) -> Interface:
    flags = message["flags"]
    name = message.get("ifname") or str(message["index"])
    kind = message.get_nested("linkinfo", "kind") or ""
    is_elsewhere = message.get("link_netnsid") is not None
    link = 0 if is_elsewhere else message.get("link") or 0  # there it means another interface
    return Interface(
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


def _has_device(message: Any) -> bool:
    """Whether a bus device is behind an interface.

    This tells a network card from an L2TP Ethernet tunnel, for which the kernel gives no kind
    either. Kernels before 5.14 do not say it over netlink; they show it in sysfs.
    """
    if message.get("parent_dev_name") is not None:
        return True
    return (SYSFS / str(message.get("ifname")) / "device").exists()


def _address(message: Any) -> InterfaceAddress:
    # IFA_ADDRESS is the far end on a point-to-point address and our own elsewhere; IFA_LOCAL is
    # always ours, and missing where there is no far end (IPv6).
    near = message.get("address") or message.get("local")
    return InterfaceAddress(
        own=ipaddress.ip_address(message.get("local") or near),
        network=ipaddress.ip_network(f"{near}/{message['prefixlen']}", strict=False),
    )


def _dump(what: int) -> list[Any]:
    for _ in range(NETLINK_DUMPS):
        messages = list(_answers(what))
        if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in messages):
            return messages
    raise InterruptedError("the interface table does not hold still")


def _answers(what: int) -> Iterator[Any]:
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
                    raise OSError(f"the kernel does not tell its interfaces: {header['error']}")
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
    """Calls back when an interface or an address comes, goes or changes. Needs a running loop.

    One callback may stand for many changes; what has changed is in the next kernel_table().
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._sock = _netlink(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """No callback comes after this; a second call does nothing."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        try:
            self._sock.recv(_BUFFER_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # ENOBUFS: more changes than the kernel kept for us, so: something changed
            pass
        self._on_change()
