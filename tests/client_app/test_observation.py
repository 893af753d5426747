"""Observations across lost sessions, and loops over them that are left."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from client_app import observation, retries
from client_app.client import Client
from client_app.device import Device
from client_app.observation import States
from peer import cbor
from peer.errors import ObservationEnded, Unreachable, UsageError
from peer.net.address import Address
from peer.testing import Impairment, Proxy
from tests.client_app.conftest import Make
from tests.kit.board import HOST, Board
from tests.kit.internals import before_reconnect, observations_of, session_of
from tests.kit.waiting import TIMEOUT_SECONDS, until


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is there has all the time to answer a ping; see `give_up_soon`."""
    monkeypatch.setattr(observation, "PROBE_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr(observation, "OBSERVE_GRACE_SECONDS", 0.1)


@pytest.fixture
def give_up_soon(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], None]:
    """Let the present session of a device be given up soon, and not the next one."""

    def shorten(device: Device) -> None:
        def lengthen() -> None:
            monkeypatch.setattr(observation, "PROBE_SECONDS", TIMEOUT_SECONDS)

        before_reconnect(device, lengthen)
        monkeypatch.setattr(observation, "PROBE_SECONDS", 0.5)

    return shorten


@pytest.fixture
async def proxy(board: Board) -> AsyncIterator[Proxy]:
    made = await Proxy.start(Address(HOST, board.regular.port))
    yield made
    made.close()


@pytest.fixture
async def kitchen(proxy: Proxy, paired: Client, new_client: Make) -> Device:
    """The board behind the proxy; it is not announced."""
    move(paired, last_seen=str(proxy.address), addresses=())
    await paired.close()
    return await new_client().connect("kitchen")


def move(client: Client, **changes: Any) -> None:
    (known,) = client.devices
    client.book.update(known.fingerprint, lambda one: replace(one, **changes))


class Watched:
    """An observation of /count with short times, the states so far, and what was said about it."""

    def __init__(self, device: Device, *, ping_seconds: float | None = 0.2) -> None:
        self.notes: list[str] = []
        self.states = device.observe("/count", ping_seconds=ping_seconds, on_note=self.notes.append)

    async def until(self, count: int) -> None:
        """Read states up to this one."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (await anext(self.states)).value != {"count": count}:
                pass


# -- paths that fall silent -----------------------------------------------------------------------


async def test_it_continues_after_a_nat_has_lost_its_mapping(
    board: Board, proxy: Proxy, kitchen: Device, give_up_soon: Callable[[Device], None]
) -> None:
    watched = Watched(kitchen)
    await watched.until(0)
    give_up_soon(kitchen)
    proxy.rebind()
    board.observed.step()
    await watched.until(1)
    assert "the device no longer responds; connecting again" in watched.notes[0]
    assert [note[:22] for note in watched.notes[1:]] == ["kitchen responds again"]
    board.observed.step()
    await watched.until(2)
    await watched.states.aclose()


async def test_it_continues_when_a_silent_path_works_again(
    board: Board, proxy: Proxy, kitchen: Device, give_up_soon: Callable[[Device], None]
) -> None:
    watched = Watched(kitchen)
    await watched.until(0)
    give_up_soon(kitchen)
    before_reconnect(kitchen, lambda: proxy.change(Impairment()))
    proxy.cut()
    board.observed.step()
    await watched.until(1)
    assert len(watched.notes) == 2
    await watched.states.aclose()


async def test_it_continues_after_a_restart_without_close_notify(
    board: Board, paired: Client, give_up_soon: Callable[[Device], None]
) -> None:
    device = await paired.connect("kitchen")
    watched = Watched(device)
    await watched.until(0)
    give_up_soon(device)
    port = board.regular.port
    await board.lose_power()
    reading = asyncio.ensure_future(watched.until(5))
    await until(lambda: watched.notes)  # and then connections are refused for a while
    board.observed.value = 5
    await board.start(port=port)
    await reading
    assert [note[:22] for note in watched.notes[1:]] == ["kitchen responds again"]
    await watched.states.aclose()


async def test_it_continues_at_another_address(
    board: Board, paired: Client, give_up_soon: Callable[[Device], None]
) -> None:
    device = await paired.connect("kitchen")
    watched = Watched(device)
    await watched.until(0)
    give_up_soon(device)
    before = device.address
    await board.lose_power()
    await board.start()  # another port, which is announced
    board.observed.value = 3
    await watched.until(3)
    assert device.address != before
    await watched.states.aclose()


async def test_several_observations_share_the_new_session(
    board: Board, proxy: Proxy, kitchen: Device, give_up_soon: Callable[[Device], None]
) -> None:
    several = [Watched(kitchen) for _ in range(5)]
    for watched in several:
        await watched.until(0)
    give_up_soon(kitchen)
    proxy.rebind()
    board.observed.step()
    await asyncio.gather(*(watched.until(1) for watched in several))
    assert len(board.regular.sessions()) == 2  # the device still has the one that it cannot reach
    for watched in several:
        await watched.states.aclose()


async def test_a_silent_device_is_pinged_without_a_request(
    board: Board, proxy: Proxy, kitchen: Device
) -> None:
    watched = Watched(kitchen, ping_seconds=0.01)
    await watched.until(0)
    requests, sent = len(board.requests), len(proxy.towards_device())
    reading = asyncio.ensure_future(watched.until(1))
    await until(lambda: len(proxy.towards_device()) > sent + 5)
    assert len(board.requests) == requests
    board.observed.step()
    await reading
    assert not watched.notes
    await watched.states.aclose()


async def test_an_overdue_notification_is_noticed_without_pings(
    board: Board,
    proxy: Proxy,
    kitchen: Device,
    monkeypatch: pytest.MonkeyPatch,
    give_up_soon: Callable[[Device], None],
) -> None:
    """A resource that notifies at an interval states it as its Max-Age."""
    render = board.observed.render_get

    async def with_max_age(request: aiocoap.Message) -> aiocoap.Message:
        answer = await render(request)
        answer.opt.max_age = 1
        return answer

    monkeypatch.setattr(board.observed, "render_get", with_max_age)
    watched = Watched(kitchen, ping_seconds=None)
    await watched.until(0)
    give_up_soon(kitchen)
    proxy.rebind()
    board.observed.step()
    await watched.until(1)
    assert len(watched.notes) == 2
    await watched.states.aclose()


async def test_an_observation_that_the_device_lost_is_registered_again(
    board: Board, kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is the same one, and a state that is known already is not repeated."""
    monkeypatch.setattr(observation, "OBSERVE_GRACE_SECONDS", 0.1 - 60)
    watched = Watched(kitchen, ping_seconds=None)
    await watched.until(0)
    connection = session_of(kitchen).connection
    (lost,) = observations_of(board.observed)
    observations_of(board.observed).clear()
    lost.end = lambda: None
    reading = asyncio.ensure_future(anext(watched.states))
    await until(lambda: observations_of(board.observed))
    board.observed.step()
    assert (await reading).value == {"count": 1}
    assert session_of(kitchen).connection is connection
    assert not watched.notes
    await watched.states.aclose()


