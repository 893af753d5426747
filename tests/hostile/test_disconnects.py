"""A client that disconnects at any step leaves nothing behind.

It sends close_notify, or only stops responding, as if the cable were cut. Afterwards there is no
ceremony, session, timer or task; the attempt is counted; and the next client can pair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from device_app.pairing.events import PairingEventKind
from peer.errors import PeerError
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.testing import Proxy
from tests.kit.device import LONG_WINDOW, STEP_OVER_SECONDS, fixed_port
from tests.kit.internals import (
    endpoint_of,
    half_open,
    incoming_requests,
    layer_of,
    observations_of,
    unacknowledged,
)
from tests.kit.waiting import skip_time

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

LIMITS = replace(LONG_WINDOW, unpaired_kept_seconds=0)
Step = Callable[["Caller", "Device"], Awaitable[None]]


async def after_the_handshake(caller: Caller, _device: Device) -> None:
    await caller.connect(pairing=True)


async def after_the_offer(caller: Caller, _device: Device) -> None:
    await caller.pair_ask("GET", "/pair")


async def after_an_incomplete_body(caller: Caller, _device: Device) -> None:
    answer = await caller.pair_ask("POST", "/pair", raw=bytes(64), block1=(0, True, 2))
    assert answer.code == "2.31"


async def after_the_start(caller: Caller, _device: Device) -> None:
    assert (await caller.start("anna")).code == "2.01"


async def while_observing(caller: Caller, _device: Device) -> None:
    started = await caller.start("anna")
    await anext(caller.observe(f"/pair/{started.body['id']}", pairing=True))


async def after_the_device_accepted(caller: Caller, device: Device) -> None:
    await caller.start("anna")
    device.decide(accept=True)


async def after_a_wrong_tag(caller: Caller, device: Device) -> None:
    started = await caller.start("anna")
    device.decide(accept=True)
    assert (await caller.send_tag(started, bytes(32))).reason == "wrong-code"


async def during_the_plain_form(caller: Caller, device: Device) -> None:
    caller.asking = asyncio.create_task(caller.pair_ask("POST", "/pair"))  # type: ignore[attr-defined]
    await device.event(PairingEventKind.PENDING)


#: Each step, and whether a ceremony exists then, so that its end counts as an attempt.
STEPS: dict[Step, bool] = {
    after_the_handshake: False,
    after_the_offer: False,
    after_an_incomplete_body: False,
    after_the_start: True,
    while_observing: True,
    after_the_device_accepted: True,
    after_a_wrong_tag: True,
    during_the_plain_form: True,
}


async def no_state_left(device: Device) -> None:
    """Wait until no session, ceremony, timer, observation or incomplete body is left."""
    await device.until(lambda: not device.app.status()["sessions"])
    assert device.app.pairing.ceremonies.pending() is None
    server = device.app.pairing.port.server
    if server is not None:
        _endpoint, layer = endpoint_of(server), layer_of(server)
        assert not half_open(server)
        assert not layer.remotes
        assert not unacknowledged(server)
        assert not incoming_requests(server)
    pair: Any = device.app.pairing.port.site.paths()["pair",]
    await device.until(lambda: not observations_of(pair))


async def another_client_pairs(kit: Kit, device: Device) -> None:
    await device.closed()
    await device.open(role="user", clears_backoff=True)
    caller = kit.caller(device)
    started = await caller.start("berta")
    device.decide(accept=True)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"
    assert list(device.users.users) == ["berta"]


@pytest.mark.parametrize("silent", [False, True], ids=["close_notify", "silent"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_a_disconnecting_client_leaves_no_state(kit: Kit, step: Step, silent: bool) -> None:
    device = await kit.device(limits=LIMITS)
    await device.open(role="user")
    tasks = asyncio.all_tasks()
    proxy = await Proxy.start(Address("127.0.0.1", device.port(pairing=True)))
    caller = kit.caller(device)
    caller.port = fixed_port(proxy.address.port)
    await step(caller, device)
    if silent:
        proxy.cut()
        skip_time(STEP_OVER_SECONDS)
        # No other client connects, so the window closes by itself.
        if STEPS[step]:
            await device.event(PairingEventKind.ENDED)
        await device.closed()
    await caller.client.close()
    if hasattr(caller, "asking"):
        with suppress(PeerError):
            await caller.asking
    if STEPS[step]:
        ended = await device.event(PairingEventKind.ENDED)
        assert ended.ceremony is not None
        assert ended.ceremony.state in {"REVOKED", "EXPIRED", "REFUSED"}
        assert device.app.pairing.budget.failures == 1
        assert device.app.access.store.attempts["pairing"]["failures"] == 1  # type: ignore[index]
    else:
        assert device.app.pairing.budget.failures == 0
    await no_state_left(device)
    assert not device.users.users
    await device.until(lambda: not asyncio.all_tasks() - tasks)
    proxy.close()
    await another_client_pairs(kit, device)


async def test_a_silent_session_does_not_hold_a_slot_of_the_pairing_port(kit: Kit) -> None:
    """The pairing port has two slots here. A session with a ceremony keeps its slot."""
    device = await kit.device(limits=replace(LIMITS, unpaired_sessions=2))
    await device.open(role="user")
    silent = [kit.caller(device) for _ in range(5)]
    for caller in silent:
        await caller.connect(pairing=True)
        assert len(device.sessions("pairing")) <= 2
    honest = kit.caller(device)
    started = await honest.start("anna")
    assert started.code == "2.01"
    for caller in silent:
        await caller.connect(pairing=True, fresh=True)
    assert honest.fingerprint in {one["fingerprint"] for one in device.sessions("pairing")}
    device.decide(accept=True)
    assert (await honest.send_tag(started, honest.tags(started).client_tag)).code == "2.04"


async def test_an_idle_session_of_an_unknown_key_is_closed_and_an_owners_is_kept(kit: Kit) -> None:
    """The path of the unknown client is cut, so no close_notify arrives."""
    device = await kit.device()
    owner, unknown = kit.known(device, "olga", "owner"), kit.caller(device)
    await owner.ask("GET", "/hello")
    proxy = await Proxy.start(Address("127.0.0.1", device.port(pairing=False)))
    unknown.port = fixed_port(proxy.address.port)
    assert (await unknown.ask("GET", "/hello")).code == "4.03"
    proxy.cut()
    assert len(device.sessions("regular")) == 2
    skip_time(DEFAULT_LIMITS.unpaired_idle_seconds)
    await device.until(lambda: len(device.sessions("regular")) == 1)
    assert [one["user"] for one in device.sessions("regular")] == ["olga"]
    assert device.counters()["sessions-idle"] == 1
    assert (await owner.connect()).is_open
    proxy.close()


async def test_a_ceremony_ends_with_its_session_even_if_the_key_has_another_one(
    kit: Kit,
) -> None:
    device = await kit.device(limits=LIMITS)
    await device.open(role="user")
    caller = kit.caller(device)
    first = await caller.connect(pairing=True)
    await caller.start("anna")
    await caller.connect(pairing=True, fresh=True)
    await first.close()
    ended = await device.event(PairingEventKind.ENDED)
    assert ended.ceremony is not None
    assert ended.ceremony.state == "REVOKED"
    assert (await caller.start("anna")).code == "2.01"


async def test_closing_the_daemon_ends_all_connections_and_leaves_no_task(kit: Kit) -> None:
    tasks = asyncio.all_tasks()
    device = await kit.device(limits=LIMITS)
    owner = kit.known(device, "olga", "owner")
    await owner.ask("GET", "/hello")
    await device.open(role="user")
    caller = kit.caller(device)
    await caller.start("anna")
    connections = [await owner.connect(), await caller.connect(pairing=True)]
    await device.app.close()
    await device.until(lambda: not any(one.is_open for one in connections))
    await device.until(lambda: not asyncio.all_tasks() - tasks)
