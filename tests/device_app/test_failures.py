"""A full or read-only disk, a power failure, and a pairing port in use."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_app.console.status import health_of
from device_app.limits import LOG_SOURCE_LINES
from device_app.pairing.events import PairingEventKind
from device_app.process.logs import LogLimiter
from device_app.terminal.render_status import status_lines
from iam.errors import StoreWriteFailed
from peer.errors import PeerError
from tests.kit.daemon import HOST
from tests.kit.internals import database_of
from tests.kit.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.device import Caller, Device, Kit


class Disk:
    """A simulated full disk: SQLite refuses to write. Tests of `iam` use a disk that is full."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def fill(self) -> None:
        self._execute("PRAGMA query_only = ON")

    def empty(self) -> None:
        self._execute("PRAGMA query_only = OFF")

    def _execute(self, pragma: str) -> None:
        database_of(self._device.app.access.store).execute(pragma).fetchall()


@pytest.fixture
def disk(device: Device) -> Iterator[Disk]:
    disk = Disk(device)
    yield disk
    disk.empty()


async def test_a_full_disk_prevents_changes_and_is_reported(
    owner: Caller, device: Device, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    before = device.app.access.store.state
    disk.fill()
    for method, path, body in (
        ("POST", "/iam/users", {"name": "anna", "role": "user"}),
        ("iPATCH", "/iam/users/olga", {"display": "Olga"}),
        ("PUT", "/iam/users/olga/keys/" + "ab" * 32, None),
    ):
        answer = await owner.ask(method, path, body)
        assert (answer.code, answer.payload) == ("5.00", b"")
    assert device.app.access.store.state is before
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    status = device.app.status()
    assert "device.db" in status["store"]["trouble"]
    assert any("problem" in line for line in status_lines(status))
    health, code = health_of(status)
    assert (health["healthy"], len(health["problems"]), code) == (False, 1, 1)
    errors = [r for r in caplog.records if r.levelno == logging.ERROR and "stored" in r.message]
    assert len(errors) == 1
    disk.empty()
    assert (await owner.ask("iPATCH", "/iam/users/olga", {"display": "Olga"})).code == "2.04"
    assert device.app.status()["store"]["trouble"] == ""
    assert health_of(device.app.status()) == ({"healthy": True, "problems": []}, 0)


async def test_a_ceremony_does_not_start_if_its_attempt_cannot_be_stored(
    kit: Kit, device: Device, disk: Disk
) -> None:
    caller = kit.caller(device)
    await device.open()
    disk.fill()
    answer = await caller.start("anna")
    assert (answer.code, answer.payload) == ("5.00", b"")
    assert device.app.pairing.ceremonies.pending() is None
    disk.empty()
    assert (await caller.start("anna")).code == "2.01"


async def test_closing_the_window_is_reported_even_if_the_disk_is_full(
    kit: Kit, device: Device, disk: Disk
) -> None:
    """The failure that closes the window cannot be stored: 5.00, and subscribers are notified."""
    caller = kit.caller(device)
    await device.open()
    wrong = {"method": "code", "name": "anna", "round_one": bytes(330)}
    for _ in range(device.app.settings.limits.window_failures - 1):
        assert (await caller.pair_ask("POST", "/pair", wrong)).reason == "wrong-code"
    disk.fill()
    answer = await caller.pair_ask("POST", "/pair", wrong)
    assert (answer.code, answer.payload) == ("5.00", b"")
    assert [
        event.reason for event in device.pairing_events if event.kind is PairingEventKind.CLOSED
    ] == ["failures"]
    assert device.app.pairing.methods.shown_code == ""


async def test_a_user_that_cannot_be_stored_is_not_confirmed(
    kit: Kit, device: Device, disk: Disk
) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    device.decide(accept=True)
    disk.fill()
    answer = await caller.confirm(started)
    assert (answer.code, answer.payload) == ("5.00", b"")
    assert not device.app.access.store.state.users
    state = await caller.pair_ask("GET", f"/pair/{started.body['id']}")
    assert state.body == {"state": "REVOKED"}
    disk.empty()
    stored = [
        event for kind in ("paired", "registered", "window-closed") for event in device.events(kind)
    ]
    assert not stored, "one is not stored without the others"


async def test_the_plain_form_gets_an_error_if_the_disk_is_full(
    kit: Kit, device: Device, disk: Disk
) -> None:
    caller = kit.caller(device)
    await device.open()
    asking = asyncio.create_task(caller.pair_ask("POST", "/pair"))
    await device.event(PairingEventKind.PENDING)
    disk.fill()
    with pytest.raises(StoreWriteFailed):
        device.decide(accept=True)
    answer = await asking
    assert (answer.code, answer.payload) == ("5.00", b"")
    assert not device.app.access.store.state.users


# A module of an application that kills the daemon at a chosen point.
PLUG = """
import os, signal
from device_app.pairing.registration import Registration
from peer.pairing.window import Window

def pull(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

{where} = pull

def resources(board):
    return []
"""


@pytest.mark.parametrize(
    ("where", "is_paired"),
    [
        ("Window.registered", True),  # after the commit, before the answer
        ("Registration.commit", False),  # after the client's proof, before the commit
    ],
)
async def test_device_and_client_agree_after_a_power_failure(
    kit: Kit, where: str, *, is_paired: bool
) -> None:
    folder = kit.home / "modules"
    folder.mkdir(parents=True)
    (folder / "plug.py").write_text(PLUG.format(where=where), encoding="utf-8")
    (kit.home / "device.toml").write_text('[resources]\nmodules = ["plug"]\n', encoding="utf-8")
    daemon = await kit.daemon()
    caller = kit.caller(daemon.port)
    started = await caller.start("anna")
    assert (await daemon.run("accept", started.body["id"])).code == 0
    side = await caller.compare_side(started)
    confirming = asyncio.create_task(
        caller.pair_ask("POST", f"/pair/{started.body['id']}", side.confirm())
    )
    assert (await daemon.ended()).code == -signal.SIGKILL
    confirming.cancel()

    (kit.home / "device.toml").unlink()
    again = await kit.daemon()
    after = kit.caller(again.port, caller.identity)
    me = await after.ask("GET", "/iam/me")
    if is_paired:
        assert (me.code, me.body["user"], me.body["role"]) == ("2.05", "anna", "owner")
        assert again.status["failures"] == 0
    else:
        assert me.reason == "not-paired"
        # The attempt was stored before its first answer.
        assert again.status["failures"] == 1
        assert (await after.start("anna")).code == "2.01"
    with pytest.raises((PeerError, asyncio.CancelledError)):
        await confirming


def test_repeated_log_messages_are_limited() -> None:
    now = [0.0]
    limiter = LogLimiter(monotonic=lambda: now[0])

    def record(line: int) -> logging.LogRecord:
        return logging.LogRecord("x", logging.INFO, "file.py", line, "said", None, None)

    assert sum(limiter.filter(record(1)) for _ in range(1000)) == 5
    assert limiter.filter(record(2))
    now[0] = 11.0
    late = record(1)
    assert limiter.filter(late)
    assert late.getMessage() == "said (and 995 more like this before)"
    assert not [*map(limiter.filter, [record(1)] * 10)][-1]
    for line in range(2, 2 + LOG_SOURCE_LINES):
        limiter.filter(record(line))
    assert limiter.filter(record(1)), "the line that was not used for longest is forgotten"


async def test_a_daemon_runs_if_its_pairing_port_is_in_use(kit: Kit) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        number = next(free_ports(HOST))
        other.bind((HOST, number))
        daemon = await kit.daemon("--pairing-port", str(number))
        unhealthy = await daemon.run("health")
        assert (unhealthy.code, f"port {number}" in unhealthy.out) == (1, True)
        assert any(f"port {number}" in line for line in daemon.log_lines)
        refused = await daemon.run("open", "--no-wait")
        assert (refused.code, f"port {number}" in refused.err) == (1, True)
    assert (await kit.caller(daemon.port).ask("GET", "/hello")).reason == "not-paired"
    assert (await daemon.json("open", "--no-wait"))["window"]["port"] == number
    assert (await daemon.run("health")).code == 0
