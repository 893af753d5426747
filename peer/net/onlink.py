"""Is this datagram from a direct neighbour? The four rules of protocol §3.

"Local" is a filter and a fact for the audit, never authentication: whoever owns a machine on the
link can fake most of it. What it must not do is call somebody local who is not on the link at all:
who comes through a router, a tunnel or a forwarded port, or who only claims an address.

Rules, in this order, and the first one that fails is named:

1. ``ttl``: it still has the hop limit that both sides send, 255, so no router has touched it
   (RFC 5082; Linux does not enforce this for UDP). ``compat`` drops this rule and no other.
2. ``interface``: it came in by a link where neighbours are. Kinds are an allow list, since a
   kernel grows new tunnels faster than we hear of them, and so does everything whose frames come
   in by it: a VLAN on a tunnel, a bridge with a tunnel as a port, and a veth pair whose other end
   is in such a bridge are tunnels. What is in another network namespace cannot be looked at, so an
   interface that leads there is not a link.
3. ``prefix``: its source is in an on-link prefix of *that* interface. Asked of the address table
   and not of the routes: a route look-up that names an interface without routes says "on link" of
   the whole Internet.
4. ``destination``: it was sent to a unicast address that is ours *there*; Linux also accepts
   on one interface what is addressed to another.

A datagram from this machine to itself does not always carry the loopback interface: sent to an
address of eth0, the kernel shows it as received by eth0. Its source is our own address, and with
that it is refused like the loopback is, unless ``allow_loopback``.
"""

import ipaddress
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from peer.limits import INTERFACE_DEPTH, LOCALITY_DOUBT_SECONDS, LOCALITY_TABLE_SECONDS
from peer.net.datagram import Datagram
from peer.net.interfaces import Interface, InterfaceTable, IpAddress, IpNetwork, kernel_table
from peer.net.linux_socket import HOP_LIMIT
from peer.net.locality_verdict import LocalityVerdict

