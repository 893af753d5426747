"""Brokers and carriers in memory, for the drivers of remote reach: no network, and no waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from peer.errors import Unreachable
from peer.net.address import Address
from peer.remote.messages import CarrierKind, CarrierOffer
from peer.remote.settings import Server


class MemoryBroker:
    """A broker. `published` has each message; `is_down` refuses connections.

    `attempts` counts all connections.

    `deaf` are topics whose messages it does not deliver, and `change` alters a message or, with
    None, drops it.
    """

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.connections: set[MemoryConnection] = set()
        self.is_down = False
        self.attempts = 0
        self.opened = 0
        self.is_slow = False
        self.deaf: Callable[[str], bool] = lambda _topic: False
        self.change: Callable[[str, bytes], bytes | None] = lambda _topic, data: data

    @asynccontextmanager
    async def connect(self, _server: Server) -> "AsyncIterator[MemoryConnection]":
        self.attempts += 1
        while self.is_slow:  # noqa: ASYNC110 - until the test has seen the other broker
            await asyncio.sleep(0.001)
        if self.is_down:
            raise Unreachable("the broker is down")
        connection = MemoryConnection(self)
        self.connections.add(connection)
        self.opened += 1
        try:
            yield connection
        finally:
            self.connections.discard(connection)

    def publish(self, topic: str, data: bytes) -> None:
        """Publish a message as any account could."""
        self.published.append((topic, data))
        changed = self.change(topic, data)
        if changed is not None and not self.deaf(topic):
            self.deliver(topic, changed)

    def deliver(self, topic: str, data: bytes) -> None:
        """Deliver a message to those who listen."""
        for connection in self.connections:
            if topic in connection.topics:
                connection.inbox.put_nowait((topic, data))

    def topics(self) -> set[str]:
        """All topics to which a connection listens."""
        return {topic for connection in self.connections for topic in connection.topics}

    def kick(self) -> None:
        """End every connection."""
        for connection in self.connections:
            connection.inbox.put_nowait(None)


class MemoryConnection:
    """An open connection."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.topics: set[str] = set()
        self.inbox: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()

    async def subscribe(self, topics: Sequence[str]) -> None:
        self.topics |= set(topics)

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        self.topics -= set(topics)

    async def publish(self, topic: str, data: bytes) -> None:
        self._broker.publish(topic, data)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        while (message := await self.inbox.get()) is not None:
            yield message
        raise Unreachable("the broker has ended the connection")

    async def hears_itself(self, topic: str) -> float:
        if self._broker.is_down or self._broker.deaf(topic):
            raise Unreachable("not heard")
        return 0.0


class MemoryIce:
    """A network of carriers. Two halves connect once each has got the other's offer.

    `blocked` are kinds that cannot be gathered, `broken` ones that raise another error, and `walls`
    kinds that do not connect. `cut` are carriers that lose every datagram without saying so.
    `addresses` are other ones to use.
    """

    def __init__(self) -> None:
        self.made: list[MemoryCarrier] = []
        self.blocked: set[CarrierKind] = set()
        self.walls: set[CarrierKind] = set()
        self.broken: set[CarrierKind] = set()
        self.cut: set[MemoryCarrier] = set()
        self.sent: list[bytes] = []
        self.addresses: dict[str, str] = {}

    def maker(self, address: str) -> "Callable[..., MemoryCarrier]":
        """Return what makes the carriers of one side; the other side sees them at an address."""

        def make(
            kind: CarrierKind,
            *,
            on_datagram: Callable[[bytes], None],
            on_lost: Callable[[], None],
        ) -> MemoryCarrier:
            carrier = MemoryCarrier(self, kind, address, len(self.made), on_datagram, on_lost)
            self.made.append(carrier)
            return carrier

        return make

    def open_carriers(self) -> "list[MemoryCarrier]":
        """The carriers that are not closed."""
        return [one for one in self.made if not one.is_closed]

    def lose(self, kind: CarrierKind) -> None:
        """Lose the connected carriers of a kind, on both sides."""
        for one in self.made:
            if one.kind is kind and one.other is not None and not one.is_closed:
                one.lose()


class MemoryCarrier:
    """One side of a carrier."""

    def __init__(
        self,
        net: MemoryIce,
        kind: CarrierKind,
        address: str,
        number: int,
        on_datagram: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._net = net
        self.kind = kind
        self.address = Address(net.addresses.get(address, address), 50_000 + number)
        self.ufrag = f"ufrag{number:03d}"
        self.on_datagram = on_datagram
        self.on_lost = on_lost
        self.wants = ""
        self.other: MemoryCarrier | None = None
        self.connected = asyncio.get_running_loop().create_future()
        self.is_closed = self.is_freed = False

    @property
    def remote_address(self) -> Address | None:
        return self.other.address if self.other is not None else None

    async def gather(self) -> CarrierOffer:
        if self.kind in self._net.broken:
            raise LookupError("an error of a library")
        if self.kind in self._net.blocked:
            raise Unreachable("no candidate")
        candidate = f"1 1 udp 2130706431 {self.address.host} {self.address.port} typ host"
        return CarrierOffer(self.ufrag, "p" * 22, (candidate,))

    async def connect(self, remote: CarrierOffer) -> None:
        self.wants = remote.ufrag
        other = next(one for one in self._net.made if one.ufrag == remote.ufrag)
        if other.wants == self.ufrag and self.kind not in self._net.walls:
            self.other, other.other = other, self
            self.connected.set_result(None)
            other.connected.set_result(None)
        await self.connected

    def send(self, data: bytes) -> bool:
        if self.is_closed or self.other is None:
            return False
        self._net.sent.append(data)
        if self not in self._net.cut:
            asyncio.get_running_loop().call_soon(self.other.deliver, data)
        return True

    def deliver(self, data: bytes) -> None:
        """Deliver a datagram here, as if the other side had sent it."""
        if not self.is_closed:
            self.on_datagram(data)

    def lose(self) -> None:
        """Report that it works no more."""
        self.on_lost()

    async def close(self) -> None:
        """Close it at once, and free it after some turns of the loop, as a relay answers later."""
        self.is_closed = True
        for _ in range(50):
            await asyncio.sleep(0)
        self.is_freed = True
        if not self.connected.done():
            self.connected.cancel()
