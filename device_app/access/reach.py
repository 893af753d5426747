"""The addresses of this device in an invite, for a client that has never connected to it.

First those of the configuration (`[network] public`), since a device behind a router cannot know
the router's public address; then those of the kernel, global ones before site-local ones, and those
of links to other machines before those of container networks. Loopback and link-local addresses are
included only if the device is configured to listen on one of them. All of them are hints: the
client authenticates the device by its key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from peer.net.address import Address

if TYPE_CHECKING:  # reading the kernel's tables takes a library that most commands do without
    from peer.net.interfaces import InterfaceTable, IpAddress


class BoundAddresses:
    """The addresses of the regular port; there are none before it is bound.

    `public` are the addresses that the configuration adds.
    """

    def __init__(self, public: Sequence[str]) -> None:
        self._public = public
        self._bound: tuple[Address, ...] = ()

    @property
    def port(self) -> int:
        """The UDP port; 0 before it is bound."""
        return self._bound[0].port if self._bound else 0

    def set(self, bound: Iterable[Address]) -> None:
        """Take the addresses, once the port is bound."""
        self._bound = tuple(bound)

    def reachable(self) -> tuple[str, ...]:
        """Return the `HOST:PORT` hints for invites."""
        return reachable([(one.host, one.port) for one in self._bound], self._public)


def reachable(
    bound: Iterable[tuple[str, int]], public: Sequence[str], table: InterfaceTable | None = None
) -> tuple[str, ...]:
    """The addresses as `HOST:PORT`, the best first.

    Args:
        bound: the addresses and ports that the device listens on, including wildcards.
        public: the addresses of the configuration, with or without a port.
        table: the network interfaces; by default, those that the kernel has now.
    """
    table = _current_table() if table is None else table
    bound = [(host, port) for host, port in bound if port]
    default_port = bound[0][1] if bound else 0
    with_port = [one if _has_port(one) else f"{one}:{default_port}" for one in public]
    found = [one for one in with_port if not one.endswith(":0")]
    for host, port in bound:
        address = ipaddress.ip_address(host)
        addresses = _addresses(table, address) if address.is_unspecified else [address]
        found += [_formatted(one, port) for one in addresses]
    return tuple(dict.fromkeys(found))


def _current_table() -> InterfaceTable:
    from peer.net.interfaces import InterfaceTable, kernel_table  # noqa: PLC0415 - see above

    try:
        return kernel_table()
    except OSError:  # an invite without addresses is still valid
        return InterfaceTable.of(())


def _has_port(text: str) -> bool:
    return text.rpartition(":")[2].isdecimal() and (text.count(":") == 1 or "]:" in text)


def _addresses(table: InterfaceTable, wildcard: IpAddress) -> list[IpAddress]:
    """The addresses that a wildcard stands for; `::` is IPv6 and IPv4."""
    from peer.net.ranking import interface_rank  # noqa: PLC0415 - see above

    found = [
        (not address.own.is_global, interface_rank(interface, table), address.own)
        for interface in table.by_index.values()
        if interface.is_up and not interface.is_loopback
        for address in interface.addresses
        if not address.own.is_link_local and address.own.version <= wildcard.version
    ]
    found.sort(key=lambda one: (*one[:2], one[2].version, str(one[2])))
    return [address for *_, address in found]


def _formatted(address: IpAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
