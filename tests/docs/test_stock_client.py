"""The commands of docs/protocol.md §5.7, to the letter but for the address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from device_app.app import App
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from peer.identity import Fingerprint
from peer.net.onlink import LocalMode
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.documents import Paper

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
    """One line of the shell block; what it prints."""
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


def accepted(app: App) -> list[Fingerprint]:
    """The device's user accepts every client; the keys that were shown."""
    shown: list[Fingerprint] = []

    def heard(news: PairingEvent) -> None:
        if news.kind is PairingEventKind.PENDING and news.ceremony is not None:
            shown.append(news.ceremony.fingerprint)
            call = app.pairing.ceremonies.decide
            asyncio.get_running_loop().call_soon(
                lambda ceremony_id: call(ceremony_id, accept=True), news.ceremony.id
            )

    app.pairing.events.subscribe(heard)
    return shown


@pytest.mark.needs_tool("openssl", "coap-client-openssl", "coap-client-gnutls")
@pytest.mark.parametrize("client", ["coap-client-openssl", "coap-client-gnutls"])
async def test_a_stock_client_pairs_as_the_paper_says(
    paper: Paper, tmp_path: Path, client: str
) -> None:
    home = tmp_path / "home"
    app = await App.start(Paths(home, home, home), SETTINGS)
    try:
        await app.pairing.open()
        shown = accepted(app)
        addresses = {
            "192.0.2.7:5685": f"{HOST}:{app.pairing.port.number}",
            "192.0.2.7:5684": f"{HOST}:{app.server.port}",
            "coap-client-openssl": client,
        }
        said = []
        for command in paper.commands():
            for written, real in addresses.items():
                command = command.replace(written, real)  # noqa: PLW2901 - it is the same command
            assert "192.0.2.7" not in command
            said.append(await run(command, tmp_path))
        _key, _certificate, ours, theirs, paired, hello = said
        assert shown == [Fingerprint.parse(ours.split()[0])]
        assert Fingerprint.parse(theirs.split()[0]) == app.identity.fingerprint
        assert paired.strip() == "paired as anna with role owner"
        assert hello.strip().startswith("Hello anna, you are owner of kitchen")
    finally:
        await app.close()
