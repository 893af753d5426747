"""A received datagram, and what this package needs of a socket and of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from peer.net.address import Address


@dataclass(slots=True)
class Datagram:
    """One received datagram. It is never changed; one that is frozen takes longer to make.

    `destination` is the IP address in its header, `ifindex` the interface that received it (0 if
    the kernel did not report it), and `hop_limit` the TTL or hop limit on arrival (None if the
    kernel did not report it).
    """

    data: bytes
    source: Address
    destination: str
    ifindex: int
    hop_limit: int | None


class Socket(Protocol):
    """A bound or connected socket."""

    @property
    def local_address(self) -> Address:
        """The bound address."""

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram; return False if it was dropped. Never raises."""

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
    ) -> Socket:
        """Open a socket for datagrams of any source. Raises `PeerError` if it cannot be bound."""

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Socket:
        """Open a socket for one peer. Raises `Unreachable` if there is no route to it."""
