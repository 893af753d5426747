"""The session of a client is evicted while its user types, before the ceremony starts.

Unknown clients can take the few slots of the pairing port. No attempt has been counted then, so the
client reconnects to the same key and reports that.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from peer.errors import PinMismatch, Unreachable, WindowClosed
from peer.identity import Identity
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.methods import Method
from peer.testing import Proxy
from tests.kit.device import HASTY
from tests.kit.methods import HOST, PRINTED, LabelledDevice, add_label, client_at, open_window

if TYPE_CHECKING:
    from pathlib import Path

    from client_app import Client
    from peer.net.connection import CoapsConnection
    from tests.kit.device import Device, Kit

QUICK = replace(
    HASTY, handshake_again_seconds=0.5
)  # the time until a lost close_notify is detected


@pytest.fixture
def labelled_device(device: Device) -> LabelledDevice:
    return add_label(device)


@pytest.fixture
def client(kit: Kit, tmp_path: Path) -> Client:
    return client_at(kit, tmp_path, limits=HASTY)


def evict_all(device: Device) -> int:
    """Evict the sessions of the pairing port, as new clients do while there is no ceremony."""
    return device.app.pairing.port.end_sessions(lambda _key: True)


def ceremonies_started(device: Device) -> int:
    """The number of ceremonies in the audit trail."""
    trail = device.app.access.store.audit
    return [record.event.kind for record in trail.iterate()].count("ceremony-started")


@pytest.mark.parametrize("way", [Method.CODE, PRINTED])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_client_evicted_while_its_user_types_reconnects_and_pairs(
    device: Device,
    labelled_device: LabelledDevice,
    client: Client,
    way: str,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await open_window(device, way)
    notes: list[str] = []
    code = labelled_device.code_for(way)

    async def typed() -> str:
        assert evict_all(device) == 1
        return code

    connect, connected = client.connector.connect_at, 0

    async def connect_at(*args: Any, **named: Any) -> CoapsConnection:
        nonlocal connected
        connected += 1
        found = await connect(*args, **named)
        if connected < times:  # evict this session too, before its first request
            evict_all(device)
        return found

    monkeypatch.setattr(client.connector, "connect_at", connect_at)
    done = await client.pair(
        f"{HOST}:{device.port(pairing=True)}",
        name="anna",
        method=Method.CODE,
        code=typed,
        on_note=notes.append,
    )
    assert (done.device.user, done.method) == ("anna", Method.CODE)
    assert len(notes) == times
    await client.close()
    assert connected == times + 1, "the last one asks for the remote settings"
    assert all("reconnecting" in note for note in notes)
    assert ceremonies_started(device) == 1
    assert list(device.users.users) == ["anna"]


async def test_an_evicted_client_reconnects_if_the_close_notify_was_lost(
    kit: Kit, device: Device, labelled_device: LabelledDevice, tmp_path: Path
) -> None:
    client = client_at(kit, tmp_path, limits=QUICK)
    await open_window(device, Method.CODE)
    is_losing = False
    lost: list[bytes] = []

    def lose(data: bytes) -> bytes | None:
        if is_losing:
            lost.append(data)
        return None if is_losing else data

    proxy = await Proxy.start(Address(HOST, device.port(pairing=True)), to_client=lose)
    notes: list[str] = []
    code = labelled_device.shown

    async def typed() -> str:
        nonlocal is_losing
        is_losing = True
        evict_all(device)
        await device.until(lambda: lost)
        is_losing = False
        return code

    try:
        done = await client.pair(
            str(proxy.address), name="anna", method=Method.CODE, code=typed, on_note=notes.append
        )
    finally:
        proxy.close()
    assert done.device.user == "anna"
    assert notes
    assert ceremonies_started(device) == 1


async def test_an_evicted_client_retries_until_a_slot_is_free(kit: Kit, tmp_path: Path) -> None:
    """An unknown client has the only slot when the client reconnects, and keeps it for a second."""
    limits = replace(HASTY, unpaired_sessions=1, unpaired_kept_seconds=1.0)
    device = await kit.device(limits=limits)
    labelled_device, unknown = add_label(device), kit.caller(device)
    client = client_at(kit, tmp_path, limits=limits)
    await open_window(device, Method.CODE)
    code = labelled_device.shown

    async def typed() -> str:
        evict_all(device)
        await unknown.connect(pairing=True)
        return code

    at = f"{HOST}:{device.port(pairing=True)}"
    done = await client.pair(at, name="anna", method=Method.CODE, code=typed)
    assert done.device.user == "anna"
    assert ceremonies_started(device) == 1


async def test_a_session_that_was_not_evicted_is_not_replaced(
    device: Device, labelled_device: LabelledDevice, client: Client
) -> None:
    await open_window(device, Method.CODE)
    before = device.app.pairing.port.server
    assert before is not None
    notes: list[str] = []
    at = f"{HOST}:{device.port(pairing=True)}"
    await client.pair(
        at, name="anna", code=labelled_device.shown, method="code", on_note=notes.append
    )
    assert notes == []
    assert before.counters["handshakes"] == 1


async def test_a_window_that_closes_while_the_user_types_is_reported(
    device: Device, labelled_device: LabelledDevice, client: Client
) -> None:
    await open_window(device, Method.CODE)
    code, at = labelled_device.shown, f"{HOST}:{device.port(pairing=True)}"

    async def typed() -> str:
        await device.closed()
        return code

    with pytest.raises(WindowClosed):
        await client.pair(at, method=Method.CODE, code=typed)
    assert not client.devices


async def test_a_reconnect_to_another_key_is_refused_before_any_request(
    kit: Kit, device: Device, labelled_device: LabelledDevice, client: Client
) -> None:
    """The code is sent only to the key of the offer, even if another host takes the address."""
    await open_window(device, Method.CODE)
    code, port = labelled_device.shown, device.port(pairing=True)
    received: list[object] = []

    async def typed() -> str:
        await device.closed()
        server = await CoapsServer.start(
            GuardedSite(authorise=lambda *request: received.append(request), limits=QUICK),
            identity=Identity.create(),
            listen=[(HOST, port)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            priority=lambda _key: SessionPriority.NORMAL,
            pairing=True,
        )
        kit.at_end(server.close)
        return code

    with pytest.raises(PinMismatch):
        await client.pair(f"{HOST}:{port}", method=Method.CODE, code=typed)
    assert received == []
    assert not client.devices


async def test_the_number_of_reconnects_is_bounded(
    device: Device, labelled_device: LabelledDevice, client: Client
) -> None:
    await open_window(device, Method.CODE)
    notes: list[str] = []
    code = labelled_device.shown
    evictions: list[asyncio.Task[None]] = []

    async def evict_repeatedly() -> None:
        while True:
            evict_all(device)
            await asyncio.sleep(0)

    async def typed() -> str:
        evictions.append(asyncio.ensure_future(evict_repeatedly()))
        return code

    try:
        with pytest.raises(Unreachable):
            await client.pair(
                f"{HOST}:{device.port(pairing=True)}",
                method=Method.CODE,
                code=typed,
                on_note=notes.append,
            )
    finally:
        for task in evictions:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert 1 <= len(notes) <= 3
    assert ceremonies_started(device) == 0
    assert not client.devices
    assert device.app.pairing.budget.failures == 0
