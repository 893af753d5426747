"""The order in which own interfaces and addresses are announced, and named in invites.

A machine can have many more interfaces than networks: each container network is a bridge, and each
container a veth pair. Bounded lists therefore begin with the links that other machines are on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from peer.limits import (
    INTERFACE_DEPTH,
    MAX_ADVERT_ADDRESSES,
    MAX_MULTICAST_LINKS,
    ON_LINK_BITS,
)
from peer.net.interfaces import Interface, InterfaceAddress, InterfaceTable, IpAddress
from peer.net.routes import IpNetwork

_WITH_PORTS: Final = frozenset(("bridge", "bond", "team"))


@dataclass(frozen=True, slots=True)
class Link:
    """An interface on which a device is announced, or searched for.

    Attributes:
        index: the index of the interface.
        addresses: its own addresses, the best first; at least one.
        networks: the prefixes of its neighbours.
    """

    index: int
    addresses: tuple[IpAddress, ...]
    networks: tuple[IpNetwork, ...]

    def contains(self, address: IpAddress) -> bool:
        """Return whether an address is that of a neighbour."""
        return (address.version == 6 and address.is_link_local) or any(
            address in network for network in self.networks
        )


def links(table: InterfaceTable, selected: Sequence[str] | None) -> tuple[Link, ...]:
    """Return the links for multicast DNS, the most useful first, at most `MAX_MULTICAST_LINKS`.

    Args:
        table: the interfaces of this machine.
        selected: names of interfaces or own IP addresses; None selects every link that is up,
            except loopback and point-to-point interfaces.
    """
    found: list[Link] = []
    for interface in sorted(table.by_index.values(), key=lambda one: interface_rank(one, table)):
        if addresses := ranked(_selected_addresses(interface, selected)):
            networks = _on_link_prefixes(interface)
            found.append(Link(interface.index, addresses, networks))
    return tuple(found[:MAX_MULTICAST_LINKS])


def interface_rank(interface: Interface, table: InterfaceTable) -> tuple[int, bool]:
    """Return the sort key of an interface: links to other machines come first.

    Interfaces on hardware come before those that lead to another network namespace, which may be
    the host of a container, and these before the other virtual ones. The ports of a bridge come
    last, since the bridge has the addresses.
    """
    if interface.upper in table.by_index and not interface.is_hardware:
        rank = 3
    elif _is_on_hardware(interface, table, INTERFACE_DEPTH):
        rank = 0
    else:
        rank = 1 if interface.is_elsewhere else 2
    return rank, all(address.own.is_link_local for address in interface.addresses)


def ranked(addresses: Iterable[InterfaceAddress]) -> tuple[IpAddress, ...]:
    """Return the addresses of one interface, the best first, at most `MAX_ADVERT_ADDRESSES`.

    Lasting addresses come before the others, IPv4 before IPv6, and global addresses before private
    ones (RFC 1918, RFC 4193). Addresses that are valid only on the link come last, and one of them
    is always kept.
    """
    ordered = sorted((one for one in addresses if one.is_usable), key=_address_rank)
    return kept(list(dict.fromkeys(one.own for one in ordered)), MAX_ADVERT_ADDRESSES)


def kept(addresses: Sequence[IpAddress], most: int) -> tuple[IpAddress, ...]:
    """Return the first addresses; the last place is for a link-local one if there is any."""
    first = tuple(addresses[:most])
    if len(addresses) <= most or any(one.is_link_local for one in first):
        return first
    local = next((one for one in addresses if one.is_link_local), first[-1])
    return (*first[:-1], local)


def _on_link_prefixes(interface: Interface) -> tuple[IpNetwork, ...]:
    """Return the prefixes of the neighbours of an interface, as rule `prefix` of protocol §3."""
    networks = [address.network for address in interface.addresses]
    if interface.resolves_neighbours and not interface.is_point_to_point:
        networks += interface.routes
    return tuple(network for network in networks if network.prefixlen >= ON_LINK_BITS)


def _address_rank(address: InterfaceAddress) -> tuple[bool, bool, int, bool]:
    own = address.own
    return own.is_link_local, not address.is_lasting, own.version, not own.is_global


def _is_on_hardware(interface: Interface, table: InterfaceTable, depth: int) -> bool:
    if interface.is_hardware or not depth:
        return interface.is_hardware
    below = table.ports_of(interface.index) if interface.kind in _WITH_PORTS else []
    if (lower := table.by_index.get(interface.lower)) is not None:
        below.append(lower)
    return any(_is_on_hardware(one, table, depth - 1) for one in below)


def _selected_addresses(
    interface: Interface, selected: Sequence[str] | None
) -> Iterable[InterfaceAddress]:
    own = interface.addresses
    if not interface.is_up:
        return ()
    if selected is None:
        return () if interface.is_loopback or interface.is_point_to_point else own
    return own if interface.name in selected else [a for a in own if str(a.own) in selected]
