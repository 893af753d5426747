"""Decide whether a datagram comes from a direct neighbour: the four rules of protocol §3.

"Local" is a filter and a fact for the audit, never authentication: a host on the link can forge
most of it. A datagram from a host that is not on the link must not count as local, whether it
arrived through a router, a tunnel or a forwarded port. The rules, checked in this order:

1. `ttl`: the hop limit is still 255, so no router forwarded it (RFC 5082; Linux does not enforce
   this for UDP). Mode `compat` omits this rule.
2. `interface`: it was received by a link that has neighbours. An allow list names the kinds, since
   kernels gain new kinds of tunnels. It applies to every interface behind the receiving one: a VLAN
   on a tunnel, a bridge with a tunnel as a port, and a veth pair whose other end is in such a
   bridge are tunnels. An interface that leads to another network namespace cannot be examined.
3. `prefix`: the source is in an on-link prefix of that interface: that of an address, or of a route
   without a gateway. A route lookup does not decide: for an interface without routes, it considers
   the whole Internet on-link.
4. `destination`: the destination is a unicast address of that interface, or one of this machine in
   an on-link prefix of that interface. Linux answers ARP for any of its addresses on any link, so
   with cable and Wi-Fi in one subnet a datagram may arrive by either.

If this machine sends to its own address of eth0, the kernel reports eth0, not the loopback. The
source is then an own address, and is refused like the loopback unless `allow_loopback`.
"""

import ipaddress
import time
from collections.abc import Callable
from typing import Final

from peer.limits import (
    INTERFACE_DEPTH,
    LOCALITY_DOUBT_SECONDS,
    LOCALITY_TABLE_SECONDS,
    LOCALITY_VERDICTS,
    ON_LINK_BITS,
)
from peer.net.datagram import Datagram
from peer.net.interfaces import Interface, InterfaceTable, IpAddress, kernel_table
from peer.net.linux_socket import HOP_LIMIT
from peer.net.locality_verdict import LocalityVerdict, LocalMode
from peer.net.routes import IpNetwork

