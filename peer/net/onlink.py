"""Is this datagram from a direct neighbour? The four rules of protocol §3.

"Local" is a filter and a fact for the audit, never authentication: whoever owns a machine on the
link can fake most of it. What it must not do is call somebody local who is not on the link at all:
who comes through a router, a tunnel or a forwarded port, or who only claims an address.

Rules, in this order, and the first one that fails is named:

1. ``ttl``: it still has the hop limit that both sides send, 255, so no router has touched it
   (RFC 5082; Linux does not enforce this for UDP). ``compat`` drops this rule and no other.
2. ``interface``: it came in by a link where neighbours are. Kinds are an allow list, since a
   kernel grows new tunnels faster than we hear of them, and what an interface stands on counts
   too: a VLAN on a tunnel and a bridge with a tunnel as a port are tunnels.
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

from peer.net.interfaces import Interface, InterfaceTable, IpAddress, IpNetwork, kernel_table
from peer.net.udp import HOP_LIMIT, Datagram
from peer.net.verdict import Verdict

TABLE_SECONDS: Final = 2.0
"""The oldest table that may say yes."""

DOUBT_SECONDS: Final = 0.25
"""The oldest table that may say no: an address may be new. It also bounds what garbage costs us."""

LINK_KINDS: Final = frozenset(
    ("bridge", "bond", "team", "vlan", "veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "dsa")
)
"""Virtual interfaces that are a link, or a part of one. What is not here is not local."""

_WITH_PORTS: Final = frozenset(("bridge", "bond", "team"))

_DEPTH: Final = 8
"""Interfaces on interfaces that are followed; the kernel allows as many (MAX_NEST_DEV)."""


class LocalMode(StrEnum):
    """How strict: ``compat`` is for stock CoAP clients, which send hop limit 64."""

    STRICT = "strict"
    COMPAT = "compat"


class Locality:
    """Judges datagrams by the kernel's tables, kept for at most two seconds.

    ``interfaces`` are allowed whatever their kind (never the loopback). Never raises: when the
    kernel does not answer, nobody is local.
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

    def judge(self, datagram: Datagram) -> Verdict:
        """The verdict on one datagram, by the order of the rules."""
        verdict = self._by_table(datagram, self._fresh(TABLE_SECONDS))
        if verdict.is_local or verdict.rule == "ttl":
            return verdict
        return self._by_table(datagram, self._fresh(DOUBT_SECONDS))

    def interface_name(self, ifindex: int) -> str:
        """The name of an interface; "#7" for one that is gone, empty for 0."""
        interface = self._fresh(TABLE_SECONDS).by_index.get(ifindex)
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

    def _by_table(self, datagram: Datagram, table: InterfaceTable) -> Verdict:
        rule, detail = self._first_failure(datagram, table)
        name = self.interface_name(datagram.ifindex)
        return Verdict(not rule, rule, name, datagram.hop_limit, detail)

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

    def _no_link(self, interface: Interface, table: InterfaceTable, depth: int = 0) -> str:
        """Rule 2, also for what the interface stands on: why it is not a link, or nothing."""
        if interface.is_loopback:
            return "" if self._allow_loopback else "the loopback is not a neighbour"
        if interface.name in self._named:
            return ""
        if detail := _not_a_link(interface):
            return f"{interface.name} {detail}"
        if depth == _DEPTH:
            return f"{interface.name} stands on too many others"
        for below in _below(interface, table):
            if detail := self._no_link(below, table, depth + 1):
                return f"{interface.name} stands on {below.name}: {detail}"
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


def _not_a_link(interface: Interface) -> str:
    """Why there are no neighbours behind an interface, by its own kind and flags, or nothing."""
    kind = interface.kind or "unknown"
    table = (
        (not interface.is_up, "is down"),
        (interface.is_point_to_point, "is point-to-point"),
        (not interface.is_hardware and kind not in LINK_KINDS, f"is of kind {kind}, not a link"),
        (not interface.resolves_neighbours, "does not look for neighbours (NOARP)"),
    )
    return next((detail for fails, detail in table if fails), "")


def _below(interface: Interface, table: InterfaceTable) -> list[Interface]:
    """What an interface stands on, as far as it is up and can be seen from this namespace."""
    if interface.kind in _WITH_PORTS:
        return [port for port in table.ports_of(interface.index) if port.is_up]
    lower = table.by_index.get(interface.lower) if interface.lower != interface.index else None
    return [lower] if lower is not None else []


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
