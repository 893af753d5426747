"""Loss, duplicates and reordering between a device and a client on an in-memory network."""

import asyncio
from pathlib import Path

import pytest

from client_app import Client
from device_app.app import App
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from peer.limits import Limits
from peer.testing import Impairment, MemoryNet

HASTY = Limits(ack_timeout_seconds=0.05, max_retransmit=10)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [3, 4])
async def test_pairing_and_requests_succeed_on_an_impaired_network(
    tmp_path: Path, seed: int
) -> None:
    net = MemoryNet(Impairment(loss=0.3, duplicate=0.2, reorder=0.2, seed=seed))
    home = tmp_path / "device"
    settings = Settings(
        name="kitchen",
        listen=("127.0.0.1",),
        port=0,
        pairing_port=0,
        advertise=False,
        allow_loopback=True,
        limits=HASTY,
    )
    app = await App.start(Paths(home, home, home), settings, net=net)
    loop = asyncio.get_running_loop()

    def accept(event: PairingEvent) -> None:
        if (
            event.kind is PairingEventKind.PENDING
            and (ceremony := app.pairing.ceremonies.pending()) is not None
        ):
            loop.call_soon(lambda: app.pairing.ceremonies.decide(ceremony.id, accept=True))

    app.pairing.events.subscribe(accept)
    try:
        await app.pairing.open(seconds=600)
        async with Client(home=tmp_path / "client", limits=HASTY, net=net) as client:
            paired = await client.pair(
                f"127.0.0.1:{app.pairing.port.number}", name="anna", expect=app.identity.fingerprint
            )
            assert paired.is_new
            kitchen = await client.connect(paired.device.alias)
            for _ in range(5):
                assert "anna" in (await kitchen.get("/hello")).text
            assert (await kitchen.whoami()).role == "owner"
        assert [user.name for user in app.access.store.state.users.values()] == ["anna"]
    finally:
        net.change(Impairment())
        await app.close()