LINK_KINDS: Final = frozenset(
    ("bridge", "bond", "team", "vlan", "veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "dsa")
)
"""Kinds of virtual interfaces that are a link or part of one. No other kind is local."""

_WITH_PORTS: Final = frozenset(("bridge", "bond", "team"))
_SHARING: Final = frozenset(("macvlan", "macvtap", "ipvlan", "ipvtap"))
"""Kinds of interfaces on one lower interface that also reach each other."""


class Locality:
    """Judges datagrams by the kernel's tables, which are cached for two seconds.

    If the kernel does not answer, no datagram is local.

    Args:
        mode: whether the hop limit counts.
        allow_loopback: whether this machine is its own neighbour.
        interfaces: names of interfaces that are links whatever their kind, except the loopback.
        table: reads the kernel's tables.
        now: the monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        mode: LocalMode,
        allow_loopback: bool,
        interfaces: frozenset[str] = frozenset(),
        table: Callable[[], InterfaceTable] = kernel_table,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._allow_loopback = allow_loopback
        self._named = interfaces
        self._read_table = table
        self._now = now
        self._table = InterfaceTable.of(())
        self._read_at: float | None = None
        self._verdicts: dict[tuple[object, ...], LocalityVerdict] = {}

    def judge(self, datagram: Datagram) -> LocalityVerdict:
        """Return the verdict on one datagram. Never raises."""
        if self._read_at is None or self._now() - self._read_at > LOCALITY_TABLE_SECONDS:
            self._read()
        verdict = self._by_table(datagram, self._table)
        if verdict.is_local or verdict.rule == "ttl":
            return verdict
        return self._by_table(datagram, self._fresh(LOCALITY_DOUBT_SECONDS))

    def answer_interface(self, datagram: Datagram) -> int:
        """Return the interface by which to answer a datagram, or 0 for the routing table's choice.

        A neighbour is answered by its own link: another link may have the same prefix. A datagram
        that proves nothing yet does not make the device read the tables more often.
        """
        if datagram.source.scope:
            return datagram.ifindex
        verdict = self._by_table(datagram, self._fresh(LOCALITY_TABLE_SECONDS))
        return datagram.ifindex if verdict.is_local else 0

    def interface_name(self, ifindex: int) -> str:
        """Return the name of an interface; "#7" if it no longer exists, empty for 0."""
        return _name(ifindex, self._fresh(LOCALITY_TABLE_SECONDS))

    def _fresh(self, seconds: float) -> InterfaceTable:
        if self._read_at is None or self._now() - self._read_at > seconds:
            self._read()
        return self._table

    def _read(self) -> None:
        self._read_at = self._now()
        self._verdicts.clear()
        try:
            self._table = self._read_table()
        except OSError:  # for example out of descriptors; no datagram is local then
            self._table = InterfaceTable.of(())

    def _by_table(self, datagram: Datagram, table: InterfaceTable) -> LocalityVerdict:
        """Return the verdict by this table, which the datagrams of one session share."""
        source, ifindex, hop_limit = datagram.source, datagram.ifindex, datagram.hop_limit
        path = (source.host, source.scope, datagram.destination, ifindex, hop_limit)
        verdict = self._verdicts.get(path)
        if verdict is None:
            rule, detail = self._first_failure(datagram, table)
            verdict = LocalityVerdict(not rule, rule, _name(ifindex, table), hop_limit, detail)
            if len(self._verdicts) >= LOCALITY_VERDICTS:
                self._verdicts.clear()
            self._verdicts[path] = verdict
        return verdict

    def _first_failure(self, datagram: Datagram, table: InterfaceTable) -> tuple[str, str]:
        if self._mode is LocalMode.STRICT and datagram.hop_limit != HOP_LIMIT:
            return "ttl", _wrong_hop_limit(datagram.hop_limit)
        interface = table.by_index.get(datagram.ifindex)
        if interface is None:
            return "interface", "the receiving interface is unknown"
        if detail := self._no_link(interface, table):
            return "interface", detail
        if detail := self._off_link(datagram, interface, table):
            return "prefix", detail
        if detail := _wrong_destination(datagram.destination, interface, table):
            return "destination", detail
        return "", ""

    def _no_link(self, interface: Interface, table: InterfaceTable) -> str:
        """Return why an interface, or one behind it, is not a link (rule 2), or an empty string."""
        found = {interface.index}
        waiting = [(interface, "")]
        while waiting:
            one, behind = waiting.pop()
            if one.is_loopback and not self._allow_loopback:
                return "the loopback interface has no neighbours"
            if one.is_loopback or one.name in self._named:
                continue
            if detail := _not_a_link(one, table):
                return f"{one.name}{behind} {detail}"
            for other in _sources(one, table):
                if other.index not in found:
                    found.add(other.index)
                    waiting.append((other, f", behind {one.name},"))
        return ""

    def _off_link(self, datagram: Datagram, interface: Interface, table: InterfaceTable) -> str:
        """Return why the source is not a neighbour's address (rule 3), or an empty string."""
        host, name = datagram.source.host, interface.name
        source = ipaddress.ip_address(host)
        if _is_own(source, interface, table):
            return "" if self._allow_loopback else f"the source {host} is an own address"
        if isinstance(source, ipaddress.IPv6Address) and source.is_link_local:
            same = datagram.source.scope == interface.index
            return "" if same else f"{host} is not in the scope of {name}"
        if _is_on_link(source, interface, table):
            return ""
        return f"{host} is not in a prefix of {name}, neither of an address nor of a link route"


def _name(ifindex: int, table: InterfaceTable) -> str:
    if (interface := table.by_index.get(ifindex)) is not None:
        return interface.name
    return f"#{ifindex}" if ifindex else ""


def _wrong_hop_limit(hop_limit: int | None) -> str:
    if hop_limit is None:
        return f"the hop limit is unknown; a direct neighbour's is {HOP_LIMIT}"
    return f"the hop limit is {hop_limit}; a direct neighbour's is {HOP_LIMIT}"


def _not_a_link(interface: Interface, table: InterfaceTable) -> str:
    """Return why an interface itself is not a link, or an empty string."""
    kind = interface.kind or "unknown"
    is_floating = interface.lower and interface.lower not in table.by_index
    reasons = (
        (not interface.is_up, "is down"),
        (interface.is_point_to_point, "is point-to-point"),
        (not interface.is_hardware and kind not in LINK_KINDS, f"is of kind {kind}, not a link"),
        (not interface.resolves_neighbours, "does not resolve neighbours (NOARP)"),
        (interface.is_elsewhere, "leads to another network namespace"),
        (is_floating, "has an unknown lower interface"),
    )
    return next((detail for fails, detail in reasons if fails), "")


def _sources(interface: Interface, table: InterfaceTable) -> list[Interface]:
    """Return the interfaces whose frames an interface receives, besides those of its own link.

    They are its ports that are up, its lower interface, and those that send to its other end.
    """
    found = []
    if interface.kind in _WITH_PORTS:
        found += [port for port in table.ports_of(interface.index) if port.is_up]
    lower = table.by_index.get(interface.lower)
    if lower is not None and lower is not interface:
        found.append(lower)
        if interface.kind in _SHARING:
            for other in table.on_top_of(lower.index):
                if other is not interface and other.kind in _SHARING:
                    found += _senders(other, table)
    if (peer := table.by_index.get(interface.peer)) is not None:
        found += _senders(peer, table)
    return found


def _senders(interface: Interface, table: InterfaceTable, depth: int = 0) -> list[Interface]:
    """Return the interfaces that forward frames to an interface.

    They are the bridge or bond of which it is a port, and those of its upper interfaces.
    """
    found = []
    if (upper := table.by_index.get(interface.upper)) is not None and upper.kind != "vrf":
        found.append(upper)
    if depth < INTERFACE_DEPTH:
        for above in table.on_top_of(interface.index):
            if above.kind in LINK_KINDS:
                found += _senders(above, table, depth + 1)
    return found


def _is_own(source: IpAddress, interface: Interface, table: InterfaceTable) -> bool:
    if source.is_link_local:  # valid only on its own link
        return any(source == address.own for address in interface.addresses)
    return source in table.own


def _is_on_link(address: IpAddress, interface: Interface, table: InterfaceTable) -> bool:
    """Return whether a unicast address is in an on-link prefix of an interface."""
    prefixes = [one for other in _on_same_link(interface, table) for one in _prefixes(other)]
    found = [one for one in prefixes if one.prefixlen >= ON_LINK_BITS and address in one]
    return bool(found) and not any(_is_group(address, network) for network in found)


def _on_same_link(interface: Interface, table: InterfaceTable) -> list[Interface]:
    """Return an interface, and those that share its link: a macvlan, and what it is made of.

    Linux answers ARP for the address of a macvlan by its lower interface as well.
    """
    lowest = table.by_index.get(interface.lower) if interface.kind in _SHARING else interface
    if lowest is None:  # in another network namespace
        return [interface]
    sharing = [one for one in table.on_top_of(lowest.index) if one.kind in _SHARING]
    others = [one for one in (lowest, *sharing) if one.is_up and one is not interface]
    return [interface, *others]


def _prefixes(interface: Interface) -> list[IpNetwork]:
    """Return the prefixes of an interface.

    The routes of an interface that does not resolve neighbours lead through a tunnel: it is a link
    only because the configuration names it.
    """
    networks = [one.network for one in interface.addresses]
    if interface.resolves_neighbours and not interface.is_point_to_point:
        networks += interface.routes
    return networks


def _is_group(address: IpAddress, network: IpNetwork) -> bool:
    """Return whether an address denotes a group of hosts: multicast, broadcast, or the network."""
    if address.is_multicast:
        return True
    if address.version == 6 or network.prefixlen >= 31:
        return False
    return address in (network.network_address, network.broadcast_address)


def _wrong_destination(destination: str, interface: Interface, table: InterfaceTable) -> str:
    """Return why the destination is not an own unicast address (rule 4), or an empty string."""
    name = interface.name
    if not destination:
        return f"the destination is unknown; it has to be an address of {name}"
    found = ipaddress.ip_address(destination)
    if any(found == address.own for address in interface.addresses):
        return ""
    # All of 127.0.0.0/8 is this machine, not only the configured address.
    if interface.is_loopback and any(found in address.network for address in interface.addresses):
        return ""
    is_bound = interface.is_loopback or (found.version == 6 and found.is_link_local)
    if is_bound or found not in table.own:
        return f"{destination} is not an address of {name}"
    if not _is_on_link(found, interface, table):
        return f"{destination} is an address of another interface, and not in a prefix of {name}"
    return ""