# -- the pauses between attempts ------------------------------------------------------------------


class Stream:
    """Yields one state, then ends as with its session."""

    def __init__(self) -> None:
        self._states = [aiocoap.Message(code=Code.CONTENT, payload=cbor.encode(1), observe=1)]

    async def __anext__(self) -> aiocoap.Message:
        if not self._states:
            raise ObservationEnded("the session has ended")
        return self._states.pop()

    async def aclose(self) -> None:
        """Do nothing: there is no device."""


class Connection:
    silent_seconds = 0.0
    round_trip_seconds = 0.0
    is_open = True

    def observe(self, _message: aiocoap.Message) -> Stream:
        return Stream()


class Sessions:
    """Sessions that open as often as `outcomes` says, and then raise `UsageError`."""

    alias = "kitchen"

    def __init__(self, outcomes: str) -> None:
        self.outcomes = list(outcomes)

    async def open(self) -> Any:
        if not self.outcomes:
            raise UsageError("the end")
        if self.outcomes.pop(0) == "-":
            raise Unreachable("no route")
        return Connection()

    async def has_waited_after(self, _response: object) -> bool:
        return False

    async def drop(self, _connection: object) -> None:
        """Do nothing: there is no connection."""


async def pauses_after(
    outcomes: str, monkeypatch: pytest.MonkeyPatch, *, retry: bool = True, random: float = 0.0
) -> tuple[list[float], list[str]]:
    """The pauses before the attempts, and the notes, for sessions that open (+) or do not (-)."""
    pauses: list[float] = []
    notes: list[str] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    states = States(
        Sessions(outcomes),
        lambda: aiocoap.Message(code=Code.GET),
        timeout=None,
        retry=retry,
        ping_seconds=None,
        on_note=notes.append,
        random=lambda: random,
    )
    with pytest.raises((UsageError, Unreachable)):
        async for _ in states.iterate():
            pass
    return pauses, notes


async def test_pauses_grow_until_the_device_responds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, notes = await pauses_after("+------+", monkeypatch)
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    assert [note.split(":")[0].split(";")[0] for note in notes] == [
        "kitchen",
        "kitchen responds again",
        "kitchen",
    ]
    pauses, _ = await pauses_after("+------+", monkeypatch, random=1.0)
    assert pauses == [0, 1.5, 3, 6, 12, 24, 45, 45], "several clients do not return together"


async def test_sessions_that_end_at_once_are_not_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when two programs evict each other's sessions."""
    pauses, _ = await pauses_after("++++", monkeypatch)
    assert pauses == [0, 1, 2, 4]
    monkeypatch.setattr(retries, "OBSERVE_STABLE_SECONDS", 0.0)
    pauses, _ = await pauses_after("++++", monkeypatch)
    assert pauses == [0, 0, 0, 0]


async def test_an_observation_that_never_began_is_not_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await pauses_after("-", monkeypatch) == ([], [])


# -- loops that are left --------------------------------------------------------------------------


async def test_a_loop_that_is_left_ends_its_observation(board: Board, paired: Client) -> None:
    """Also if a variable still refers to it, and without a garbage collection."""
    kitchen = await paired.connect("kitchen")
    held = []
    gc.disable()
    try:
        for _ in range(100):
            async for _state in kitchen.observe("/count"):
                break
        for _ in range(100):
            held.append(kitchen.observe("/count"))
            async for _state in held[-1]:
                break
        await until(lambda: not observations_of(board.observed))
    finally:
        gc.enable()
    assert (await kitchen.get("/hello")).code == "2.05"


async def test_a_loop_that_an_error_ends_ends_its_observation(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    states = kitchen.observe("/count")
    with contextlib.suppress(ZeroDivisionError):
        async for state in states:
            assert len(state.payload) / 0
    await until(lambda: not observations_of(board.observed))


async def test_a_second_loop_observes_again(board: Board, paired: Client) -> None:
    states = (await paired.connect("kitchen")).observe("/count")
    for count in range(3):
        assert [state.value async for state in first_of(states)] == [{"count": count}]
        board.observed.step()


async def first_of(states: Any) -> AsyncIterator[Any]:
    async for state in states:
        yield state
        break
