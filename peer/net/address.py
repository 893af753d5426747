"""IP addresses with a UDP port, and the look-up of host names."""

import ipaddress
import os
import socket
from dataclasses import dataclass
from functools import lru_cache

from peer.errors import Cause, Malformed, Unreachable
from peer.limits import PARSED_ADDRESSES
from peer.net.daemon_thread import call_in_thread


@lru_cache(maxsize=PARSED_ADDRESSES)
def canonical_host(host: str) -> str:
    """Return the canonical text of an IP address.

    An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) becomes an IPv4 address: `::ffff:192.0.2.1` is
    `192.0.2.1`. Raises `Malformed` if `host` is not an IP address, or has a zone.
    """
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
    """Return whether a canonical address is in fe80::/10 (RFC 4291 §2.5.6)."""
    return ":" in host and host[:3] in {"fe8", "fe9", "fea", "feb"} and host[4:5] == ":"


@dataclass(frozen=True, slots=True)
class Address:
    """A UDP endpoint: an IP address and a port.

    `host` is a canonical IP address without a zone. `scope` is the interface index of a link-local
    IPv6 address, else 0. An IPv4-mapped address becomes an IPv4 address, so that one peer has one
    address. Raises `Malformed` if `host` is not an IP address or `port` not a port.
    """

    host: str
    port: int
    scope: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise Malformed(f"{self.port} is not a UDP port", advice="Use a port from 0 to 65535.")
        object.__setattr__(self, "host", canonical_host(self.host))
        if self.scope and not _is_link_local(self.host):
            object.__setattr__(self, "scope", 0)

    @property
    def is_ipv6(self) -> bool:
        """True for IPv6, false for IPv4."""
        return ":" in self.host

    @property
    def needs_scope(self) -> bool:
        """True for a link-local IPv6 address whose interface is not given."""
        return not self.scope and _is_link_local(self.host)

    def __str__(self) -> str:
        if not self.is_ipv6:
            return f"{self.host}:{self.port}"
        return f"[{self.host}{_zone(self.scope)}]:{self.port}"


def _zone(scope: int) -> str:
    if not scope:
        return ""
    try:
        return f"%{socket.if_indextoname(scope)}"
    except OSError:  # the interface does not exist any more
        return f"%{scope}"


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host name or an IP address (with `%zone`), best first.

    Raises `Unreachable` if there is none.
    """
    try:
        addresses = await _looked_up(host, port)
    except (OSError, ValueError, OverflowError) as error:  # also a name IDNA cannot encode
        if (zone := _missing_zone(host)) is not None:
            raise Unreachable(
                f"this machine has no network interface {zone}, which {host} names",
                advice="Give the address with the interface on which the device is now.",
                cause=Cause.NO_SCOPE,
            ) from error
        reason = error.strerror or str(error) if isinstance(error, OSError) else "not a host name"
        raise Unreachable(
            f"cannot resolve {host!r}: {reason}",
            advice="Check the spelling, or give the IP address.",
            cause=Cause.NO_NAME,
        ) from error
    if not addresses:
        raise Unreachable(f"{host!r} has no address", advice="Give the IP address.")
    return list(dict.fromkeys(addresses))


async def _looked_up(host: str, port: int) -> list[Address]:
    """Look up a host. Only a name can take long."""
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await call_in_thread(lambda: _look_up(host, port))


def _look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    # As bytes, since Python imports its codec for international names for a str.
    name_or_ip = host.encode() if host.isascii() else host
    found = socket.getaddrinfo(name_or_ip, port, type=socket.SOCK_DGRAM, flags=flags)
    return [_from_getaddrinfo(name) for *_, name in found]


def _missing_zone(host: str) -> str | None:
    """Return the zone of an IPv6 address if no interface of this machine has that name."""
    address, percent, zone = host.partition("%")
    if not percent or ":" not in address:
        return None
    try:
        socket.if_nametoindex(zone)
    except OSError:
        return zone
    return None


def is_own(address: Address) -> bool:
    """Return whether an address is one of this machine, the loopback excepted.

    Sends nothing: the kernel selects an own address as the source of a datagram to that address.
    """
    if ipaddress.ip_address(address.host).is_loopback:
        return False
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    name = (address.host, address.port or 1)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((*name, 0, address.scope) if address.is_ipv6 else name)
            host: str = sock.getsockname()[0]
    except OSError:  # no route
        return False
    return host.partition("%")[0] == address.host


def _from_getaddrinfo(name: tuple[int | str | bytes, ...]) -> Address:
    host, port, *rest = name
    if not isinstance(host, str):  # of a Python without IPv6
        raise ValueError("an address of an unknown family")
    # The text of some addresses has the zone, too.
    return Address(host.partition("%")[0], int(port), int(rest[1]) if rest else 0)


def connect_failure(error: OSError) -> str:
    """Say why a TCP connection or port failed, without the address that asyncio adds."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):  # its numbers are not those of errno
        return error.strerror or "its name cannot be resolved"
    if error.errno:
        return os.strerror(error.errno)
    return "none of its addresses accepts a connection"  # the text names each of them
