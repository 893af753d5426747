"""Sessions that die without a word, during a request and in an observation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from client_app import observation
from client_app import silence as silence_module
from client_app.content import Gap, Reply
from peer.errors import (
    NotPaired,
    ObservationEnded,
    PinMismatch,
    RequestFailed,
    TimedOut,
    Unreachable,
)
from peer.net.address import Address
from peer.testing import Impairment, Proxy
from tests.kit.board import HOST, Board
from tests.kit.internals import before_reconnect
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from client_app.client import Client
    from client_app.device import Device
    from tests.client_app.conftest import Make

    Lose = Callable[[], None]


PROBE_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings are sent soon. A device that is there has all the time to answer them."""
    monkeypatch.setattr(observation, "PROBE_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr(observation, "OBSERVE_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(silence_module, "REQUEST_PING_SECONDS", 0.1)


@pytest.fixture
async def proxy(board: Board) -> AsyncIterator[Proxy]:
    made = await Proxy.start(Address(HOST, board.regular.port))
    yield made
    made.close()


@pytest.fixture
async def kitchen(proxy: Proxy, paired: Client, new_client: Make) -> Device:
    (known,) = paired.devices
    place: dict[str, Any] = {"last_seen": str(proxy.address), "addresses": ()}
    paired.book.update(known.fingerprint, lambda one: replace(one, **place))
    await paired.close()
    device = await new_client().connect("kitchen")
    await device.get("/hello")
    return device


@pytest.fixture
def cut(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Lose what is sent; the device is soon given up."""

    def lose() -> None:
        monkeypatch.setattr(observation, "PROBE_SECONDS", PROBE_SECONDS)
        proxy.cut()

    return lose


@pytest.fixture
def mend(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Undo `cut`."""

    def work() -> None:
        monkeypatch.setattr(observation, "PROBE_SECONDS", TIMEOUT_SECONDS)
        proxy.change(Impairment())

    return work


@pytest.fixture
def lose_now(kitchen: Device, cut: Lose, mend: Lose) -> Lose:
    """Lose the path of the present session; a new one works."""

    def lose() -> None:
        before_reconnect(kitchen, mend)
        cut()

    return lose


@pytest.mark.parametrize("method", ["get", "fetch", "put", "delete"])
async def test_a_request_that_is_safe_to_repeat_is_repeated_once(
    board: Board, kitchen: Device, lose_now: Lose, method: str
) -> None:
    """The session dies with the request, and no message says so."""
    lose_now()
    path = "/hello" if method in {"get", "fetch"} else "/light"
    call = getattr(kitchen, method)
    if method == "fetch":  # the board has no FETCH; the second attempt reaches it
        with pytest.raises(Exception, match=r"FETCH|4\.05|method"):
            await call(path)
    else:
        assert (await call(path)).code.startswith("2.")
    name = method.upper()
    assert [made for made, where in board.requests if where == path][-1] == name
    assert board.requests.count((name, path)) == 1 + (method == "get")


@pytest.mark.parametrize("method", ["post", "patch"])
async def test_a_request_that_may_have_been_executed_is_not_repeated(
    board: Board, kitchen: Device, lose_now: Lose, method: str
) -> None:
    lose_now()
    with pytest.raises(TimedOut, match="the device may have executed it"):
        await getattr(kitchen, method)("/hello", b"x")
    assert (method.upper(), "/hello") not in board.requests
    assert (await kitchen.get("/hello")).code == "2.05"


async def test_a_repeated_delete_says_that_the_first_one_may_have_succeeded(
    kitchen: Device, lose_now: Lose
) -> None:
    """Its answer may be what was lost, so 4.04 does not mean that nothing was there before."""
    with pytest.raises(RequestFailed) as plain:
        await kitchen.delete("/nothing")
    assert "first attempt" not in plain.value.advice
    lose_now()
    with pytest.raises(RequestFailed) as repeated:
        await kitchen.delete("/nothing")
    assert (repeated.value.code, plain.value.code) == ("4.04", "4.04")
    assert "The first attempt may have deleted it" in repeated.value.advice


async def test_a_device_that_works_on_a_request_answers_pings(
    board: Board, proxy: Proxy, kitchen: Device
) -> None:
    work = asyncio.ensure_future(kitchen.post("/slow", b"x"))
    await until(lambda: ("POST", "/slow") in board.requests)
    sent = len(proxy.towards_device())
    await until(lambda: len(proxy.towards_device()) > sent + 6)
    board.gate.set()
    assert (await work).text == "at last"
    assert board.requests.count(("POST", "/slow")) == 1


async def test_a_request_is_repeated_once_and_no_more(
    board: Board, kitchen: Device, cut: Lose, mend: Lose
) -> None:
    connected: list[int] = []

    def reconnect() -> None:
        connected.append(1)
        mend()

    before_reconnect(kitchen, reconnect)
    cut()
    request = asyncio.ensure_future(kitchen.get("/slow"))
    await until(lambda: ("GET", "/slow") in board.requests)
    cut()
    with pytest.raises(TimedOut, match="no longer responds"):
        await request
    assert len(connected) == 1
    assert board.requests.count(("GET", "/slow")) == 1


# -- observations ---------------------------------------------------------------------------------


async def state(states: Any) -> Any:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await anext(states)


async def test_the_first_state_after_a_gap_says_how_long_it_was(
    board: Board, kitchen: Device, lose_now: Lose
) -> None:
    states = kitchen.observe("/count", ping_seconds=0.1)
    assert (await state(states)).gap is None
    lose_now()
    board.observed.step()
    after = await state(states)
    assert after.value == {"count": 1}
    assert after.gap.reason == "the device no longer responds"
    assert PROBE_SECONDS < after.gap.seconds < TIMEOUT_SECONDS, "from the last sign of life on"
    board.observed.step()
    assert (await state(states)).gap is None
    await states.aclose()


async def test_a_gap_is_yielded_when_it_begins_if_it_is_wanted(
    board: Board, kitchen: Device, lose_now: Lose
) -> None:
    states = kitchen.observe("/count", ping_seconds=0.1, gaps=True)
    assert isinstance(await state(states), Reply)
    lose_now()
    assert await state(states) == Gap("the device no longer responds")
    board.observed.step()
    after = await state(states)
    assert isinstance(after, Reply)
    assert after.gap is not None
    await states.aclose()


async def test_a_restart_with_close_notify_is_a_gap_too(board: Board, kitchen: Device) -> None:
    states = kitchen.observe("/count")
    await state(states)
    port = board.regular.port
    await board.stop()
    board.observed.value = 5
    await board.start(port=port)
    after = await state(states)
    assert after.value == {"count": 5}
    assert after.gap is not None
    await states.aclose()


@pytest.mark.parametrize("end", ["silent", "closed"])
async def test_an_observation_without_retries_ends_with_its_session(
    board: Board, kitchen: Device, cut: Lose, end: str
) -> None:
    notes: list[str] = []
    states = kitchen.observe("/count", ping_seconds=0.1, retry=False, on_note=notes.append)
    await state(states)
    if end == "silent":
        cut()
    else:
        board.regular.end_sessions(lambda _key: True)
    with pytest.raises((ObservationEnded, Unreachable)):
        await state(states)
    assert not notes


async def test_a_revocation_during_a_gap_ends_an_observation_for_good(
    board: Board, kitchen: Device, lose_now: Lose
) -> None:
    states = kitchen.observe("/count", ping_seconds=0.1)
    await state(states)
    board.users.clear()
    board.regular.end_sessions(lambda _key: True)
    lose_now()
    with pytest.raises(NotPaired):
        await state(states)


async def test_another_key_at_the_address_ends_an_observation_for_good(
    other: Board, proxy: Proxy, kitchen: Device, cut: Lose, mend: Lose
) -> None:
    states = kitchen.observe("/count", ping_seconds=0.1)
    await state(states)
    cut()
    proxy.redirect(Address(HOST, other.regular.port))

    def swap() -> None:
        proxy.rebind()
        mend()

    before_reconnect(kitchen, swap)
    with pytest.raises(PinMismatch):
        await state(states)
