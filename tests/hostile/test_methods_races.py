"""A second client in the same window, and clients that disconnect, for each method."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from device_app.pairing.events import PairingEventKind
from device_app.pairing.terms import PairingTerms
from peer.net.address import Address
from peer.pairing.ceremony import OverlapRule, State
from peer.pairing.errors import Mismatch
from peer.pairing.methods import Method
from peer.testing import Proxy
from tests.kit.device import LINGERING, LONG_WINDOW, STEP_OVER_SECONDS, fixed_port
from tests.kit.methods import WAYS, Run, add_label, method_of, open_window, paired
from tests.kit.waiting import skip_time

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


# -- a second key ---------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["at the start", "at the last step"])
@pytest.mark.parametrize("racer", WAYS)
@pytest.mark.parametrize("way", WAYS)
async def test_if_two_keys_start_in_one_window_neither_is_stored(
    kit: Kit, way: str, racer: str, late: bool
) -> None:
    """For each pair of methods: the second client needs no valid proof to be detected."""
    device = await kit.device(limits=LINGERING)
    labelled_device = add_label(device)
    await open_window(device, Method.BUTTON)  # this window offers all methods
    anna, eve = kit.caller(device), kit.caller(device)
    run = await Run.of(anna, labelled_device, way)
    await run.start()
    if late:
        await run.exchange()
        if device.app.pairing.ceremonies.pending() is not None:
            device.decide(accept=True)
    guess = labelled_device.code_for(racer) and labelled_device.wrong_code_for(racer)
    answer = await (await Run.of(eve, labelled_device, racer, code=guess, name="eve")).start()
    assert (answer.code, answer.reason) == ("4.03", "refused")
    if not late and way == Method.SAS:
        with pytest.raises((KeyError, Mismatch)):
            await run.exchange()
        assert run.got[-1].reason == "refused"
    else:
        assert (await run.confirm()).reason == "refused"
    assert not device.users.users
    assert not device.app.pairing.is_open
    assert not labelled_device.shown
    [event] = [
        one.event for one in device.app.access.store.audit.iterate() if one.event.kind == "overlap"
    ]
    assert event.fingerprint == anna.fingerprint
    assert eve.fingerprint in event.detail


async def test_with_the_rule_first_wins_an_attacker_can_pair_by_the_button(kit: Kit) -> None:
    """The defence removed by a setting: the attacker only has to be faster."""
    device = await kit.device(terms=PairingTerms(overlap=OverlapRule.FIRST_WINS))
    labelled_device = add_label(device)
    await open_window(device, Method.BUTTON)
    anna, eve = kit.caller(device), kit.caller(device)
    run = await Run.of(eve, labelled_device, Method.BUTTON, name="eve")
    await run.start()
    late = await (await Run.of(anna, labelled_device, Method.BUTTON)).start()
    assert (late.code, late.reason) == ("5.03", "busy")
    assert (await run.confirm()).code == "2.04"
    assert list(device.users.users) == ["eve"]


# -- disconnects --------------------------------------------------------------------------------


async def after_the_start(run: Run, _device: Device) -> None:
    await run.start()


async def after_the_exchange(run: Run, _device: Device) -> None:
    await run.run_to_decision()


async def after_the_device_accepted(run: Run, device: Device) -> None:
    await run.run_to_decision()
    device.decide(accept=True)


async def after_a_wrong_confirmation(run: Run, device: Device) -> None:
    await run.run_to_decision()
    if device.app.pairing.ceremonies.pending() is not None:
        device.decide(accept=True)
    assert (await run.confirm(confirm=bytes(32))).reason == "wrong-code"


Step = Callable[[Run, "Device"], Any]
STEPS: list[tuple[str, Step]] = [
    *((way, after_the_start) for way in WAYS),
    (Method.SAS, after_the_exchange),
    *((way, after_the_device_accepted) for way in (Method.SAS, Method.COMPARE)),
    *((way, after_a_wrong_confirmation) for way in WAYS),
]


@pytest.mark.parametrize("silent", [False, True], ids=["close_notify", "silent"])
@pytest.mark.parametrize(
    ("way", "step"), STEPS, ids=[f"{way}-{step.__name__}" for way, step in STEPS]
)
async def test_a_disconnecting_client_leaves_no_state(
    kit: Kit, way: str, step: Step, silent: bool
) -> None:
    device = await kit.device(limits=LONG_WINDOW)
    labelled_device = add_label(device)
    await open_window(device, way)
    tasks = asyncio.all_tasks()
    proxy = await Proxy.start(Address("127.0.0.1", device.port(pairing=True)))
    caller = kit.caller(device)
    caller.port = fixed_port(proxy.address.port)
    run = await Run.of(caller, labelled_device, way)
    shown = labelled_device.shown
    await step(run, device)
    if silent:
        proxy.cut()
    await caller.close()
    if silent:
        skip_time(STEP_OVER_SECONDS)
    ended = await device.event(PairingEventKind.ENDED)
    assert ended.ceremony is not None
    assert ended.ceremony.state in {State.REVOKED, State.EXPIRED, State.REFUSED}
    assert device.app.pairing.budget.failures == 1
    if method_of(way) == Method.CODE and device.app.pairing.is_open:
        assert labelled_device.shown not in {shown, ""}
    if silent:  # the device cannot detect it, but the session ends with the window
        await device.closed()
    await device.until(lambda: not device.app.status()["sessions"])
    await device.closed()
    assert device.app.pairing.ceremonies.pending() is None
    assert not labelled_device.shown
    assert not device.users.users
    await device.until(lambda: not asyncio.all_tasks() - tasks)
    proxy.close()
    await open_window(device, way)
    await paired(kit.caller(device), labelled_device, way, name="berta")
    assert list(device.users.users) == ["berta"]
