"""UDP sockets of Linux with ancillary data: how a datagram arrived, and how it is to leave.

The values are those of <linux/in.h> and <linux/in6.h>; ip(7) and ipv6(7) describe them.

Values that all datagrams of a session share are computed once: these functions depend on their
arguments alone, and remember a bounded number of results.
"""

import errno
import socket
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final

from peer.limits import SOCKET_MEMORIES
from peer.net.address import Address, canonical_host

HOP_LIMIT: Final = 255
"""The hop limit that is sent, and that a datagram of a direct neighbour still has (RFC 5082)."""

AncillaryItem = tuple[int, int, bytes]
Ancillary = list[AncillaryItem]
SocketName = tuple[str, int] | tuple[str, int, int, int]


class _Linux(IntEnum):
    """Constants that the socket module of Python 3.11 lacks."""

    IP_PKTINFO = 8
    IP_RECVTTL = 12


_INT: Final = struct.Struct("@i")
IN_PKTINFO: Final = struct.Struct("@i4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
IN6_PKTINFO: Final = struct.Struct("@16sI")  # ipi6_addr, ipi6_ifindex

ANCILLARY_BYTES: Final = 2 * socket.CMSG_SPACE(_INT.size) + sum(
    socket.CMSG_SPACE(layout.size) for layout in (IN_PKTINFO, IN6_PKTINFO)
)
"""The most that a dual-stack socket delivers: packet information and hop limit, in both forms."""


def open_socket(family: socket.AddressFamily) -> socket.socket:
    """Open a non-blocking socket that reports how datagrams arrived, and sends with `HOP_LIMIT`.

    It does not set SO_REUSEADDR: for UDP on Linux, that would let another program of the same user
    share the port.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # The IPv4 options apply to the IPv4 peers of a dual-stack socket.
        for option, value in (
            (_Linux.IP_RECVTTL, 1),
            (_Linux.IP_PKTINFO, 1),
            (socket.IP_TTL, HOP_LIMIT),
        ):
            sock.setsockopt(socket.IPPROTO_IP, option, value)
        if family == socket.AF_INET6:
            for option, value in (
                (socket.IPV6_RECVHOPLIMIT, 1),
                (socket.IPV6_RECVPKTINFO, 1),
                (socket.IPV6_UNICAST_HOPS, HOP_LIMIT),
            ):
                sock.setsockopt(socket.IPPROTO_IPV6, option, value)
    except OSError:
        sock.close()
        raise
    return sock


def open_bound(host: str, port: int) -> socket.socket:
    """Open and bind a socket. `::` accepts both families.

    Raises `OSError`; it is a `gaierror` if `host` is not an IP address.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    # As bytes, since Python imports its codec for international names for a str.
    numeric = host.encode() if host.isascii() else host
    found = socket.getaddrinfo(numeric, port, type=socket.SOCK_DGRAM, flags=flags)
    family, _, _, _, name = found[0]
    sock = open_socket(family)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


@lru_cache(maxsize=SOCKET_MEMORIES)
def address_of(name: SocketName) -> Address:
    """Return the address that a socket reports as the source of a datagram."""
    host, port, *rest = name
    return Address(host, port, rest[1] if rest else 0)


def socket_name(to: Address, *, is_ipv6: bool) -> SocketName:
    """Return an address in the form of a socket of that family."""
    if not is_ipv6:
        return (to.host, to.port)
    return (to.host if to.is_ipv6 else f"::ffff:{to.host}", to.port, 0, to.scope)


@lru_cache(maxsize=SOCKET_MEMORIES)
def departure(
    to: Address, source: str, ifindex: int, is_ipv6_socket: bool, /
) -> tuple[Ancillary, SocketName]:
    """Return the ancillary data (see `packet_info`) and the destination of a datagram to send.

    Raises `OSError` for an IPv6 destination of an IPv4 socket.
    """
    if to.is_ipv6 and not is_ipv6_socket:
        raise OSError(errno.EAFNOSUPPORT, "an IPv4 socket")
    name = socket_name(to, is_ipv6=is_ipv6_socket)
    return packet_info(source, ifindex, is_ipv6=to.is_ipv6), name


def packet_info(source: str, ifindex: int, *, is_ipv6: bool) -> Ancillary:
    """Return the ancillary data that fixes source address and interface of a datagram to send.

    An empty `source`, or 0, leaves the choice to the routing table. Raises `OSError` if `source` is
    not an address of that family.
    """
    if not source and not ifindex:
        return []
    if is_ipv6:
        own = socket.inet_pton(socket.AF_INET6, source or "::")
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, IN6_PKTINFO.pack(own, ifindex))]
    own = socket.inet_pton(socket.AF_INET, source or "0.0.0.0")  # noqa: S104 - "not given"
    return [(socket.IPPROTO_IP, _Linux.IP_PKTINFO, IN_PKTINFO.pack(ifindex, own, bytes(4)))]


@lru_cache(maxsize=SOCKET_MEMORIES)
def arrival(ancillary: tuple[AncillaryItem, ...]) -> tuple[str, int, int | None]:
    """Return destination, interface index and hop limit of a received datagram.

    What the kernel did not report is "", 0 and None. A dual-stack socket gets both forms of packet
    information for an IPv4 datagram; they agree, and the IPv6 form has an IPv4-mapped destination.
    """
    destination, ifindex, hop_limit = "", 0, None
    for level, kind, data in ancillary:
        match level, kind:
            case (socket.IPPROTO_IP, socket.IP_TTL) | (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                (hop_limit,) = _INT.unpack(data)
            case (socket.IPPROTO_IP, _Linux.IP_PKTINFO):
                ifindex, _, own = IN_PKTINFO.unpack(data)
                destination = socket.inet_ntop(socket.AF_INET, own)
            case (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                own, ifindex = IN6_PKTINFO.unpack(data)
                destination = canonical_host(socket.inet_ntop(socket.AF_INET6, own))
            case _:  # another option may be set on the socket
                pass
    return destination, ifindex, hop_limit
