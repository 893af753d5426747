"""A client whose session the device gives up before the ceremony starts, while its user types.

Strangers can take the few places of the pairing port. Nothing is counted then, so the client
connects again by itself, to the same key, and says so.
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
from peer.net.onlink import Locality, LocalMode
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.methods import Method
from peer.testing import Proxy
from tests.kit.device import HASTY
from tests.kit.methods import HOST, PRINTED, LabelledDevice, client_at, labelled, opened

if TYPE_CHECKING:
    from pathlib import Path

    from client_app import Client
    from peer.net.connection import CoapsConnection
    from tests.kit.device import Device, Kit

QUICK = replace(HASTY, handshake_again_seconds=0.5)  # how long a lost goodbye is waited for


@pytest.fixture
def bearer(device: Device) -> LabelledDevice:
    return labelled(device)


@pytest.fixture
def client(kit: Kit, tmp_path: Path) -> Client:
    return client_at(kit, tmp_path, limits=HASTY)


def push_out(device: Device) -> int:
    """What other clients do to a session that has no ceremony yet."""
    return device.app.pairing.port.end_sessions(lambda _key: True)


def starts(device: Device) -> int:
    """How many ceremonies the device has counted."""
    trail = device.app.access.store.audit
    return [record.event.kind for record in trail.iterate()].count("ceremony-started")


@pytest.mark.parametrize("way", [Method.CODE, PRINTED])
@pytest.mark.parametrize("times", [1, 3])
async def test_who_types_a_code_pairs_though_the_session_was_pushed_out(
    device: Device,
    bearer: LabelledDevice,
    client: Client,
    way: str,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await opened(device, way)
    notes: list[str] = []
    code = bearer.code_for(way)

    async def typed() -> str:
        assert push_out(device) == 1
        return code

    connect, connected = client.connector.connect_at, 0

    async def connect_at(*args: Any, **named: Any) -> CoapsConnection:
        nonlocal connected
        connected += 1
        found = await connect(*args, **named)
        if connected < times:  # this one as well, before it has said anything
            push_out(device)
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
    assert len(notes) == connected == times
    assert all("reconnecting" in note for note in notes)
    assert starts(device) == 1
    assert list(device.users.users) == ["anna"]


async def test_also_where_the_goodbye_of_the_device_was_lost(
    kit: Kit, device: Device, bearer: LabelledDevice, tmp_path: Path
) -> None:
    client = client_at(kit, tmp_path, limits=QUICK)
    await opened(device, Method.CODE)
    proxy = await Proxy.start(Address(HOST, device.port(pairing=True)))
    notes: list[str] = []
    code = bearer.shown

    async def typed() -> str:
        lost: list[bytes] = []
        home = proxy._first()[2]
        home.carry = lost.append  # type: ignore[method-assign,assignment]
        push_out(device)
        await device.until(lambda: lost)
        del home.carry  # the path is as it was
        return code

    try:
        done = await client.pair(
            str(proxy.address), name="anna", method=Method.CODE, code=typed, on_note=notes.append
        )
    finally:
        proxy.close()
    assert done.device.user == "anna"
    assert notes
    assert starts(device) == 1


async def test_who_finds_the_device_full_waits_until_others_make_way(
    kit: Kit, tmp_path: Path
) -> None:
    """The one place is a stranger's when the client comes back, and has been for no time."""
    limits = replace(HASTY, unpaired_sessions=1, unpaired_kept_seconds=1.0)
    device = await kit.device(limits=limits)
    bearer, stranger = labelled(device), kit.caller(device)
    client = client_at(kit, tmp_path, limits=limits)
    await opened(device, Method.CODE)
    code = bearer.shown

    async def typed() -> str:
        push_out(device)
        await stranger.connect(pairing=True)
        return code

    at = f"{HOST}:{device.port(pairing=True)}"
    done = await client.pair(at, name="anna", method=Method.CODE, code=typed)
    assert done.device.user == "anna"
    assert starts(device) == 1


async def test_a_session_that_stands_is_kept(
    device: Device, bearer: LabelledDevice, client: Client
) -> None:
    await opened(device, Method.CODE)
    before = device.app.pairing.port.server
    assert before is not None
    notes: list[str] = []
    at = f"{HOST}:{device.port(pairing=True)}"
    await client.pair(at, name="anna", code=bearer.shown, method="code", on_note=notes.append)
    assert notes == []
    assert before.counters["handshakes"] == 1


async def test_a_window_that_closes_meanwhile_is_told_as_that(
    device: Device, bearer: LabelledDevice, client: Client
) -> None:
    await opened(device, Method.CODE)
    code, at = bearer.shown, f"{HOST}:{device.port(pairing=True)}"

    async def typed() -> str:
        await device.closed()
        return code

    with pytest.raises(WindowClosed):
        await client.pair(at, method=Method.CODE, code=typed)
    assert not client.devices


async def test_another_device_that_answers_meanwhile_gets_nothing(
    kit: Kit, device: Device, bearer: LabelledDevice, client: Client
) -> None:
    """The code is for the key that made the offer, even if another host gets its address."""
    await opened(device, Method.CODE)
    code, port = bearer.shown, device.port(pairing=True)
    heard: list[object] = []

    async def typed() -> str:
        await device.closed()
        server = await CoapsServer.start(
            GuardedSite(authorise=lambda *request: heard.append(request), limits=QUICK),
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
    assert heard == []
    assert not client.devices


async def test_it_does_not_try_for_ever(
    device: Device, bearer: LabelledDevice, client: Client
) -> None:
    await opened(device, Method.CODE)
    notes: list[str] = []
    code = bearer.shown
    pushing: list[asyncio.Task[None]] = []

    async def push_all() -> None:
        while True:
            push_out(device)
            await asyncio.sleep(0)

    async def typed() -> str:
        pushing.append(asyncio.ensure_future(push_all()))
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
        for task in pushing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert 1 <= len(notes) <= 3
    assert starts(device) == 0
    assert not client.devices
    assert device.app.pairing.budget.failures == 0
