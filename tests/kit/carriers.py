"""Pairs of ICE carriers on the loopback, with what each of them received."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from peer.remote.ice import IceServers
from peer.remote.ice_carrier import IceCarrier
from peer.remote.limits import DEFAULT_ICE_LIMITS, IceLimits
from peer.remote.messages import CarrierKind, CarrierOffer
from tests.kit.udp_middle import UdpMiddle

LOOPBACK = "127.0.0.1"
PROBE = b"\x80probe"


@dataclass
class CarrierEnd:
    """A carrier with its inbox."""

    received: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    losses: int = 0

    def __post_init__(self) -> None:
        self.carrier: IceCarrier

    @classmethod
    def create(
        cls,
        *,
        controlling: bool,
        servers: IceServers = IceServers(),  # noqa: B008  # frozen
        relay_only: bool = False,
        limits: IceLimits = DEFAULT_ICE_LIMITS,
        check_seconds: float = 15.0,
        addresses: Sequence[str] = (LOOPBACK,),
    ) -> Self:
        end = cls()
        end.carrier = IceCarrier(
            CarrierKind.RELAY if relay_only else CarrierKind.DIRECT,
            controlling=controlling,
            servers=servers,
            relay_only=relay_only,
            on_datagram=end.received.put_nowait,
            on_lost=end.count_loss,
            limits=limits,
            check_seconds=check_seconds,
            local_addresses=addresses,
        )
        return end

    def count_loss(self) -> None:
        self.losses += 1


@contextlib.asynccontextmanager
async def closing(*ends: CarrierEnd) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(one.carrier.close() for one in ends))


async def connect(
    client: CarrierEnd, device: CarrierEnd, middle: UdpMiddle | None = None
) -> tuple[CarrierOffer, CarrierOffer]:
    """Gather on both sides, connect, perhaps with a host between, and send a datagram each way."""
    offers = await asyncio.gather(client.carrier.gather(), device.carrier.gather())
    if middle is not None:
        offers = middle.offers(*offers)
    await asyncio.gather(client.carrier.connect(offers[1]), device.carrier.connect(offers[0]))
    await exchange(client, device)
    return offers


async def exchange(client: CarrierEnd, device: CarrierEnd) -> None:
    """Send a datagram each way, and wait for both."""
    assert client.carrier.send(PROBE)
    assert device.carrier.send(PROBE)
    assert await device.received.get() == PROBE
    assert await client.received.get() == PROBE
