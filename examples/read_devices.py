"""Read one resource of many devices at the same time, and print one line of JSON for each.

    python3 read_devices.py /board                    all devices that this client is paired with
    python3 read_devices.py /board kitchen cellar     only these

A device that cannot be read does not stop the others; its line has an `error` instead of a `value`,
and the exit code is then 1.
"""

import argparse
import asyncio
import json
import sys

from handfast import Client, PeerError

SECONDS = 10.0  # for each device


async def read(client: Client, alias: str, path: str) -> dict[str, object]:
    """Return the line of one device."""
    try:
        async with asyncio.timeout(SECONDS):
            device = await client.connect(alias)
            answer = await device.get(path)
    except PeerError as error:
        return {"device": alias, "error": str(error), "advice": error.advice}
    except TimeoutError:
        return {"device": alias, "error": f"no answer within {SECONDS:.0f} seconds"}
    return {"device": alias, "value": answer.value}


async def read_all(path: str, aliases: list[str]) -> int:
    """Print the lines in the order in which the devices answer; return the exit code."""
    failures = 0
    async with Client() as client:
        aliases = aliases or [known.alias for known in client.devices]
        for answer in asyncio.as_completed([read(client, alias, path) for alias in aliases]):
            line = await answer
            failures += "error" in line
            print(json.dumps(line, default=repr), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Read one resource of many devices.")
    parser.add_argument("path", help="path of the resource, for example /board")
    parser.add_argument("devices", nargs="*", help="aliases of paired devices (default: all)")
    given = parser.parse_args()
    sys.exit(asyncio.run(read_all(given.path, given.devices)))
