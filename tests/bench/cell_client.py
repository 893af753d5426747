"""A client in the namespace of a network: `cell_client.py HOME VIA ROUNDS BYTES HOST PORT`.

It prints a JSON list with one object for each round: the milliseconds until the first answer of a
new session, and the MB/s of a copy through a tunnel, and of the same copy from `HOST:PORT` over
TCP, without handfast. The first round only loads what is imported, and is left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

from handfast import Client

_MB: Final = 1e6
#: A device takes ten connect requests of one key at once, and then one every two seconds.
PAUSE_SECONDS: Final = 0.7


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> float:
    """Ask a source for some bytes; return the MB/s."""
    begin = time.perf_counter()
    writer.write(f"{count}\n".encode())
    left = count
    while left:
        data = await reader.read(65536)
        assert data, "the source has ended too early"
        left -= len(data)
    return count / _MB / (time.perf_counter() - begin)


async def measured(home: str, via: str, count: int, source: tuple[str, int]) -> dict[str, float]:
    async with Client(home=home, via=via) as client:
        begin = time.perf_counter()
        kitchen = await client.connect("kitchen")
        await kitchen.get("/hello")
        first = time.perf_counter() - begin
        reader, writer = await kitchen.stream("source")
        rate = await copied(reader, writer, count)
        writer.close()
    reader, writer = await asyncio.open_connection(*source)
    bare = await copied(reader, writer, count)
    writer.close()
    return {"first": 1e3 * first, "rate": rate, "bare": bare}


async def main(home: str, via: str, rounds: str, count: str, host: str, port: str) -> None:
    results = []
    for _ in range(int(rounds) + 1):
        await asyncio.sleep(PAUSE_SECONDS)
        results.append(await measured(home, via, int(count), (host, int(port))))
    print(json.dumps(results[1:]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
