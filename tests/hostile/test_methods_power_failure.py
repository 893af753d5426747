"""The counts of failed attempts survive a power failure."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console import offline
from device_app.console.console import Console
from device_app.console.control_client import call
from device_app.pairing.stored_label import LABEL_RECORD
from device_app.settings.paths import Paths
from iam import Store
from peer.errors import PeerError
from peer.identity import Fingerprint
from peer.pairing.label import Label
from tests.kit.methods import (
    HOST,
    PRINTED,
    LabelledDevice,
    Run,
    client_side_of,
    other_code,
    session_of,
)
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Kit
ROOT = Path(__file__).resolve().parents[2]


# A daemon that is killed before it answers the first round. The first argument selects what to
# break; the rest are the arguments of handfast-device.
KILLED_DAEMON = """
import os, signal, sys
from device_app import cli
from device_app.pairing.record import PairingRecord
from device_app.resources import pair

real = pair.reply

def dies(request, body, **options):
    if "rounds" in body:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(request, body, **options)

if sys.argv[1] != "runs":
    pair.reply = dies
if sys.argv[1] == "does-not-store":
    PairingRecord.keep = lambda *_args, **_named: None
sys.argv[1:] = sys.argv[2:]
sys.exit(cli.main())
"""


@dataclass
class Daemon:
    """A daemon process with the ports and the fingerprint that a caller needs."""

    process: asyncio.subprocess.Process
    paths: Paths
    fingerprint: Fingerprint
    regular: int = 0
    pairing: int = 0

    def port(self, *, pairing: bool) -> int:
        return self.pairing if pairing else self.regular


@asynccontextmanager
async def daemon(paths: Paths, key: Fingerprint, how: str) -> AsyncIterator[Daemon]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HANDFAST")}
    options = ["run", "--port", "0", "--pairing-port", "0", "--listen", HOST, "--allow-loopback"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_DAEMON, how, "--home", str(paths.state), *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=kept | {"PYTHONPATH": str(ROOT), "HANDFAST_INTERFACES": HOST},
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while b"ready" not in (line := await process.stderr.readline()):
                assert line, "the daemon exited before it was ready"
        window = (await call(paths.socket, "open", {}))["window"]
        status = await call(paths.socket, "status", {})
        yield Daemon(process, paths, key, int(status["port"]), int(window["port"]))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("how", ["stores", "does-not-store"])
async def test_the_counts_survive_a_kill_between_attempt_and_answer(
    kit: Kit, tmp_path: Path, how: str
) -> None:
    """The process is killed before it sends the answer. After the restart the attempt is counted,
    and it was the 20th on the printed code. A daemon that does not store the count loses it.
    """
    home = tmp_path / "board"
    paths = Paths(home, home, home)
    key = Fingerprint.parse(str(offline.init(paths, name="kitchen", force=False)["fingerprint"]))
    text = offline.OfflineConsole(paths, warn=print).run(Console.label)["label"]
    label, printed = Label.parse_untrusted(text["text"]), text["code"]
    with closing(Store.open(home / "device.db")) as store:
        record = {**store.attempts, LABEL_RECORD: {**record_of(store), "failures": 19}}
        store.commit(store.state, attempts=record)
    code = other_code(printed)
    async with daemon(paths, key, how) as board:
        caller = kit.caller(board.port)
        session = await session_of(caller)
        half = client_side_of(PRINTED, session, code=code)
        asking = asyncio.ensure_future(
            caller.pair_ask("POST", "/pair", {**half.begin(), "method": "code", "name": "eve"})
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await board.process.wait() == -signal.SIGKILL
        asking.cancel()
        with suppress(asyncio.CancelledError, PeerError):
            await asking
    with closing(Store.open(home / "device.db")) as store:
        attempts: Any = store.attempts.get("pairing", {"failures": 0})
        assert attempts["failures"] == (1 if how == "stores" else 0)
        assert record_of(store)["failures"] == (20 if how == "stores" else 19)
    async with daemon(paths, key, "runs") as board:
        caller = kit.caller(board.port)
        session = await session_of(caller)
        labelled_device = LabelledDevice(board, label, printed)  # type: ignore[arg-type]
        run = Run(caller, session, client_side_of(PRINTED, session, code=printed), "anna")
        assert labelled_device.printed
        await run.start()
        done = await run.confirm()
        assert done.code == ("4.03" if how == "stores" else "2.04"), "the answer to the right code"


def record_of(store: Store) -> dict[str, Any]:
    record: Any = store.attempts[LABEL_RECORD]
    return dict(record)
