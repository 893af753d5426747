"""Remote paths in memory: two ends of a datagram channel, without keys, carriers or a network."""

import asyncio
from collections.abc import Callable
from typing import Self

from peer.fingerprint import Fingerprint
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.server import CoapsServer
from peer.net.session_route import PATH_ADDRESS, SessionRoute


class MemoryPath:
    """One end. `sent` has what it sent; `route` and `remote_address` may be changed.

    `lost` counts the datagrams that were sent while there was no other end.
    """

    def __init__(self, remote_address: str = "203.0.113.9") -> None:
        self.route = SessionRoute.DIRECT
        self.remote_address = Address(remote_address, 4711)
        self.local_address = PATH_ADDRESS
        self.sent: list[bytes] = []
        self.lost = 0
        self.is_closed = False
        self.authentic = 0
        self.other: MemoryPath | None = None
        self._on_datagram: Callable[[Datagram], None] | None = None
        self._on_closed: Callable[[], None] | None = None

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return the two ends: the client's, and the device's."""
        client, device = cls(), cls()
        client.other, device.other = device, client
        return client, device

    @classmethod
    def attached(cls, server: CoapsServer, key: Fingerprint) -> tuple[Self, Self]:
        """Return the two ends of a path that a server has for a key."""
        client, device = cls.pair()
        server.attach(device, key)
        return client, device

    def open(
        self, *, on_datagram: Callable[[Datagram], None], on_closed: Callable[[], None]
    ) -> None:
        self._on_datagram, self._on_closed = on_datagram, on_closed

    def note_authentic(self) -> None:
        self.authentic += 1

    def deliver(self, data: bytes) -> None:
        """Deliver a datagram here, as if the other end had sent it."""
        if self._on_datagram is not None and not self.is_closed:
            self._on_datagram(Datagram(data, PATH_ADDRESS, "", 0, None))

    def send(self, data: bytes, _to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        assert (source, ifindex) == ("", 0)
        if self.is_closed or self.other is None:
            self.lost += 1
            return False
        self.sent.append(data)
        asyncio.get_running_loop().call_soon(self.other.deliver, data)
        return True

    def is_reading(self) -> bool:
        return not self.is_closed

    def lose(self) -> None:
        """End the path by itself, as if its carriers were lost."""
        self.is_closed = True
        if self._on_closed is not None:
            self._on_closed()

    def close(self) -> None:
        self.is_closed = True

    async def wait_closed(self) -> None:
        """Nothing is left: there are no carriers."""
