"""A TCP service that sends as many bytes as a line asks for: `source_server.py HOST PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

_PIECE: Final = bytes(65536)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    left = int(await reader.readline() or b"0")
    try:
        while left > 0:
            writer.write(_PIECE[:left])
            left -= len(_PIECE)
            await writer.drain()
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(host: str, port: str) -> None:
    server = await asyncio.start_server(_serve, host, int(port))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
