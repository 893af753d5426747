"""Limits of the window: time, failures and back-off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_app.access.bodies import UserRequest
from device_app.pairing.events import PairingEventKind
from peer.limits import DEFAULT_LIMITS
from tests.kit.waiting import stop_time

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

FAST = replace(DEFAULT_LIMITS, window_linger_seconds=0.3)
LINGERING = replace(DEFAULT_LIMITS, window_linger_seconds=3600)  # longer than any test takes


async def test_a_default_window_for_an_owner_closes_when_an_owner_is_added(
    device: Device,
) -> None:
    await device.open()
    body = {"name": "bob", "role": "owner", "keys": ["ab" * 32]}
    device.app.access.registry.add_user(None, UserRequest.parse_untrusted(body).user(0.0))
    assert not device.app.pairing.is_open


async def test_opening_again_extends_the_window_without_adding_the_times(device: Device) -> None:
    stop_time()
    await device.open(seconds=100)
    port = device.app.pairing.port.number
    await device.open(seconds=50)
    assert device.app.pairing.seconds_left == pytest.approx(100)
    await device.open(seconds=150)
    assert device.app.pairing.seconds_left == pytest.approx(150)
    assert device.app.pairing.port.number == port
    await device.open(seconds=1e6)
    assert device.app.pairing.seconds_left == pytest.approx(900)


async def test_the_window_closes_when_its_time_is_up(device: Device) -> None:
    await device.open(seconds=0.2)
    assert (await device.event(PairingEventKind.CLOSED)).reason == "time"
    await device.port_closed()


async def test_three_failures_close_the_window(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING)
    caller = kit.caller(device)
    await device.open()
    for _ in range(3):
        assert (await caller.start("anna")).code == "2.01"
        device.decide(accept=False)
    assert (await device.event(PairingEventKind.CLOSED)).reason == "failures"
    assert (await caller.start("anna")).reason == "window-closed"


async def test_a_back_off_survives_a_restart_and_is_cleared_at_the_console(kit: Kit) -> None:
    device = await kit.device()
    caller = kit.caller(device)
    for failure in range(10):
        if not device.app.pairing.is_open:
            await device.open()
        if failure == 9:
            assert device.app.access.store.attempts["pairing"]["failures"] == 9  # type: ignore[index]
        assert (await caller.start("anna")).code == "2.01"
        device.decide(accept=False)
    await device.open()
    locked = await caller.start("anna")
    assert (locked.code, locked.reason) == ("4.29", "locked-out")
    assert 0 < (locked.message.opt.max_age or 0) <= 30
    await device.app.close()

    device = await kit.device()
    assert device.app.pairing.budget.failures == 10
    caller = kit.caller(device)
    await device.open()
    assert (await caller.start("anna")).reason == "locked-out"
    await device.open(clears_backoff=True)
    assert (await caller.start("anna")).code == "2.01"
    assert device.events("back-off-cleared")


async def test_an_attempt_is_stored_before_the_first_answer(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    await caller.start("anna")
    assert device.app.access.store.attempts["pairing"]["failures"] == 1  # type: ignore[index]
    device.decide(accept=False)
    started = await caller.start("anna")
    device.decide(accept=True)
    await caller.confirm(started)
    assert device.app.access.store.attempts["pairing"]["failures"] == 0  # type: ignore[index]
