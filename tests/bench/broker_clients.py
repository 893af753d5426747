"""Many devices attached to one broker: `broker_clients.py {}`.

Each is a connection as the remote agent of a device opens it. Commands: `use` names the broker by
the settings of `worker.settings_of`, `connect` opens connections with four topics each, `ping`
sends one PINGREQ on each of them, evenly over some time, and `close` ends them.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import Final

from peer.remote.broker import Broker
from peer.remote.pair_keys import client_topic
from peer.remote.settings import Server
from tests.bench.worker import at_once, run_commands, server_of
from tests.kit.internals import mqtt_client_of

TOPICS: Final = 4
KEEP_ALIVE_SECONDS: Final = 600.0  # longer than a measurement, whose pings are the only ones


class Devices:
    """The connections with one broker after the other."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._server: Server | None = None
        self._brokers: list[Broker] = []

    async def use(self, **settings: str) -> None:
        """Connect to this broker from now on."""
        self._server = server_of(settings)

    async def connect(self, count: int) -> int:
        """Open further connections; return their number."""
        await at_once(count, self._attach)
        return len(self._brokers)

    async def _attach(self) -> None:
        assert self._server is not None
        broker = await self._stack.enter_async_context(
            Broker.connect(self._server, keep_alive=KEEP_ALIVE_SECONDS)
        )
        prefix = f"hf1/{self._server.username}"
        topics = [client_topic(prefix, secrets.token_bytes(16)) for _ in range(TOPICS)]
        await broker.subscribe(topics)
        self._brokers.append(broker)

    async def ping(self, seconds: float) -> int:
        """Send a ping on each connection; return their number."""
        for broker in self._brokers:
            mqtt_client_of(broker)._send_pingreq()
            await asyncio.sleep(seconds / len(self._brokers))
        return len(self._brokers)

    async def close(self) -> None:
        """End all connections."""
        self._brokers.clear()
        await self._stack.aclose()


async def main() -> None:
    """Run commands until the end of the input."""
    async with AsyncExitStack() as stack:
        devices = Devices(stack)
        await run_commands(
            {
                "use": devices.use,
                "connect": devices.connect,
                "ping": devices.ping,
                "close": devices.close,
            }
        )


if __name__ == "__main__":
    asyncio.run(main())
