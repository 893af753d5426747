"""A device and clients that pair with it, in one process: `pairing_loop.py COUNT`.

Both users accept at once. It prints a JSON list of three medians in seconds: from connecting to
the stored device on the client, one handshake between the same two, and a user added durably.
"""

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from client_app.client import Client
from device_app.app import App
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.settings.paths import Paths
from iam.model import User
from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient
from tests.kit.daemon import HOST
from tests.kit.device import HASTY, SETTINGS


async def accept(_question: object) -> bool:
    """Accept as the user of the client."""
    return True


async def measure(folder: Path, count: int) -> tuple[float, float, float]:
    """Pair as many clients one after another, each with a handshake before it."""
    at = folder / "device"
    app = await App.start(Paths(at, at, at), replace(SETTINGS, limits=HASTY))

    def decide(event: PairingEvent) -> None:
        if event.kind is PairingEventKind.PENDING and event.ceremony is not None:
            app.pairing.ceremonies.decide(event.ceremony.id, accept=True)

    app.pairing.events.subscribe(decide)
    pairings, handshakes, changes = [], [], []
    for number in range(count):
        await app.pairing.open()
        port = app.pairing.port.number
        async with CoapsClient(Identity.create()) as stranger:
            begin = time.perf_counter()
            connection = await stranger.connect(Address(HOST, port), pinned=None)
            handshakes.append(time.perf_counter() - begin)
            await connection.close()
        home = folder / f"client-{number}"
        home.mkdir()
        Identity.load_or_create(home / "identity.pem")
        async with Client(home=home) as client:
            begin = time.perf_counter()
            name = f"user{number}"
            await client.pair(f"{HOST}:{port}", name=name, confirm=accept, method="compare")
            pairings.append(time.perf_counter() - begin)
        app.pairing.close_window()
        begin = time.perf_counter()
        app.access.registry.add_user(None, User(f"given{number}", "guest"))
        changes.append(time.perf_counter() - begin)
    await app.close()
    return median(pairings), median(handshakes), median(changes)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(asyncio.run(measure(Path(scratch), int(sys.argv[1])))))
