"""The client's side of Observe over real UDP: whole bodies, the newest state, and the end."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import Malformed, ObservationEnded
from peer.identity import Identity
from peer.limits import BODY_FETCHES, NOTIFICATION_ORDER_SECONDS, Limits
from peer.net import notifications
from peer.net.aiocoap_seam import response_blocks
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.notifications import NotificationStream
from peer.net.problem import ProblemError
from tests.kit.internals import (
    forget_answers,
    messages_of,
    observations_of,
    remotes_of,
    unacknowledged,
)
from tests.kit.raw_client import message
from tests.kit.waiting import until

CONTENT, NON = 0x45, 1


def observing(connection: CoapsConnection) -> NotificationStream:
    return connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))


class Body:
    """The state of /value: `size` times the byte `fill`."""

    def __init__(self, served: Any, size: int) -> None:
        self.fill = b"a"
        self.size = size
        self.rendered = 0
        self._value = served.value
        served.value.render_get = self

    async def __call__(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.rendered += 1
        return aiocoap.Message(payload=self.fill * self.size)

    def change(self) -> None:
        self.fill = bytes([self.fill[0] + 1])
        self._value.updated_state()


def on_later_block(do: Callable[[int], None]) -> Callable[..., None]:
    """An `authorise` that calls `do` with the number of each requested block but the first."""

    def authorise(request: aiocoap.Message, *_others: object) -> None:
        if request.opt.block2 is not None and request.opt.block2.block_number:
            do(request.opt.block2.block_number)

    return authorise


@pytest.fixture
def unheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that notifies also while the body of the last notification is fetched."""
    monkeypatch.setattr(response_blocks, "BODY_BEGIN_SECONDS", 0.0)
    monkeypatch.setattr(response_blocks, "BODY_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("pairing", [False, True], ids=["regular", "pairing"])
@pytest.mark.parametrize("size", [1_900, 20_000, 200_000])
async def test_every_state_is_whole(
    serve: Any, caller: CoapsClient, size: int, pairing: bool
) -> None:
    served = await serve(pairing=pairing)
    body = Body(served, size)
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    for fill in (b"a", b"b", b"c"):
        state = await anext(stream)
        assert state.payload == fill * size
        assert state.opt.observe is not None
        body.change()
    assert body.rendered <= 4


async def test_a_large_state_that_changes_all_the_time_arrives(
    serve: Any, caller: CoapsClient
) -> None:
    """The device does not replace a body while it is fetched, so the client makes progress."""
    served = await serve(authorise=on_later_block(lambda _number: body.change()))
    body = Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    seen = [(await anext(stream)).payload for _ in range(4)]
    assert all(one == one[:1] * 20_000 for one in seen)
    assert [one[0] for one in seen] == sorted({one[0] for one in seen})
    assert body.rendered < 10


@pytest.mark.usefixtures("unheld")
async def test_a_state_that_changes_during_its_transfer_gives_way_to_the_newest(
    serve: Any, caller: CoapsClient
) -> None:
    def change(number: int) -> None:
        if number == 5 and body.fill < b"d":
            body.change()

    served = await serve(authorise=on_later_block(change))
    body = Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    assert (await anext(stream)).payload == b"d" * 20_000


async def test_blocks_of_two_states_are_never_one_body(serve: Any, caller: CoapsClient) -> None:
    """The state changes without a notification; another request brings it to the block cache."""
    numbers: list[int] = []
    served = await serve(authorise=on_later_block(numbers.append))
    body = Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: len(numbers) > 2)
    body.fill = b"z"
    request = aiocoap.Message(code=Code.GET, uri_path=("value",))
    assert (await connection.request(request)).payload == b"z" * 20_000
    assert set((await first).payload) in ({ord("a")}, {ord("z")})
    assert connection.is_open


async def test_a_body_that_the_device_no_longer_stores_is_fetched_again(
    serve: Any, caller: CoapsClient
) -> None:
    def forget(number: int) -> None:
        if number == 3 and not forgotten:
            forgotten.append(number)
            forget_answers(served.server)

    forgotten: list[int] = []
    served = await serve(authorise=on_later_block(forget))
    Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    state = await anext(observing(connection))
    assert state.payload == b"a" * 20_000
    assert forgotten
    assert state.opt.observe is not None


async def test_a_body_whose_blocks_never_match_is_an_error_and_not_a_mix(
    serve: Any, caller: CoapsClient
) -> None:
    def change(_number: int) -> None:
        forget_answers(served.server)
        body.fill = bytes([body.fill[0] + 1])

    served = await serve(authorise=on_later_block(change))
    body = Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    with pytest.raises(Malformed, match="changes faster"):
        await anext(observing(connection))
    assert body.rendered <= 2 * (1 + BODY_FETCHES), "more than two blocks were asked for"
    assert connection.is_open


