"""The Python scripts of the README and docs/howto run.

The scripts use a device that serves the lamp of docs/howto/resources.md.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

from client_app import Client
from device_app.app import App
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from peer.net.locality_verdict import LocalMode
from tests.kit.waiting import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]


def block(page: str) -> str:
    """The Python block of a page that is marked for this test."""
    marked = r"<!-- run by tests/docs/test_readme\.py -->\n```python\n(.*?)```"
    (found,) = re.findall(marked, (ROOT / page).read_text(), re.DOTALL)
    return str(found)


async def pair(app: App, home: Path) -> None:
    """Pair a client; the device accepts it automatically."""
    await app.pairing.open()

    def accept(event: PairingEvent) -> None:
        if (
            event.kind is PairingEventKind.PENDING
            and (ceremony := app.pairing.ceremonies.pending()) is not None
        ):
            asyncio.get_running_loop().call_soon(
                lambda: app.pairing.ceremonies.decide(ceremony.id, accept=True)
            )

    app.pairing.events.subscribe(accept)
    async with Client(home=home) as client:
        target = f"127.0.0.1:{app.pairing.port.number}"
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
    async with asyncio.timeout(TIMEOUT_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_scripts_and_the_lamp_module_run(tmp_path: Path) -> None:
    home, client_home = tmp_path / "device", tmp_path / "client"
    (home / "modules").mkdir(parents=True)
    (home / "modules" / "readme_lamp.py").write_text(block("docs/howto/resources.md"))
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
    app = await App.start(Paths(home, home, home), settings)
    try:
        await pair(app, client_home)
        output = await script(block("README.md"), client_home)
        greeting, load = output.splitlines()
        assert "anna" in greeting
        assert float(load) >= 0
        async with Client(home=client_home) as client:
            kitchen = await client.connect("kitchen")
            assert (await kitchen.get("/lamp")).text == "off"
            await kitchen.put("/lamp", "on")
            assert (await kitchen.get("/lamp")).text == "on"
        output = await script(block("docs/howto/scripts.md"), client_home)
        greeting, failure = output.splitlines()
        assert "anna" in greeting
        assert failure == "exit code 8"  # the lamp does not support DELETE
    finally:
        await app.close()
        sys.modules.pop("readme_lamp", None)
        sys.path.remove(str(home / "modules"))


def pattern(line: str) -> str:
    """The pattern of a line of the excerpt: `…`, IDs, codes and the time left match any text."""
    text = re.sub(r"\b[0-9A-Z]{8}\b|\d{4}-\d{4}|(?<=open for )\d+ min", "…", line.strip())
    return ".*".join(map(re.escape, text.split("…")))


def missing(excerpt: str, printed: str) -> list[str]:
    """The lines of the excerpt that are missing from the output or out of order."""
    rest = iter(printed.splitlines())
    return [
        line
        for line in excerpt.splitlines()
        if not any(re.fullmatch(pattern(line), each.strip()) for each in rest)
    ]
