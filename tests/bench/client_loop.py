"""One client that sends GET /hello again and again: `client_loop.py HOST PORT COUNT [keys=FOLDER]`.

With a folder of keys it is our client, otherwise aiocoap's on plain UDP. It prints a JSON list:
requests per second, and microseconds of its own CPU for one.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiocoap

from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient

WARM = 100


async def repeat(ask: Callable[[], Awaitable[aiocoap.Message]], count: int) -> None:
    """Send the requests, and print the rate and the CPU time."""
    for _ in range(WARM):
        await ask()
    begin, spent = time.perf_counter(), time.process_time()
    for _ in range(count):
        answer = await ask()
        assert answer.code.is_successful()
    taken, spent = time.perf_counter() - begin, time.process_time() - spent
    print(json.dumps([count / taken, 1e6 * spent / count]))


async def run_ours(host: str, port: int, count: int, keys: Path) -> None:
    """Our client, with the first key of the folder."""
    async with CoapsClient(Identity.from_pem((keys / "0.key").read_bytes())) as client:
        connection = await client.connect(Address(host, port), pinned=None)

        async def ask() -> aiocoap.Message:
            message = aiocoap.Message(code=aiocoap.GET, uri_path=("hello",))
            return await connection.request(message, timeout=10)

        await repeat(ask, count)


async def run_aiocoap(host: str, port: int, count: int) -> None:
    """aiocoap's client on plain UDP."""
    context = await aiocoap.Context.create_client_context(transports=["simple6"])

    async def ask() -> aiocoap.Message:
        message = aiocoap.Message(code=aiocoap.GET, uri=f"coap://{host}:{port}/hello")
        return await context.request(message).response

    await repeat(ask, count)
    await context.shutdown()


if __name__ == "__main__":
    address = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    folder = sys.argv[4].removeprefix("keys=") if len(sys.argv) > 4 else ""
    asyncio.run(run_ours(*address, Path(folder)) if folder else run_aiocoap(*address))
