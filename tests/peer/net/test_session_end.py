"""The end of a session reaches every request, observation and hook, despite other errors."""

import asyncio
import logging
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import ObservationEnded, Unreachable
from peer.identity import Fingerprint, Identity
from peer.net import endpoint
from peer.net.client import CoapsClient
from tests.kit.internals import incoming_requests, messages_of, unacknowledged
from tests.kit.waiting import until


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


class Slow:
    """A handler that never answers, and counts its waiting requests."""

    def __init__(self, served: Any) -> None:
        self.waiting = 0
        self._came = asyncio.Event()
        served.echo.render_get = self

    async def __call__(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.waiting += 1
        self._came.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        raise AssertionError("it waits indefinitely")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.waiting < count:
                self._came.clear()
                await self._came.wait()


@pytest.mark.parametrize("cancelled", [(0,), (1,), (0, 2), (0, 1, 2)])
async def test_requests_cancelled_in_that_loop_turn_do_not_hide_the_end_from_others(
    serve: Any, caller: CoapsClient, cancelled: tuple[int, ...]
) -> None:
    served = await serve()
    slow = Slow(served)
    connection = await caller.connect(served.address, pinned=None)
    observing: Any = connection.observe(get("value"))
    await anext(observing)
    asking = [asyncio.create_task(connection.request(get("echo"))) for _ in range(4)]
    following = asyncio.create_task(anext(observing))
    await slow.until(4)
    messages = messages_of(caller)
    await until(lambda: not unacknowledged(caller))  # all are acknowledged, none answered
    for number in cancelled:
        asking[number].cancel()
    await connection.close()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*asking, following, return_exceptions=True)
    for number, outcome in enumerate(outcomes[:4]):
        expected = asyncio.CancelledError if number in cancelled else Unreachable
        assert isinstance(outcome, expected), (number, outcome)
    assert isinstance(outcomes[4], ObservationEnded)
    assert not messages.token_manager.outgoing_requests
    assert not unacknowledged(caller)


async def test_all_requests_end_and_the_hook_runs_if_ending_one_request_fails(
    serve: Any, client: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []
    served = await serve(on_session_end=ended.append)
    slow = Slow(served)
    async with CoapsClient(client) as caller:
        connection = await caller.connect(served.address, pinned=None)
        asking = [asyncio.create_task(connection.request(get("echo"))) for _ in range(3)]
        await slow.until(3)
        requests = incoming_requests(served.server)
        first = next(iter(requests))
        pipe, stop = requests[first]

        def failing() -> None:
            raise RuntimeError("this one cannot be ended")

        requests[first] = (pipe, failing)
        await connection.close()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, Unreachable) for one in outcomes)
        await until(lambda: ended and slow.waiting <= 1)
        assert ended == [1]
        assert [one.levelno for one in caplog.records] == [logging.ERROR]
        stop()


async def test_the_hook_runs_if_the_message_layer_fails(
    serve: Any, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    served = await serve(on_session_end=ended.append)
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: unhandled.append(context)
    )

    def failing(*_arguments: object) -> None:
        raise RuntimeError("an internal error")

    monkeypatch.setattr(messages_of(served.server), "dispatch_error", failing)
    async with CoapsClient(client) as caller:
        await caller.connect(served.address, pinned=None)
    await until(lambda: ended)
    assert [str(context["exception"]) for context in unhandled] == ["an internal error"]


async def test_the_hook_runs_for_every_session_when_the_server_closes(
    serve: Any, client: Identity
) -> None:
    ended: list[int] = []
    served = await serve(on_session_end=ended.append)
    slow = Slow(served)
    async with CoapsClient(client) as caller:
        connections = [await caller.connect(served.address, pinned=None) for _ in range(3)]
        asking = [asyncio.create_task(one.request(get("echo"))) for one in connections]
        await slow.until(3)
        await served.server.close()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(one, Unreachable) for one in outcomes)
    assert sorted(ended) == [1, 2, 3]


async def test_sessions_end_in_steps_and_their_tickets_at_once(
    serve: Any, caller: CoapsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SESSIONS_ENDED_PER_STEP", 2)
    served = await serve()
    pinned = served.identity.fingerprint
    ending = [await caller.connect(served.address, pinned=pinned) for _ in range(5)]
    steps = served.server.ending_sessions(lambda _key: True)
    later = await caller.connect(served.address, pinned=pinned)
    assert not later.resumed
    left = []
    for step in steps:
        left.append(len(served.server.sessions()))
        assert (await later.request(get("value"))).payload == b"0"  # others are served in between
        assert step == (2 if left[-1] > 1 else 1)
    assert left == [4, 2, 1]
    assert not any(one.is_open for one in ending)
    assert later.is_open


async def test_a_step_looks_at_some_sessions_and_a_closed_one_is_not_counted(
    serve: Any, caller: CoapsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SESSIONS_JUDGED_PER_STEP", 2)
    served = await serve()
    connections = [await caller.connect(served.address, pinned=None) for _ in range(5)]
    seen: list[Fingerprint] = []

    def none_of(key: Fingerprint) -> bool:
        seen.append(key)
        return False

    steps = served.server.ending_sessions(none_of)
    await connections[0].close()
    await until(lambda: len(served.server.sessions()) == 4)
    assert next(steps) == 0
    assert len(seen) == 1
    assert sum(steps) == 0
    assert len(seen) == 4
