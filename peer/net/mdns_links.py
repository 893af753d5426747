"""python-zeroconf with addresses of their own for each link (RFC 6762 §14, §15).

python-zeroconf 0.154 has one set of records for all interfaces, and one socket that receives on all
of them. So a host learns addresses of networks that it is not on, and no one knows on which link a
datagram arrived. Here:

- `_ArrivalSocket` replaces that socket. It reports the interface in place of the scope of the
  source; python-zeroconf takes the zone of link-local addresses from it. It receives only on the
  links that it joined.
- `LinkZeroconf.async_send`, by which python-zeroconf sends everything, leaves out the addresses of
  other links. It answers unicast queries of neighbours only (§11), and with short TTLs if they come
  from a resolver that does not listen on port 5353 (§6.7).
- `_Registry` leaves subtypes out of the list of service types (RFC 6763 §9).
- Messages that python-zeroconf logs become messages of this module, for debugging.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from zeroconf import IPVersion, Zeroconf
from zeroconf._dns import DNSAddress, DNSNsec, DNSPointer, DNSRecord, DNSService, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf._services.registry import ServiceRegistry
from zeroconf._transport import _WrappedTransport

from peer.limits import MAX_LEGACY_TTL_SECONDS
from peer.net.interfaces import IpAddress
from peer.net.linux_socket import ANCILLARY_BYTES, arrival
from peer.net.ranking import Link

_log = logging.getLogger(__name__)

_MDNS_PORT: Final = 5353
_IP_MULTICAST_ALL: Final = 49  # <linux/in.h>
_IPV6_MULTICAST_ALL: Final = 29  # <linux/in6.h>
_IP_PKTINFO: Final = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of a datagram, and the interface that received it (0: unknown)."""

    source: IpAddress | None = None
    interface: int = 0

    @classmethod
    def of(cls, host: str, interface: int) -> Self:
        """Create it from an address as a socket reports it."""
        return cls(_ip(host), interface)


def interfaces_of(links: Iterable[Link]) -> list[str | int]:
    """Return links as python-zeroconf selects interfaces: IPv4 by one address, IPv6 by index."""
    found: list[str | int] = []
    for link in links:
        found += [str(one) for one in link.addresses if one.version == 4][:1]
        if any(one.version == 6 for one in link.addresses):
            found.append(link.index)
    return found


