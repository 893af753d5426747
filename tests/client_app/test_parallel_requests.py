"""Many requests of one client at the same time, and devices that are busy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code

from client_app.session import DeviceSession
from peer.errors import DeviceFailed, PeerError, RequestFailed, TimedOut
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.client import CoapsClient
from tests.kit.serve import Servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peer.net.connection import CoapsConnection

MOST = DEFAULT_LIMITS.requests_per_session


class Slow(aiocoap.resource.Resource):
    """Answers when the gate opens; counts the requests that it works on at the same time."""

    def __init__(self, full: int = MOST) -> None:
        super().__init__()
        self.full = full
        self.gate = asyncio.Event()
        self.working = self.most = 0
        self.is_full = asyncio.Event()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.working += 1
        self.most = max(self.most, self.working)
        if self.working == self.full:
            self.is_full.set()
        await self.gate.wait()
        self.working -= 1
        return aiocoap.Message(payload=b"done")

    render_post = render_get


class Busy(aiocoap.resource.Resource):
    """Refuses some requests with a code and a Max-Age, and answers the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 0
        self.code = Code.TOO_MANY_REQUESTS
        self.max_age: int | None = 0
        self.requests: list[Code] = []

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        self.requests.append(request.code)
        if self.refusals:
            self.refusals -= 1
            return aiocoap.Message(code=self.code, max_age=self.max_age)
        return aiocoap.Message(code=Code.CONTENT, payload=b"at last")


class Scene:
    """A session with a server that has a slow and a busy resource."""

    def __init__(self, session: DeviceSession, slow: Slow, busy: Busy) -> None:
        self.session, self.slow, self.busy = session, slow, busy


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    servers, slow, busy = Servers(Identity.create()), Slow(), Busy()
    served = await servers.start(more={("slow",): slow, ("busy",): busy})
    async with CoapsClient(Identity.create()) as client:

        async def connect() -> CoapsConnection:
            return await client.connect(served.address, pinned=None)

        yield Scene(DeviceSession("kitchen", await connect(), connect), slow, busy)
        slow.gate.set()
    await servers.close()


@pytest.mark.parametrize("code", [Code.GET, Code.POST])
async def test_fifty_slow_requests_of_one_client_all_succeed(scene: Scene, code: Code) -> None:
    work = [asyncio.ensure_future(scene.session.request(code, "/slow")) for _ in range(50)]
    await scene.slow.is_full.wait()
    scene.slow.gate.set()
    replies = await asyncio.gather(*work)
    assert [reply.payload for reply in replies] == [b"done"] * 50
    assert scene.slow.most == MOST, "as many as a session may have, and no more"


async def test_no_more_requests_are_sent_than_a_session_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device would refuse the fifth, and a request that is refused is not repeated here."""
    monkeypatch.setattr("client_app.session.BUSY_REPEATS", 0)
    servers, slow, limits = Servers(Identity.create()), Slow(4), Limits(requests_per_session=4)
    served = await servers.start(more={("slow",): slow}, limits=limits)
    async with CoapsClient(Identity.create()) as client:

        async def connect() -> CoapsConnection:
            return await client.connect(served.address, pinned=None)

        session = DeviceSession("kitchen", await connect(), connect, limits=limits)
        work = [asyncio.ensure_future(session.request(Code.GET, "/slow")) for _ in range(12)]
        await slow.is_full.wait()
        done, _ = await asyncio.wait(work, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        assert not done
        slow.gate.set()
        assert {reply.payload for reply in await asyncio.gather(*work)} == {b"done"}
    await servers.close()


async def test_waiting_for_other_requests_is_a_part_of_the_timeout(scene: Scene) -> None:
    work = [asyncio.ensure_future(scene.session.request(Code.GET, "/slow")) for _ in range(MOST)]
    await scene.slow.is_full.wait()
    with pytest.raises(TimedOut, match="waiting until other requests to kitchen are answered"):
        await scene.session.request(Code.GET, "/echo", timeout=0.1)
    scene.slow.gate.set()
    await asyncio.gather(*work)
    assert (await scene.session.request(Code.GET, "/echo")).code == "2.05"


async def test_a_request_that_ends_early_gives_its_place_to_another(scene: Scene) -> None:
    early = [
        asyncio.ensure_future(scene.session.request(Code.GET, "/slow", timeout=0.2))
        for _ in range(2 * MOST)
    ]
    outcomes = await asyncio.gather(*early, return_exceptions=True)
    # The device still works on the first ones, and may refuse those that follow (4.29).
    assert TimedOut in {type(one) for one in outcomes} <= {TimedOut, RequestFailed}
    scene.slow.gate.set()
    assert (await scene.session.request(Code.GET, "/slow")).payload == b"done"


@pytest.mark.parametrize("method", [Code.GET, Code.POST])
@pytest.mark.parametrize("code", [Code.TOO_MANY_REQUESTS, Code.SERVICE_UNAVAILABLE])
async def test_a_busy_device_is_asked_again_when_it_says(
    scene: Scene, code: Code, method: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device has not processed the request, so this is safe with any method."""
    scene.busy.code, scene.busy.max_age, scene.busy.refusals = code, 7, 1
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("client_app.session.asyncio.sleep", noted)
    assert (await scene.session.request(method, "/busy")).payload == b"at last"
    assert 7 in slept
    assert scene.busy.requests == [method, method]


@pytest.mark.parametrize(
    ("code", "error"),
    [(Code.TOO_MANY_REQUESTS, RequestFailed), (Code.SERVICE_UNAVAILABLE, DeviceFailed)],
)
async def test_a_device_that_stays_busy_is_asked_once_more(
    scene: Scene, code: Code, error: type[PeerError]
) -> None:
    scene.busy.code, scene.busy.refusals = code, 5
    with pytest.raises(error):
        await scene.session.request(Code.GET, "/busy")
    assert len(scene.busy.requests) == 2


async def test_a_wait_that_the_timeout_does_not_allow_is_an_error_at_once(scene: Scene) -> None:
    scene.busy.max_age, scene.busy.refusals = 60, 1
    with pytest.raises(RequestFailed) as caught:
        await scene.session.request(Code.GET, "/busy")
    assert caught.value.code == "4.29"
    assert len(scene.busy.requests) == 1


async def test_a_busy_device_that_names_no_time_is_not_asked_again(scene: Scene) -> None:
    scene.busy.max_age, scene.busy.refusals = None, 1
    with pytest.raises(RequestFailed):
        await scene.session.request(Code.GET, "/busy")
    assert len(scene.busy.requests) == 1