async def test_a_state_that_is_too_large_for_the_client_ends_the_observation_alone(
    serve: Any,
) -> None:
    served = await serve()
    Body(served, 30_000)
    async with CoapsClient(Identity.create(), limits=Limits(answer_body_bytes=20_000)) as caller:
        connection = await caller.connect(served.address, pinned=None)
        stream = observing(connection)
        with pytest.raises(Malformed, match="too large"):
            await anext(stream)
        stream.close()
        await until(lambda: not observations_of(served.value))
        request = aiocoap.Message(code=Code.GET, uri_path=("echo",))
        assert (await connection.request(request)).code is Code.CONTENT


async def test_an_error_in_place_of_every_block_is_reported(
    serve: Any, caller: CoapsClient
) -> None:
    def deny(_number: int) -> None:
        raise ProblemError("denied", "no", "Ask.")

    served = await serve(authorise=on_later_block(deny))
    body = Body(served, 20_000)
    connection = await caller.connect(served.address, pinned=None)
    with pytest.raises(Malformed):
        await anext(observing(connection))
    assert body.rendered == 1 + BODY_FETCHES


# -- the order of notifications -------------------------------------------------------------------


async def sent(served: Any, *numbers: int) -> None:
    """Send notifications with these numbers of Observe to the only observer, without asking it."""
    (remote,) = remotes_of(served.server)
    (token,) = remote.observing
    for number in numbers:
        remote.association.send(
            message(
                CONTENT,
                number=number & 0xFFFF,
                token=token,
                mtype=NON,
                observe=number % (1 << 24),
                payload=b"%d" % number,
            )
        )


async def test_a_notification_that_arrives_late_is_dropped(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    base = (await anext(stream)).opt.observe or 0
    seen = []
    for numbers in ((base + 5,), (base + 6, base + 3, base + 5)):
        await sent(served, *numbers)
        seen.append(int((await anext(stream)).payload) - base)
    assert seen == [5, 6]
    wrapped = base + (1 << 23) - 1  # still newer than base + 6
    await sent(served, wrapped)
    assert int((await anext(stream)).payload) == wrapped
    beyond = wrapped + 100  # also where the 24 bits start again
    await sent(served, beyond)
    assert int((await anext(stream)).payload) == beyond


async def test_after_128_s_any_number_is_newer(
    serve: Any, caller: CoapsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    base = (await anext(stream)).opt.observe or 0
    assert NOTIFICATION_ORDER_SECONDS == 128
    monkeypatch.setattr(notifications, "NOTIFICATION_ORDER_SECONDS", -1.0)
    await sent(served, base - 10)
    assert int((await anext(stream)).payload) == base - 10


async def test_a_slow_reader_gets_the_newest_state(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    await anext(stream)
    request = aiocoap.Message(code=Code.GET, uri_path=("value",))
    for value in range(1, 51):
        served.value.set(value)
        await connection.request(request.copy())
    assert (await anext(stream)).payload == b"50"


async def test_registering_again_on_the_same_session_brings_the_present_state(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    await anext(stream)
    for observation in list(observations_of(served.value)):  # the device has lost it
        observations_of(served.value).discard(observation)
        observation.end = lambda: None
    served.value.set(7)
    stream.refresh()
    assert (await anext(stream)).payload == b"7"
    served.value.set(8)
    assert (await anext(stream)).payload == b"8"
    assert len(observations_of(served.value)) == 1
    assert len(messages_of(caller).token_manager.outgoing_requests) == 1


# -- the end --------------------------------------------------------------------------------------


async def test_a_stream_that_is_dropped_deregisters(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    gc.disable()
    try:
        for _ in range(100):
            async for _state in observing(connection):
                break
        await until(lambda: not observations_of(served.value))
        assert not messages_of(caller).token_manager.outgoing_requests
    finally:
        gc.enable()


async def test_the_end_of_the_session_follows_the_last_state(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = observing(connection)
    await anext(stream)
    served.value.set(1)
    await connection.request(aiocoap.Message(code=Code.GET, uri_path=("echo",)))
    await connection.close()
    assert (await anext(stream)).payload == b"1"
    for _ in range(2):
        with pytest.raises(ObservationEnded):
            await anext(stream)


async def test_a_ping_is_answered_while_the_session_is_open(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    assert await connection.ping(timeout=20)
    assert connection.silent_seconds < 20
    assert not unacknowledged(caller)
    await served.server.close()
    await until(lambda: not connection.is_open)
    assert not await connection.ping(timeout=20)
