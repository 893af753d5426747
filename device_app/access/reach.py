"""Where others reach this device: what an invite tells a client that has never seen it.

First what the configuration says (`[network] public`), which is all that a machine behind a router
can know of the other side; then the addresses that the kernel has, those of the whole internet
before those of a site. An address that means nothing elsewhere (loopback, link-local) is told only
if somebody made the device listen on it. All of them are hints: who answers is known by its key.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from peer.net.address import Address
from peer.net.interfaces import InterfaceTable, IpAddress, kernel_table


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
    """`HOST:PORT` hints, the best first. `bound`: where the device listens, the wildcards too;
    `table`: the interfaces, those of now by default."""
    table = _table() if table is None else table
    bound = [(host, port) for host, port in bound if port]
    usual = bound[0][1] if bound else 0
    with_port = [given if _has_port(given) else f"{given}:{usual}" for given in public]
    found = [one for one in with_port if not one.endswith(":0")]
    for host, port in bound:
        address = ipaddress.ip_address(host)
        own = _own(table, address) if address.is_unspecified else [address]
        found += [_written(one, port) for one in own]
    return tuple(dict.fromkeys(found))


def _table() -> InterfaceTable:
    try:
        return kernel_table()
    except OSError:  # an invite without hints is better than none
        return InterfaceTable.of(())


def _has_port(text: str) -> bool:
    return text.rpartition(":")[2].isdecimal() and (text.count(":") == 1 or "]:" in text)


def _own(table: InterfaceTable, wildcard: IpAddress) -> list[IpAddress]:
    """What the wildcard stands for: `::` is IPv6 and IPv4."""
    own = [
        address.own
        for interface in table.by_index.values()
        if interface.is_up and not interface.is_loopback
        for address in interface.addresses
        if not address.own.is_link_local and address.own.version <= wildcard.version
    ]
    return sorted(own, key=lambda one: (not one.is_global, one.version, str(one)))


def _written(address: IpAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
