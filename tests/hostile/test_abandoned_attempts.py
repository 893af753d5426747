"""An attacker who begins a ceremony and abandons it has spent an attempt, whatever the way.

Otherwise an attempt would be free: in `sas` a man in the middle learns the device's number and
continues only if it is the one of his other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peer.pairing.methods import Method
from tests.kit.device import LINGERING
from tests.kit.methods import PRINTED, Run, add_label, open_window

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

WAYS = [Method.CODE, PRINTED, Method.LABEL, Method.SAS, Method.COMPARE]


async def abandon(device: Device, run: Run, how: str) -> None:
    if how == "deletes":
        assert (await run.caller.pair_ask("DELETE", run.path)).code == "2.02"
    elif how == "disconnects":
        await run.caller.disconnect(pairing=True)
        await device.until(lambda: device.app.pairing.window.pending() is None)  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["deletes", "disconnects", "starts again"])
@pytest.mark.parametrize("steps", ["start", "exchange"])
@pytest.mark.parametrize("way", WAYS)
async def test_each_abandoned_ceremony_is_an_attempt(
    kit: Kit, way: str, steps: str, how: str
) -> None:
    device = await kit.device(limits=LINGERING)
    labelled = add_label(device)
    await open_window(device, way)
    mallory = kit.caller(device)
    for turn in range(1, 4):
        run = await Run.of(mallory, labelled, way)
        assert (await run.start()).code == "2.01"
        if steps == "exchange":
            await run.exchange()
        assert device.app.pairing.budget.failures == turn  # debited before the answer
        await abandon(device, run, how)
    assert device.app.pairing.budget.failures == 3
    last = await Run.of(mallory, labelled, way) if device.app.pairing.is_open else None
    if last is not None:  # it starts again, which ends the third ceremony and closes the window
        assert how == "starts again"
        assert (await last.start()).reason == "too-many"
    assert not device.app.pairing.is_open
    assert device.app.pairing.budget.failures == 3


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_without_a_start_is_no_attempt(kit: Kit, way: str) -> None:
    """A person who gives up before anything was tried has lost nothing."""
    device = await kit.device(limits=LINGERING)
    labelled = add_label(device)
    await open_window(device, way)
    for _ in range(4):
        caller = kit.caller(device)
        await Run.of(caller, labelled, way)
        assert (await caller.pair_ask("GET", "/pair")).code == "2.05"
        await caller.disconnect(pairing=True)
    assert device.app.pairing.is_open
    assert device.app.pairing.budget.failures == 0
