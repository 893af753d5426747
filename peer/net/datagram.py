"""A received datagram, and what this package needs of a socket and of a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from peer.net.address import Address

Arrival = tuple[object, ...]
"""How a datagram arrived, in the form of its socket: everything but its data. Two datagrams with
equal ones at one socket have the same source, destination, interface and hop limit."""


@dataclass(slots=True)
class Datagram:
    """One received datagram. It is never changed; one that is frozen takes longer to make.

    `destination` is the IP address in its header, `ifindex` the interface that received it (0 if
    the kernel did not report it), and `hop_limit` the TTL or hop limit on arrival (None if the
    kernel did not report it). `arrival` has all of them as the socket reported them.
    """

    data: bytes
    source: Address
    destination: str
    ifindex: int
    hop_limit: int | None
    arrival: Arrival | None = field(default=None, compare=False, repr=False)


class Receiver(Protocol):
    """Takes datagrams that all arrive in one way."""

    def receive_untrusted(self, data: bytes, /) -> bool:
        """Process one datagram, or return False and do nothing."""


NO_RECEIVERS: Final[Mapping[Arrival, Receiver]] = MappingProxyType({})


class Socket(Protocol):
    """A bound or connected socket."""

    @property
    def local_address(self) -> Address:
        """The bound address."""

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram; return False if it was dropped. Never raises."""

    def is_reading(self) -> bool:
        """Return whether the socket is open and its datagrams are read."""

    def close(self) -> None:
        """Free the port. Safe to repeat."""


class Net(Protocol):
    """Opens sockets: `UdpSocket` itself, or a network in memory (`peer.testing`)."""

    def bind(
        self,
        host: str,
        port: int,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
        receivers: Mapping[Arrival, Receiver] = NO_RECEIVERS,
    ) -> Socket:
        """Open a socket for datagrams of any source. Raises `PeerError` if it cannot be bound.

        A datagram is first offered to the one of `receivers` that has its arrival. `on_datagram`
        gets all others.
        """

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Socket:
        """Open a socket for one peer. Raises `Unreachable` if there is no route to it."""