class LinkZeroconf(Zeroconf):
    """Sends on each link the addresses of that link. Needs a running loop.

    `is_current` decides about each record when it is sent: python-zeroconf delays answers by up to
    half a second, and would send what has changed meanwhile.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        logging.getLogger("zeroconf").addFilter(_log_for_debugging)
        _check_port()
        self.is_current: Callable[[DNSRecord], bool] = lambda _record: True
        self._links: dict[int, Link] = {}
        self._index_of_ipv4: dict[str, int] = {}
        self.set_links(links)
        super().__init__(interfaces=interfaces_of(links), ip_version=_ip_version())
        self.registry = _Registry()
        # It is read when the loop runs next; there is no public way to provide a socket.
        listener = self.engine._listen_socket  # noqa: SLF001
        assert listener is not None
        self._arrivals = _ArrivalSocket.adopt(listener)
        self.engine._listen_socket = self._arrivals  # noqa: SLF001

    def set_links(self, links: Sequence[Link]) -> None:
        """Take other links. Update the interfaces of python-zeroconf as well."""
        self._links = {link.index: link for link in links}
        self._index_of_ipv4 = {
            str(address): link.index
            for link in links
            for address in link.addresses
            if address.version == 4
        }

    def async_send(
        self,
        out: DNSOutgoing,
        addr: str | None = None,
        port: int = _MDNS_PORT,
        v6_flow_scope: tuple[()] | tuple[int, int] = (),
        transport: _WrappedTransport | None = None,
    ) -> None:
        """Send a message to the group on each link, or an answer to one querier."""
        if addr is None:
            for sender in [transport] if transport else self.engine.senders:
                message = self._for_link(out, self._index_of(sender))
                if message is not None:
                    super().async_send(message, None, port, v6_flow_scope, sender)
            return
        index = self._index_of(transport) if transport else 0
        index = index or self._arrivals.interface
        link, querier = self._links.get(index), _ip(addr)
        if link is None or querier is None or not link.contains(querier):
            return
        message = self._for_link(out, index)
        if message is not None:
            if port != _MDNS_PORT:
                _shorten(message)
            super().async_send(message, addr, port, v6_flow_scope, transport)

    def _index_of(self, sender: _WrappedTransport) -> int:
        """Return the interface of a socket that sends; 0 for the one that listens on all."""
        if sender.is_ipv6:
            return sender.multicast_index
        return self._index_of_ipv4.get(str(sender.sock_name[0]), 0)

    def _for_link(self, out: DNSOutgoing, index: int) -> DNSOutgoing | None:
        """Return a message without the addresses of other links; None if no answer is left."""
        link = self._links.get(index)
        own = {address.packed for address in link.addresses} if link else set()

        def belongs(record: DNSRecord) -> bool:
            is_ours = not isinstance(record, DNSAddress) or record.address in own
            return is_ours and self.is_current(record)

        message = DNSOutgoing(out.flags, out.multicast, out.id)
        message.questions = out.questions
        message.authorities = out.authorities
        message.answers = [answer for answer in out.answers if belongs(answer[0])]
        message.additionals = [record for record in out.additionals if belongs(record)]
        return message if message.answers or not out.answers else None


class _ArrivalSocket(socket.socket):
    """A UDP socket that reports the interface in place of the scope of an IPv6 source address.

    `interface` is that of the last datagram, of either version of IP.
    """

    interface = 0

    @classmethod
    def adopt(cls, opened: socket.socket) -> Self:
        """Take over an open socket, which becomes unusable."""
        family, kind, protocol = opened.family, opened.type, opened.proto
        adopted = cls(family, kind, protocol, fileno=opened.detach())
        adopted.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        options = [(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)]
        if family == socket.AF_INET6:
            adopted.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            options.append((socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0))
        for level, option, value in options:
            with suppress(OSError):  # Linux before 4.20 has it for IPv4 only
                adopted.setsockopt(level, option, value)
        return adopted

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, tuple[object, ...]]:
        """Receive a datagram; called by asyncio."""
        data, ancillary, _, source = self.recvmsg(bufsize, ANCILLARY_BYTES, flags)
        _, self.interface, _ = arrival(tuple(ancillary))
        if self.family == socket.AF_INET6:
            source = (*source[:3], self.interface)
        return data, source


class _Registry(ServiceRegistry):
    """Lists service types without their subtypes."""

    def async_get_types(self) -> list[str]:
        """Implement zeroconf's registry: a query for all types was received."""
        return [one for one in super().async_get_types() if "._sub." not in one]


def _shorten(message: DNSOutgoing) -> None:
    """Limit the TTLs of an answer to a resolver that may not observe later changes."""
    message.answers = [(_short(record), when) for record, when in message.answers]
    message.additionals = [_short(record) for record in message.additionals]


def _short(record: DNSRecord) -> DNSRecord:
    head = (record.name, record.type, record.class_, min(record.ttl, MAX_LEGACY_TTL_SECONDS))
    match record:
        case DNSPointer():
            return DNSPointer(*head, record.alias)
        case DNSService():
            return DNSService(*head, record.priority, record.weight, record.port, record.server)
        case DNSText():
            return DNSText(*head, record.text)
        case DNSAddress():
            return DNSAddress(*head, record.address)
        case DNSNsec():
            return DNSNsec(*head, record.next_name, record.rdtypes)
        case _:  # python-zeroconf creates no other kind
            return record


def _ip(host: str) -> IpAddress | None:
    """Parse the address of a socket: with a zone, or IPv4-mapped."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _ip_version() -> IPVersion:
    """Both versions of IP, so that one socket serves links that get addresses later."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:  # the kernel has no IPv6
        return IPVersion.V4Only
    return IPVersion.All


def _check_port() -> None:
    """Raise `OSError` if another program uses the port exclusively.

    python-zeroconf 0.154 raises the same error, but leaves its socket open.
    """
    is_dual = _ip_version() is IPVersion.All
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if is_dual:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("", _MDNS_PORT))


def _log_for_debugging(record: logging.LogRecord) -> bool:
    """Log a message of python-zeroconf here, and drop it there: it is not for users."""
    _log.debug("zeroconf: %s", record.getMessage(), exc_info=record.exc_info)
    return False
