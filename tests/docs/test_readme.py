"""The README is followed: its script talks to a device that serves its lamp."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from client_app import Client
from device_app.app import App
from device_app.config import Settings
from device_app.pairing.terms import PairingEvent, PairingEventKind
from device_app.paths import Paths
from peer.limits import DEFAULT_LIMITS
from peer.net.onlink import LocalMode

README = Path(__file__).parents[2] / "README.md"
PATIENCE = 30.0


def block(number: int) -> str:
    """A Python block that the README says is run here."""
    marked = r"<!-- run by tests/docs/test_readme\.py -->\n```python\n(.*?)```"
    return str(re.findall(marked, README.read_text(), re.DOTALL)[number])


async def paired(app: App, home: Path) -> None:
    """Pair a client; whoever sits at the device says yes."""
    await app.door.open()

    def accept(news: PairingEvent) -> None:
        if news.kind is PairingEventKind.PENDING and (ceremony := app.door.pending()) is not None:
            asyncio.get_running_loop().call_soon(lambda: app.door.decide(ceremony.id, accept=True))

    app.door.watch(accept)
    async with Client(home=home) as client:
        target = f"127.0.0.1:{app.door.port.number}"
        await client.pair(target, name="anna", expect=app.identity.fingerprint)


async def script(code: str, home: Path) -> str:
    """Run a script as its own process, as a user would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env={**os.environ, "HANDFAST_HOME": str(home), "HANDFAST_INTERFACES": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.asyncio
async def test_the_script_and_the_lamp_of_the_readme_work(tmp_path: Path) -> None:
    home, client_home = tmp_path / "device", tmp_path / "client"
    (home / "modules").mkdir(parents=True)
    (home / "modules" / "readme_lamp.py").write_text(block(1))
    settings = Settings(
        name="kitchen",
        listen=("127.0.0.1",),
        port=0,
        pairing_port=0,
        advertise=False,
        local=LocalMode.STRICT,
        allow_loopback=True,
        modules=("readme_lamp",),
    )
    app = await App.start(Paths(home, home, home), settings, limits=DEFAULT_LIMITS)
    try:
        await paired(app, client_home)
        said = await script(block(0), client_home)
        greeting, load = said.splitlines()
        assert "anna" in greeting
        assert float(load) >= 0
        async with Client(home=client_home) as client:
            kitchen = await client.connect("kitchen")
            assert (await kitchen.get("/lamp")).text == "off"
            await kitchen.put("/lamp", "on")
            assert (await kitchen.get("/lamp")).text == "on"
    finally:
        await app.close()
        sys.modules.pop("readme_lamp", None)
        sys.path.remove(str(home / "modules"))
