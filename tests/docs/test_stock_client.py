"""The commands of docs/protocol.md §5.7 run as written, with other addresses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from device_app.app import App
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from peer.identity import Fingerprint
from peer.net.locality_verdict import LocalMode
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.documents import ProtocolDocument

HOST = "127.0.0.1"
SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    advertise=False,
    local=LocalMode.COMPAT,
    allow_loopback=True,
)


async def run(command: str, folder: Path) -> str:
    """Run a line of the shell block and return its output."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", command),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, (command, err.decode(errors="replace"))
    return out.decode()


def accept_all(app: App) -> list[Fingerprint]:
    """Accept every client at the device; returns the list of the fingerprints shown there."""
    shown: list[Fingerprint] = []

    def accept(event: PairingEvent) -> None:
        if event.kind is PairingEventKind.PENDING and event.ceremony is not None:
            shown.append(event.ceremony.fingerprint)
            call = app.pairing.ceremonies.decide
            asyncio.get_running_loop().call_soon(
                lambda ceremony_id: call(ceremony_id, accept=True), event.ceremony.id
            )

    app.pairing.events.subscribe(accept)
    return shown


@pytest.mark.needs_tool("openssl", "coap-client-openssl", "coap-client-gnutls")
@pytest.mark.parametrize("client", ["coap-client-openssl", "coap-client-gnutls"])
async def test_a_stock_client_pairs_with_the_documented_commands(
    protocol: ProtocolDocument, tmp_path: Path, client: str
) -> None:
    home = tmp_path / "home"
    app = await App.start(Paths(home, home, home), SETTINGS)
    try:
        await app.pairing.open()
        shown = accept_all(app)
        addresses = {
            "192.0.2.7:5685": f"{HOST}:{app.pairing.port.number}",
            "192.0.2.7:5684": f"{HOST}:{app.server.port}",
            "coap-client-openssl": client,
        }
        outputs = []
        for command in protocol.commands():
            for written, real in addresses.items():
                command = command.replace(written, real)  # noqa: PLW2901 - the same command
            assert "192.0.2.7" not in command
            outputs.append(await run(command, tmp_path))
        _key, _certificate, ours, _pinned, theirs, paired, hello = outputs
        assert shown == [Fingerprint.parse(ours.split()[0])]
        assert Fingerprint.parse(theirs.split()[0]) == app.identity.fingerprint
        # libcoap on GnuTLS prints a warning before it
        assert paired.strip().endswith("paired as anna with role owner")
        assert "Hello anna, you are owner of kitchen" in hello
    finally:
        await app.close()
