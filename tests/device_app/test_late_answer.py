"""An answer typed on a terminal does not apply to a client that started after its prompt."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from typing import TYPE_CHECKING

import pytest

from tests.device_app.test_daemon import Screen
from tests.kit.daemon import command, environment, run
from tests.kit.device import Caller
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Kit

OPTIONS = ("--port", "0", "--pairing-port", "0", "--listen", "127.0.0.1", "--allow-loopback")


@pytest.mark.parametrize("verb", ["run", "open"])
async def test_a_late_yes_does_not_accept_the_next_client(kit: Kit, verb: str) -> None:
    (kit.home / "device.d").mkdir(parents=True)
    rule = '[pairing]\noverlap = "first-wins"\n'
    (kit.home / "device.d" / "pairing.toml").write_text(rule)
    daemon = None if verb == "run" else await kit.daemon()
    master, terminal = pty.openpty()
    prompting = await asyncio.create_subprocess_exec(
        *command(kit.home, verb, *(OPTIONS if verb == "run" else ())),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(),
    )
    os.close(terminal)
    screen = Screen(master)

    async def json_of(*command: str) -> dict[str, object]:
        return dict(json.loads((await run(kit.home, *command, "--json")).out))

    try:
        await screen.until("ready" if verb == "run" else "handfast pair")
        status = await json_of("status")
        anna, eve = (
            Caller(lambda *, pairing: int(str(status["pairing_port" if pairing else "port"])))
            for _ in range(2)
        )
        started = await anna.start("anna")
        await screen.until("[yes/no]")
        await anna.pair_ask("DELETE", f"/pair/{started.body['id']}")
        await screen.until("2 attempts are left")
        theirs = await eve.start("eve")
        await screen.until("Press Enter to see which one. ")
        os.write(master, b"yes\n")  # meant for anna
        await screen.until("'eve' at")
        assert (await eve.pair_ask("GET", f"/pair/{theirs.body['id']}")).body == {
            "state": "PENDING_USER_CONFIRMATION"
        }
        assert (await json_of("pending"))["pending"]
        os.write(master, b"no\n")
        await screen.until("'eve' was not paired")
        assert (await json_of("users", "list"))["users"] == []
        await anna.close()
        await eve.close()
        if verb == "run":
            prompting.send_signal(signal.SIGTERM)
        else:
            await json_of("close")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await prompting.wait()
    finally:
        screen.close()
        if prompting.returncode is None:
            prompting.kill()
            await prompting.wait()
        if daemon is not None:
            await daemon.stop()
