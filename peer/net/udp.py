"""One UDP socket that also tells how a datagram came: hop limit, interface, destination.

asyncio's own datagram transport drops ancillary data, and without it nobody can say whether a
datagram comes from a direct neighbour (protocol §3) or answer from the address that was asked. So
the socket is our own: non-blocking, read by the loop's reader callback with ``recvmsg`` (Linux).

Invariants: nothing raises into the loop, whatever arrives; one wake-up reads a bounded number of
datagrams, so that a flood cannot starve the timers; everything that is dropped is counted; both
families leave with hop limit 255 (RFC 5082); a socket on ``::`` serves both families, and an IPv4
peer is an IPv4 address everywhere above here.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, Protocol, Self

from peer.errors import Malformed, PeerError, Unreachable

HOP_LIMIT: Final = 255
"""What we send, and what a direct neighbour's datagram still has on arrival (RFC 5082)."""

MAX_DATAGRAM: Final = 13 + 2**14 + 2048
"""Bytes: the largest DTLS 1.2 record (RFC 6347 §4.1). A longer datagram is dropped and counted."""

BATCH: Final = 64
"""Datagrams read in one wake-up of the loop."""

MAX_LOGGED_PEERS: Final = 256
"""Peers for which a failing handler is logged; after that, failures are only counted."""


class _Linux(IntEnum):
    """<linux/in.h>; the socket module of Python 3.11 does not have them."""

    IP_PKTINFO = 8
    IP_RECVTTL = 12


