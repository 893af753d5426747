"""A device that has no session left for a key: the client says so, waits and tries again."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from client_app import session as session_module
from client_app.limits import SESSION_REFUSALS
from client_app.session import DeviceSession
from peer.errors import RequestFailed
from peer.identity import Identity
from peer.limits import Limits
from peer.net.client import CoapsClient
from peer.net.problem import refused_session_seconds
from tests.kit.serve import Servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peer.net.connection import CoapsConnection
    from tests.kit.serve import Served


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace Max-Age by a short time; returns what the device asked for."""
    asked: list[float] = []

    def seconds(message: aiocoap.Message) -> float | None:
        if (wanted := refused_session_seconds(message)) is None:
            return None
        asked.append(wanted)
        return 0.01

    monkeypatch.setattr(session_module, "refused_session_seconds", seconds)
    return asked


class Scene:
    """A device with one session per key, which another program holds."""

    def __init__(self, served: Served, client: CoapsClient, held: CoapsConnection) -> None:
        self.served, self.client, self.held = served, client, held
        self.connected = 0

    async def connect(self) -> CoapsConnection:
        self.connected += 1
        return await self.client.connect(self.served.address, pinned=None)

    async def session(self) -> DeviceSession:
        return DeviceSession("kitchen", await self.connect(), reconnect=self.connect)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    servers = Servers(Identity.create())
    served = await servers.start(limits=Limits(sessions_per_key=1))
    async with CoapsClient(Identity.create()) as client:
        yield Scene(served, client, await client.connect(served.address, pinned=None))
    await servers.close()


async def test_a_request_succeeds_when_a_session_is_free(
    scene: Scene, caplog: pytest.LogCaptureFixture, short_waits: list[float]
) -> None:
    session = await scene.session()

    ended: list[asyncio.Task[None]] = []

    class Frees(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            ended.append(asyncio.create_task(scene.held.close()))

    handler = Frees()
    logging.getLogger("client_app.session").addHandler(handler)
    try:
        reply = await session.request(Code.POST, "/echo", b"once")
    finally:
        logging.getLogger("client_app.session").removeHandler(handler)
    assert reply.payload == b"once"
    assert scene.served.echo.served == 1
    assert "kitchen has no session left for this key" in caplog.text
    assert short_waits == [10.0]


async def test_a_request_fails_with_the_reason_if_none_becomes_free(scene: Scene) -> None:
    session = await scene.session()
    with pytest.raises(RequestFailed) as caught:
        await session.request(Code.GET, "/echo")
    assert caught.value.reason == "too-many-sessions"
    assert scene.connected <= SESSION_REFUSALS + 1
    assert scene.held.is_open


async def test_an_observation_waits_and_then_fails_with_the_reason(scene: Scene) -> None:
    session = await scene.session()
    with pytest.raises(RequestFailed) as caught:
        await anext(session.observe("/value"))
    assert caught.value.reason == "too-many-sessions"
    assert scene.connected == SESSION_REFUSALS + 1
    assert scene.held.is_open
