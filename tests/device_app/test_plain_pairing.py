"""Pairing in the plain form over real UDP and DTLS (protocol §5.7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from device_app.pairing.events import PairingEventKind

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


async def test_the_plain_form_is_answered_after_the_users_decision(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    await device.open()
    asking = asyncio.create_task(caller.pair_ask("POST", "/pair"))
    pending = await device.event(PairingEventKind.PENDING)
    assert pending.ceremony is not None
    assert not asking.done()
    device.decide(accept=True)
    answer = await asking
    name = f"client-{caller.identity.fingerprint.device_id.lower()}"
    assert (answer.code, answer.body) == ("2.04", f"paired as {name} with role owner")
    assert (await caller.ask("GET", "/hello")).code == "2.05"


async def test_a_refused_plain_form_with_a_name_registers_no_user(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    asking = asyncio.create_task(caller.pair_ask("POST", "/pair?name=coap-anna"))
    pending = await device.event(PairingEventKind.PENDING)
    assert pending.ceremony is not None
    assert pending.ceremony.name == "coap-anna"
    device.decide(accept=False)
    answer = await asking
    assert (answer.code, answer.reason) == ("4.03", "refused")
    assert not device.app.access.store.state.users


async def test_closing_the_window_refuses_the_waiting_client(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    asking = asyncio.create_task(caller.pair_ask("POST", "/pair"))
    await device.event(PairingEventKind.PENDING)
    device.app.pairing.close_window()
    assert (await asking).reason == "refused"
