"""How a session reaches its peer, and what this package needs of a remote path.

A remote path is a datagram channel to one peer, through NATs or a relay (`peer.remote`). To an
endpoint it is one more socket, with a constant address: the addresses below it change while the
session continues. A path is never local, whatever addresses it uses.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from peer.net.address import Address
from peer.net.datagram import Datagram, Socket
from peer.net.locality_verdict import LocalityVerdict

PATH_ADDRESS: Final = Address("100::", 0)
"""The source of each datagram of a path: a discard-only address (RFC 6666), which no host has."""

PATH_VERDICT: Final = LocalityVerdict(
    is_local=False, rule="path", interface="", hop_limit=None, detail="it arrived on a remote path"
)
"""The verdict about each datagram of a path."""

PATH_MTU: Final = 1168
"""Bytes of DTLS in one datagram of a path. Sealing and a relay's framing are added to it. A block
of 1024 bytes (RFC 7959) still fits."""


class SessionRoute(StrEnum):
    """How a session reaches its peer."""

    LAN = "lan"
    """From the same link, by the rules of protocol §3."""
    ADDRESS = "address"
    """By an address, from another network."""
    DIRECT = "direct"
    """By a remote path without a relay."""
    RELAY = "relay"
    """By a remote path through a relay."""


class PathSocket(Socket, Protocol):
    """A remote path: a socket with one peer. It ignores the addresses that `send` gets."""

    @property
    def route(self) -> SessionRoute:
        """`DIRECT` or `RELAY`: the way that its datagrams take now."""

    @property
    def remote_address(self) -> Address:
        """The address to which its datagrams go now: the peer's, or its relay's."""

    def note_authentic(self) -> None:
        """Note that the datagram that it delivers at this moment is authentic."""

    def open(
        self, *, on_datagram: Callable[[Datagram], None], on_closed: Callable[[], None]
    ) -> None:
        """Begin to deliver datagrams, each with `PATH_ADDRESS` as its source.

        `on_closed` is called once when the path has ended by itself, at once if it has already. It
        is not called after `close`.
        """

    async def wait_closed(self) -> None:
        """Wait after `close` until everything below it is freed: a few seconds at most."""
