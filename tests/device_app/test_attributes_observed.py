"""Policy decisions for each notification of an observation, and the log of a decision."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import aiocoap
import pytest

from device_app.access.bodies import UserPatch
from peer.errors import ObservationEnded
from peer.limits import Limits
from peer.net.client import CoapsClient
from tests.kit.internals import observations_of
from tests.kit.lamps import HALL, start_lamp_device
from tests.kit.sockets import ClientNet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.kit.device import Answer, Kit


pytestmark = pytest.mark.usefixtures("clean_imports")


# --------------------------------------------------------------------------- each notification


async def last_of(readings: AsyncGenerator[Answer, None]) -> Answer:
    """The answer that ends the observation."""
    answer = None
    async with asyncio.timeout(60):
        async for answer in readings:
            if not answer.code.startswith("2"):
                break
    assert answer is not None
    return answer


@pytest.mark.parametrize("made", [False, True], ids=["rendered", "handed over"])
async def test_a_denied_notification_ends_the_observation(kit: Kit, made: bool) -> None:
    device, lamp, caller = await start_lamp_device(kit, HALL)
    async with aclosing(caller.observe("/lamp")) as readings:
        assert (await anext(readings)).code == "2.05"
        lamp.updated_state()
        assert (await anext(readings)).body == "2"
        lamp.values = {"Lamp:Room": "cellar"}
        ready = aiocoap.Message(code=aiocoap.CONTENT, payload=b"secret", content_format=0)
        lamp.updated_state(ready if made else None)
        last = await last_of(readings)
    assert (last.code, last.reason) == ("4.03", "denied")
    assert lamp.rendered == 2
    assert not observations_of(lamp)
    assert device.events("denied")[-1].action == "Lamp:Read"


async def test_an_observation_for_local_clients_ends_when_the_session_is_remote(kit: Kit) -> None:
    """The session becomes remote during the observation, over real DTLS."""
    _, lamp, caller = await start_lamp_device(
        kit, "Allow Lamp:Read if Bool Connection:IsLocal true"
    )
    net = ClientNet()
    caller.client = CoapsClient(caller.identity, limits=Limits(handshake_attempts=1), net=net)
    async with aclosing(caller.observe("/lamp")) as readings:
        assert (await anext(readings)).code == "2.05"
        # After one datagram from another network, the session is remote until its end.
        net.send_with(hop_limit=63)
        refused = await caller.ask("GET", "/lamp")
        net.send_with(hop_limit=255)
        assert refused.reason == "denied"
        lamp.updated_state()
        last = await last_of(readings)
    assert (last.code, last.reason) == ("4.03", "denied")
    assert lamp.rendered == 1


async def test_a_changed_role_ends_the_observation_before_the_next_notification(kit: Kit) -> None:
    device, lamp, caller = await start_lamp_device(kit, HALL)
    async with aclosing(caller.observe("/lamp")) as readings:
        assert (await anext(readings)).code == "2.05"
        device.app.access.registry.set_user(None, "nora", UserPatch(role="guest"))
        lamp.updated_state()
        with pytest.raises(ObservationEnded):
            await last_of(readings)
    device.app.access.registry.set_user(None, "nora", UserPatch(role="neighbour"))


async def test_a_rename_keeps_the_session_and_applies_to_conditions_on_the_name(kit: Kit) -> None:
    """A rename ends no session, as the role keeps its rights; the next decision uses the name."""
    device, lamp, caller = await start_lamp_device(
        kit, "Allow Lamp:Read if StringEquals Connection:Username nora"
    )
    async with aclosing(caller.observe("/lamp")) as readings:
        assert (await anext(readings)).code == "2.05"
        device.app.access.registry.set_user(None, "nora", UserPatch(name="eleonora"))
        assert [session.is_local for session in device.app.server.sessions()] == [True]
        lamp.updated_state()
        assert (await last_of(readings)).reason == "denied"


async def test_the_log_names_the_statement_that_decided(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "handfast.guard")
    _, lamp, caller = await start_lamp_device(
        kit, HALL, "Deny Lamp:Read if StringEquals Lamp:Room cellar"
    )
    await caller.ask("GET", "/lamp")
    lamp.values = {"Lamp:Room": "cellar"}
    await caller.ask("GET", "/lamp")
    messages = [record.getMessage() for record in caplog.records if record.name == "handfast.guard"]
    assert "policy 'of-neighbour', statement 1: Allow Lamp:Read" in messages[0]
    assert messages[-1].startswith("refused nora:")
    assert "policy 'of-neighbour', statement 2: Deny Lamp:Read" in messages[-1]