LINK_KINDS: Final = frozenset(
    ("bridge", "bond", "team", "vlan", "veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "dsa")
)
"""Virtual interfaces that are a link, or a part of one. What is not here is not local."""

_WITH_PORTS: Final = frozenset(("bridge", "bond", "team"))
_SHARING: Final = frozenset(("macvlan", "macvtap", "ipvlan", "ipvtap"))
"""Interfaces on one lower interface that also reach each other."""


class LocalMode(StrEnum):
    """How strict: ``compat`` is for stock CoAP clients, which send hop limit 64."""

    STRICT = "strict"
    COMPAT = "compat"


class Locality:
    """Judges datagrams by the kernel's tables, kept for at most two seconds.

    ``interfaces`` are allowed whatever their kind and wherever they lead (never the loopback).
    Never raises: when the kernel does not answer, nobody is local.
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
        self._ask = table
        self._now = now
        self._table = InterfaceTable.of(())
        self._asked_at: float | None = None

    def judge(self, datagram: Datagram) -> LocalityVerdict:
        """The verdict on one datagram, by the order of the rules."""
        verdict = self._by_table(datagram, self._fresh(LOCALITY_TABLE_SECONDS))
        if verdict.is_local or verdict.rule == "ttl":
            return verdict
        return self._by_table(datagram, self._fresh(LOCALITY_DOUBT_SECONDS))

    def interface_name(self, ifindex: int) -> str:
        """The name of an interface; "#7" for one that is gone, empty for 0."""
        interface = self._fresh(LOCALITY_TABLE_SECONDS).by_index.get(ifindex)
        if interface is not None:
            return interface.name
        return f"#{ifindex}" if ifindex else ""

    def _fresh(self, seconds: float) -> InterfaceTable:
        now = self._now()
        if self._asked_at is None or now - self._asked_at > seconds:
            self._asked_at = now
            try:
                self._table = self._ask()
            except OSError:  # out of descriptors or memory: better nobody than anybody
                self._table = InterfaceTable.of(())
        return self._table

    def _by_table(self, datagram: Datagram, table: InterfaceTable) -> LocalityVerdict:
        rule, detail = self._first_failure(datagram, table)
        name = self.interface_name(datagram.ifindex)
        return LocalityVerdict(not rule, rule, name, datagram.hop_limit, detail)

    def _first_failure(self, datagram: Datagram, table: InterfaceTable) -> tuple[str, str]:
        if self._mode is LocalMode.STRICT and datagram.hop_limit != HOP_LIMIT:
            return "ttl", _wrong_hop_limit(datagram.hop_limit)
        interface = table.by_index.get(datagram.ifindex)
        if interface is None:
            return "interface", "the receiving interface is not known"
        if detail := self._no_link(interface, table):
            return "interface", detail
        if detail := self._off_link(datagram, interface, table):
            return "prefix", detail
        if detail := _not_to_us(datagram.destination, interface):
            return "destination", detail
        return "", ""

    def _no_link(self, interface: Interface, table: InterfaceTable) -> str:
        """Rule 2, also for everything whose frames come in by this interface: why it is not a link,
        or nothing."""
        found = {interface.index}
        waiting = [(interface, "")]
        while waiting:
            one, behind = waiting.pop()
            if one.is_loopback and not self._allow_loopback:
                return "the loopback is not a neighbour"
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
        """Rule 3: why the source is not a neighbour's address, or nothing."""
        host, name = datagram.source.host, interface.name
        source = ipaddress.ip_address(host)
        if _is_own(source, interface, table):
            return "" if self._allow_loopback else f"the source {host} is our own address"
        if isinstance(source, ipaddress.IPv6Address) and source.is_link_local:
            same = datagram.source.scope == interface.index
            return "" if same else f"{host} is not in the scope of {name}"
        if any(_is_neighbour(source, address.network) for address in interface.addresses):
            return ""
        return f"{host} is in no prefix of {name}"


def _wrong_hop_limit(hop_limit: int | None) -> str:
    if hop_limit is None:
        return f"no hop limit is known; a direct neighbour's is {HOP_LIMIT}"
    return f"the hop limit is {hop_limit}; a direct neighbour's is {HOP_LIMIT}"


def _not_a_link(interface: Interface, table: InterfaceTable) -> str:
    """Why there are no neighbours behind an interface, by what it is itself, or nothing."""
    kind = interface.kind or "unknown"
    is_floating = interface.lower and interface.lower not in table.by_index
    reasons = (
        (not interface.is_up, "is down"),
        (interface.is_point_to_point, "is point-to-point"),
        (not interface.is_hardware and kind not in LINK_KINDS, f"is of kind {kind}, not a link"),
        (not interface.resolves_neighbours, "does not look for neighbours (NOARP)"),
        (interface.is_elsewhere, "leads to another network namespace"),
        (is_floating, "stands on an interface that is not known"),
    )
    return next((detail for fails, detail in reasons if fails), "")


def _sources(interface: Interface, table: InterfaceTable) -> list[Interface]:
    """Whose frames come in by an interface, beside those from its own cable: its ports that are up,
    what it stands on, and what sends to it from another end."""
    found = []
    if interface.kind in _WITH_PORTS:
        found += [port for port in table.ports_of(interface.index) if port.is_up]
    lower = table.by_index.get(interface.lower)
    if lower is not None and lower is not interface:
        found.append(lower)
        if interface.kind in _SHARING:
            for other in table.standing_on(lower.index):
                if other is not interface and other.kind in _SHARING:
                    found += _senders(other, table)
    if (peer := table.by_index.get(interface.peer)) is not None:
        found += _senders(peer, table)
    return found


def _senders(interface: Interface, table: InterfaceTable, depth: int = 0) -> list[Interface]:
    """What sends other frames than this machine's own by an interface: the bridge or the like that
    it is a port of, and those of what stands on it."""
    found = []
    if (upper := table.by_index.get(interface.upper)) is not None and upper.kind != "vrf":
        found.append(upper)
    if depth < INTERFACE_DEPTH:
        for above in table.standing_on(interface.index):
            if above.kind in LINK_KINDS:
                found += _senders(above, table, depth + 1)
    return found


def _is_own(source: IpAddress, interface: Interface, table: InterfaceTable) -> bool:
    if source.is_link_local:  # means nothing outside its own link
        return any(source == address.own for address in interface.addresses)
    return source in table.own


def _is_neighbour(source: IpAddress, network: IpNetwork) -> bool:
    if source not in network:
        return False
    if source.version == 6 or network.prefixlen >= 31:
        return True
    return source not in (network.network_address, network.broadcast_address)


def _not_to_us(destination: str, interface: Interface) -> str:
    """Rule 4: why the destination is not our own unicast address there, or nothing."""
    if destination:
        wanted = ipaddress.ip_address(destination)
        if any(wanted == address.own for address in interface.addresses):
            return ""
        # All of 127.0.0.0/8 is this machine, not only the address that is written down.
        if interface.is_loopback and any(wanted in a.network for a in interface.addresses):
            return ""
    return f"{destination or 'the destination'} is not our address on {interface.name}"