_INT: Final = struct.Struct("@i")
_IN_PKTINFO: Final = struct.Struct("@i4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
_IN6_PKTINFO: Final = struct.Struct("@16sI")  # ipi6_addr, ipi6_ifindex

# Four messages, the most a dual-stack socket delivers: both forms of packet information and both
# hop limits.
_ANCILLARY: Final = 2 * socket.CMSG_SPACE(_INT.size) + sum(
    socket.CMSG_SPACE(layout.size) for layout in (_IN_PKTINFO, _IN6_PKTINFO)
)

_log = logging.getLogger(__name__)

_Ancillary = list[tuple[int, int, bytes]]


@lru_cache(maxsize=1024)
def _plain_host(host: str) -> str:
    """The canonical text of an IP address; ``::ffff:192.0.2.1`` becomes ``192.0.2.1``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Malformed(
            f"{host!r} is not an IP address", advice="Examples: 192.0.2.1, 2001:db8::1."
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise Malformed(
                f"{host!r} contains a zone",
                advice="Give the interface as the scope, not as part of the host.",
            )
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _is_link_local(host: str) -> bool:
    """fe80::/10, the addresses that mean nothing without their interface. ``host`` is canonical."""
    return ":" in host and host[:3] in {"fe8", "fe9", "fea", "feb"} and host[4:5] == ":"


@dataclass(frozen=True, slots=True)
class Address:
    """Where datagrams go to or come from: ``host`` is a canonical IP address without a zone.

    ``scope`` is the interface index of an address in fe80::/10, else 0. An IPv4 address in IPv6
    clothes (``::ffff:192.0.2.1``) becomes plain IPv4, so that one peer has one address. Raises
    Malformed if ``host`` is no IP address or ``port`` no port.
    """

    host: str
    port: int
    scope: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise Malformed(f"{self.port} is not a UDP port", advice="Use a port from 0 to 65535.")
        object.__setattr__(self, "host", _plain_host(self.host))
        if self.scope and not _is_link_local(self.host):
            object.__setattr__(self, "scope", 0)

    @property
    def is_ipv6(self) -> bool:
        """True for IPv6, false for IPv4."""
        return ":" in self.host

    def __str__(self) -> str:
        if not self.is_ipv6:
            return f"{self.host}:{self.port}"
        return f"[{self.host}{_zone(self.scope)}]:{self.port}"


def _zone(scope: int) -> str:
    if not scope:
        return ""
    try:
        return f"%{socket.if_indextoname(scope)}"
    except OSError:  # the interface is gone; its number still says something
        return f"%{scope}"


@dataclass(frozen=True, slots=True)
class Datagram:
    """One received datagram.

    ``destination`` is the IP address in its header, ``ifindex`` the interface it came in by (0 =
    the kernel did not say), ``hop_limit`` the TTL or hop limit it still had (None = the kernel did
    not say).
    """

    data: bytes
    source: Address
    destination: str
    ifindex: int
    hop_limit: int | None


class Socket(Protocol):
    """What the rest of this room needs of a socket."""

    @property
    def local_address(self) -> Address:
        """The bound address."""

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram; False if it was dropped. Never raises."""

    def close(self) -> None:
        """Give the port back; a second call does nothing."""


class Net(Protocol):
    """Where sockets come from: `UdpSocket` itself, or a network in memory (`peer.testing`)."""

    def bind(
        self,
        host: str,
        port: int,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Socket:
        """A socket for everybody. Raises PeerError if the address cannot be had."""

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Socket:
        """A socket for one peer. Raises Unreachable if there is no way to it."""


class UdpSocket:
    """A bound or connected UDP socket: make it with bind or connect. It owns its descriptor."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: Address | None,
        loop: asyncio.AbstractEventLoop,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._on_datagram = on_datagram
        self._on_error = on_error
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._logged: set[str] = set()
        self._closed = False
        self.counters: Counter[str] = Counter()
        name = sock.getsockname()
        self._local = Address(name[0], name[1], name[3] if self._is_ipv6 else 0)
        self._loop = loop
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    def bind(
        cls,
        host: str,
        port: int,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Self:
        """Listen on an IP address, with its zone if it is link-local; port 0 = any.

        ``::`` means every address of both families, and of IPv4 alone on a machine without IPv6.
        Needs a running loop. Raises PeerError if the address or the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            sock = _bound(host, port)
        except OSError as error:
            if host != "::" or error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise _cannot_listen(host, port, error) from error
            return cls.bind("0.0.0.0", port, on_datagram=on_datagram, on_error=on_error)  # noqa: S104 - asked for
        return cls(sock, peer=None, loop=loop, on_datagram=on_datagram, on_error=on_error)

    @classmethod
    def connect(
        cls,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Self:
        """A socket for one peer, on an ephemeral port: only its datagrams are delivered.

        A refusal that the network reports (ICMP) arrives as OSError in ``on_error``. Needs a
        running loop. Raises Unreachable if there is no way to that address.
        """
        loop = asyncio.get_running_loop()
        if _is_link_local(to.host) and not to.scope:
            raise Unreachable(
                f"{to} is a link-local address without an interface",
                advice=f"Add the interface, for example {to.host}%eth0.",
            )
        try:
            sock = _socket(socket.AF_INET6 if to.is_ipv6 else socket.AF_INET)
            try:
                sock.connect(_sockaddr(to, is_ipv6=to.is_ipv6))
            except OSError:
                sock.close()
                raise
        except OSError as error:
            raise Unreachable(
                f"no route to {to}: {_why(error)}",
                advice="Check the address and the network of this machine.",
            ) from error
        return cls(sock, peer=to, loop=loop, on_datagram=on_datagram, on_error=on_error)

    @property
    def local_address(self) -> Address:
        """The bound address with the real port; ``::`` or ``0.0.0.0`` when it is every address."""
        return self._local

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram; False if it was dropped (and counted). Never raises.

        ``source`` is the own address it shall come from (an answer: the destination of the
        question), ``ifindex`` pins the interface; the routing table decides about what is not
        given.
        """
        obstacle = self._obstacle(to) or self._transmit(data, to, source, ifindex)
        if obstacle:
            self.counters["send-dropped"] += 1
            self.counters[f"send-dropped-{obstacle}"] += 1
            return False
        self.counters["sent"] += 1
        return True

    def close(self) -> None:
        """Stop reading and give the port back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _obstacle(self, to: Address) -> str:
        if self._closed:
            return "closed"
        if self._peer is not None and to != self._peer:
            return "not-the-peer"
        if to.is_ipv6 and not self._is_ipv6:
            return "no-ipv6"
        return ""

    def _transmit(self, data: bytes, to: Address, source: str, ifindex: int) -> str:
        """Why it could not be sent, or an empty string."""
        try:
            if self._peer is not None:
                self._sock.send(data)
            else:
                ancillary = _packet_info(source, ifindex, is_ipv6=to.is_ipv6)
                self._sock.sendmsg([data], ancillary, 0, _sockaddr(to, is_ipv6=self._is_ipv6))
        except (BlockingIOError, InterruptedError):
            return "buffer-full"
        except OSError as error:
            if self._peer is not None:
                # An ICMP report about an earlier datagram. Told later: a caller of send is not
                # ready for it here.
                self._loop.call_soon(self._report, error)
            return errno.errorcode.get(error.errno or 0, "unknown").lower()
        except (ValueError, struct.error):  # a source that is no address, an index that is none
            return "bad-argument"
        return ""

    def _readable(self) -> None:
        for _ in range(BATCH):
            if self._closed:  # by the handler of the datagram before
                return
            try:
                size, ancillary, flags, name = self._sock.recvmsg_into([self._view], _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Mostly an ICMP report. Reading it has cleared it, and the reader goes on at the
                # next wake-up.
                self.counters["receive-error"] += 1
                self._report(error)
                return
            self._received_untrusted(size, ancillary, flags, name)

    def _received_untrusted(
        self, size: int, ancillary: _Ancillary, flags: int, name: tuple[Any, ...]
    ) -> None:
        self.counters["received"] += 1
        if flags & socket.MSG_TRUNC:
            self.counters["oversize"] += 1
            return
        port: int = name[1]
        if not size or not port:  # nothing in it, or no port to answer to
            self.counters["empty" if not size else "no-port"] += 1
            return
        try:
            source = Address(name[0], port, name[3] if self._is_ipv6 else 0)
            destination, ifindex, hop_limit = _how_it_came(ancillary)
            self._on_datagram(
                Datagram(bytes(self._view[:size]), source, destination, ifindex, hop_limit)
            )
        except Exception:
            self._failed(str(name[0]))

    def _report(self, error: OSError) -> None:
        if self._closed:
            return
        try:
            self._on_error(error)
        except Exception:
            self._failed("the error handler")

    def _failed(self, who: str) -> None:
        """Our own bug, set off by somebody's datagram: one line per peer, never a full disk."""
        self.counters["handler-error"] += 1
        if who in self._logged or len(self._logged) >= MAX_LOGGED_PEERS:
            return
        self._logged.add(who)
        last = len(self._logged) == MAX_LOGGED_PEERS
        _log.exception(
            "cannot process a datagram: %s (%s)",
            who,
            "no further errors are logged" if last else "logged once per peer",
        )


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host name or an IP address (with ``%zone``), best first, none twice.

    Raises Unreachable if there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        addresses = [_found(name) for *_, name in found]
    except (OSError, ValueError, OverflowError) as error:  # also a name IDNA cannot encode
        reason = _why(error) if isinstance(error, OSError) else "not a host name"
        raise Unreachable(
            f"cannot resolve {host!r}: {reason}",
            advice="Check the spelling, or give the IP address.",
        ) from error
    if not addresses:
        raise Unreachable(f"{host!r} has no address", advice="Give the IP address.")
    return list(dict.fromkeys(addresses))


def _found(name: tuple[Any, ...]) -> Address:
    """A socket address of getaddrinfo, which leaves the zone in the text of some of them."""
    host, port, *rest = name
    return Address(host.partition("%")[0], port, rest[1] if rest else 0)


def _socket(family: socket.AddressFamily) -> socket.socket:
    """A non-blocking socket that reports how datagrams came and sends with hop limit 255.

    No SO_REUSEADDR: for UDP on Linux it would let another program of the same user share our port.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # The IPv4 options also go on an IPv6 socket: they govern the IPv4 peers of a dual-stack
        # one.
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


def _bound(host: str, port: int) -> socket.socket:
    """Raises OSError, also (as gaierror) for a host that is no IP address."""
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    family, _, _, _, name = found[0]
    sock = _socket(family)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_listen(host: str, port: int, error: OSError) -> PeerError:
    advice = {
        errno.EADDRINUSE: "Another program uses this port. Stop it, or choose another port.",
        errno.EACCES: "Ports below 1024 need root privileges. Choose a higher port.",
        errno.EADDRNOTAVAIL: "This machine does not have that address; see `ip address`.",
        socket.EAI_NONAME: "Give an IP address of this machine, or :: for all addresses.",
    }.get(error.errno or 0, "Check the address and the port.")
    return PeerError(f"cannot listen on {host} port {port}: {_why(error)}", advice=advice)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _sockaddr(to: Address, *, is_ipv6: bool) -> tuple[str, int] | tuple[str, int, int, int]:
    if not is_ipv6:
        return (to.host, to.port)
    return (to.host if to.is_ipv6 else f"::ffff:{to.host}", to.port, 0, to.scope)


def _packet_info(source: str, ifindex: int, *, is_ipv6: bool) -> _Ancillary:
    """The ancillary data that fixes where a datagram leaves. Raises OSError on a bad source."""
    if not source and not ifindex:
        return []
    if is_ipv6:
        own = socket.inet_pton(socket.AF_INET6, source or "::")
        layout = _IN6_PKTINFO.pack(own, ifindex)
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, layout)]
    own = socket.inet_pton(socket.AF_INET, source or "0.0.0.0")  # noqa: S104 - "not given"
    return [(socket.IPPROTO_IP, _Linux.IP_PKTINFO, _IN_PKTINFO.pack(ifindex, own, bytes(4)))]


def _how_it_came(ancillary: _Ancillary) -> tuple[str, int, int | None]:
    """Destination, interface index, hop limit; "", 0 and None for what is not there.

    A dual-stack socket gets both forms of packet information for an IPv4 datagram; they say the
    same, and the IPv6 form has the destination as ``::ffff:192.0.2.1``. The kernel wrote this, not
    a stranger: a short one is a bug.
    """
    destination, ifindex, hop_limit = "", 0, None
    for level, kind, data in ancillary:
        match level, kind:
            case (socket.IPPROTO_IP, socket.IP_TTL) | (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                (hop_limit,) = _INT.unpack(data)
            case (socket.IPPROTO_IP, _Linux.IP_PKTINFO):
                ifindex, _, own = _IN_PKTINFO.unpack(data)
                destination = socket.inet_ntop(socket.AF_INET, own)
            case (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                own, ifindex = _IN6_PKTINFO.unpack(data)
                destination = _plain_host(socket.inet_ntop(socket.AF_INET6, own))
            case _:  # the kernel may have been asked for more elsewhere
                pass
    return destination, ifindex, hop_limit
