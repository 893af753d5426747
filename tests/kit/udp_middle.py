"""A host between two UDP sockets, which passes packets on, or drops those that a test names."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from peer.remote.messages import CarrierOffer

LOOPBACK = "127.0.0.1"

Filter = Callable[[bytes], bool]


def address_of(offer: CarrierOffer) -> tuple[str, int]:
    """The address of the first candidate."""
    _, _, _, _, host, port, *_ = offer.candidates[0].split()
    return host, int(port)


@dataclass
class UdpMiddle:
    """`to_first` and `to_second` say whether a packet passes. Each side sees a port of its own."""

    to_first: Filter = lambda _: True
    to_second: Filter = lambda _: True
    _sides: list["_Side"] = field(default_factory=list)

    def offers(
        self, first: CarrierOffer, second: CarrierOffer
    ) -> tuple[CarrierOffer, CarrierOffer]:
        """The offers as each side gets them: the first one's for the second, and back."""
        for side, offer in zip(self._sides, (first, second), strict=True):
            side.target = address_of(offer)
        shown = [f"1 1 udp 2130706431 {LOOPBACK} {side.port} typ host" for side in self._sides]
        return replace(first, candidates=(shown[1],)), replace(second, candidates=(shown[0],))


class _Side(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.target = (LOOPBACK, 9)
        self.port = 0
        self.passes: Callable[[bytes], None] = lambda _: None
        self.socket: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.socket = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        self.passes(data)

    def send(self, data: bytes) -> None:
        assert self.socket is not None
        self.socket.sendto(data, self.target)


@contextlib.asynccontextmanager
async def udp_middle() -> AsyncIterator[UdpMiddle]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_datagram_endpoint(_Side, local_addr=(LOOPBACK, 0)) for _ in range(2)]
    first, second = (side for _, side in made)
    middle = UdpMiddle(_sides=[first, second])

    def from_first(data: bytes) -> None:
        if middle.to_second(data):
            second.send(data)

    def from_second(data: bytes) -> None:
        if middle.to_first(data):
            first.send(data)

    first.passes, second.passes = from_first, from_second
    try:
        yield middle
    finally:
        for transport, _ in made:
            transport.close()
