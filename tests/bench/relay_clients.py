"""Many allocations at a relay, and datagrams through it: `relay_clients.py SETTINGS`.

The settings are those of `worker.settings_of`. Commands: `allocate` makes allocations as a
client of a device makes them, `send` passes data through one of them, with a window of datagrams.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, suppress
from typing import Final

from peer.remote.ice import IceServers
from peer.remote.settings import Server
from tests.bench.worker import at_once, run_commands, server_of
from tests.kit.carriers import CarrierEnd, closing, connect

DATAGRAM: Final = b"\x40" * 1200  # as long as a packet of QUIC, and with such a first byte
WINDOW: Final = 16
LOST_SECONDS: Final = 5.0  # a datagram that takes longer is lost; a busy machine may take long


async def main(relay: Server) -> None:
    """Run commands until the end of the input."""
    servers = IceServers((), (relay,))
    held: list[CarrierEnd] = []

    async def allocate_one() -> None:
        end = CarrierEnd.create(controlling=True, servers=servers, relay_only=True)
        await end.carrier.gather()
        held.append(end)

    async def allocate(count: int) -> int:
        await at_once(count, allocate_one)
        return len(held)

    async with AsyncExitStack() as stack:
        ends: list[CarrierEnd] = []

        async def open_path() -> None:
            client = CarrierEnd.create(controlling=True, servers=servers, relay_only=True)
            device = CarrierEnd.create(controlling=False)
            await stack.enter_async_context(closing(client, device))
            await connect(client, device)
            ends.extend((client, device))

        async def send(datagrams: int) -> int:
            client, device = ends
            arrived = 0
            for start in range(0, datagrams, WINDOW):
                for _ in range(min(WINDOW, datagrams - start)):
                    client.carrier.send(DATAGRAM)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOST_SECONDS):
                        for _ in range(min(WINDOW, datagrams - start)):
                            await device.received.get()
                            arrived += 1
            return arrived * len(DATAGRAM)

        await run_commands({"allocate": allocate, "open": open_path, "send": send})


if __name__ == "__main__":
    asyncio.run(main(server_of(json.loads(sys.argv[1]))))
