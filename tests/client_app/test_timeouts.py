"""A timeout is the time of a whole call: each call ends within it, whatever it is waiting for.

The steps of a call would take much longer: a ping and a session as long as the fixture
`_long_steps` says, a user 120 s.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from client_app import administration, client, device
from client_app.client import Client
from client_app.sync import Client as BlockingClient
from peer.errors import TimedOut
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.testing import Impairment, Proxy
from tests.kit.adverts import no_adverts
from tests.kit.board import HOST
from tests.kit.internals import observations_of
from tests.kit.waiting import TIMEOUT_SECONDS, skip_time, stop_time, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from client_app.device import Device
    from tests.client_app.conftest import Make
    from tests.kit.board import Board

SECONDS = 0.3
STEP_SECONDS = 2 * TIMEOUT_SECONDS
LONGEST = TIMEOUT_SECONDS / 2  # no step without a deadline is as short
LIMITS = replace(DEFAULT_LIMITS, connect_seconds=STEP_SECONDS)


@pytest.fixture(autouse=True)
def _long_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_app.observation.PROBE_SECONDS", STEP_SECONDS)


@contextmanager
def timed_out(seconds: float = SECONDS) -> Iterator[pytest.ExceptionInfo[TimedOut]]:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=f"timed out after {seconds:g} s") as caught:
        yield caught
    assert time.monotonic() - began < LONGEST


@pytest.fixture
async def proxy(board: Board) -> AsyncIterator[Proxy]:
    made = await Proxy.start(Address(HOST, board.regular.port))
    yield made
    made.close()


@pytest.fixture
async def silent(proxy: Proxy, paired: Client, new_client: Make) -> Device:
    """The board, reached by a path that has fallen silent since the first request."""
    (known,) = paired.devices
    place: Any = {"last_seen": str(proxy.address), "addresses": ()}
    paired.book.update(known.fingerprint, lambda one: replace(one, **place))
    await paired.close()
    kitchen = await new_client(limits=LIMITS).connect("kitchen")
    assert (await kitchen.get("/hello")).code == "2.05"
    proxy.cut()
    return kitchen


CALLS: dict[str, Callable[[Device], Awaitable[object]]] = {
    "get": lambda kitchen: kitchen.get("/hello", timeout=SECONDS),
    "fetch": lambda kitchen: kitchen.fetch("/hello", timeout=SECONDS),
    "put": lambda kitchen: kitchen.put("/light", b"x" * 5000, timeout=SECONDS),
    "post": lambda kitchen: kitchen.post("/hello", timeout=SECONDS),
    "patch": lambda kitchen: kitchen.patch("/hello", timeout=SECONDS),
    "delete": lambda kitchen: kitchen.delete("/light", timeout=SECONDS),
    "whoami": lambda kitchen: kitchen.whoami(timeout=SECONDS),
    "observe": lambda kitchen: anext(kitchen.observe("/count", timeout=SECONDS)),
    "users": lambda kitchen: kitchen.iam.users(timeout=SECONDS),
    "invite": lambda kitchen: kitchen.iam.invite("mia", timeout=SECONDS),
    "events": lambda kitchen: kitchen.iam.events(timeout=SECONDS),
    "follow": lambda kitchen: anext(kitchen.iam.follow_events(timeout=SECONDS)),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_on_a_silent_path_ends_in_time(silent: Device, call: str) -> None:
    with timed_out():
        await CALLS[call](silent)


@pytest.mark.parametrize("call", ["get", "post", "observe", "users"])
async def test_the_check_of_a_silent_session_is_a_part_of_the_call(
    silent: Device, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.session.SILENT_SECONDS", 0.0)
    with timed_out():
        await CALLS[call](silent)


@pytest.mark.parametrize("call", ["get", "post", "observe", "users"])
async def test_a_new_session_is_a_part_of_the_call(silent: Device, call: str) -> None:
    await silent.close()
    with timed_out():
        await CALLS[call](silent)


async def test_calls_that_wait_for_the_same_new_session_end_in_time(silent: Device) -> None:
    await silent.close()
    began = time.monotonic()
    work = (silent.get("/hello", timeout=SECONDS * n) for n in (1, 2, 3))
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert [type(one) for one in outcomes] == [TimedOut] * 3
    assert time.monotonic() - began < LONGEST


async def test_after_a_timeout_the_next_request_checks_the_session(
    board: Board, silent: Device, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.observation.PROBE_SECONDS", 0.3)
    with timed_out():
        await silent.get("/hello", timeout=SECONDS)
    proxy.rebind()
    proxy.change(Impairment())
    assert (await silent.post("/hello", b"x")).code == "2.04"
    assert board.requests.count(("POST", "/hello")) == 1


async def test_a_timeout_of_one_request_does_not_end_another(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    slow = asyncio.ensure_future(kitchen.get("/slow"))
    await until(lambda: ("GET", "/slow") in board.requests)
    with timed_out():
        await kitchen.get("/slow", timeout=SECONDS)
    board.gate.set()
    assert (await slow).text == "at last"
    assert len(board.regular.sessions()) == 1


@pytest.mark.usefixtures("silent")
async def test_connecting_ends_in_time(new_client: Make) -> None:
    with timed_out():
        await new_client(limits=LIMITS).connect("kitchen", timeout=SECONDS)


async def test_a_name_server_that_does_not_answer_does_not_hold_the_program(
    silent: Device, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert silent.alias
    asked, answer = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str | bytes, *args: Any, **options: Any) -> Any:
        if host in ("board.example", b"board.example"):
            if options.get("flags"):
                raise socket.gaierror
            asked.set()
            answer.wait()
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def program() -> None:
        async def main() -> None:
            async with Client(home=home, look=no_adverts) as client:
                (known,) = client.devices
                place: Any = {"last_seen": "board.example:5684"}
                client.book.update(known.fingerprint, lambda one: replace(one, **place))
                stop_time()
                connecting = asyncio.ensure_future(client.connect("kitchen", timeout=SECONDS))
                await asyncio.to_thread(asked.wait)
                skip_time(SECONDS)
                await connecting

        with timed_out():
            asyncio.run(main())

    try:
        await asyncio.wait_for(asyncio.to_thread(program), LONGEST)
    finally:
        asked.set()
        answer.set()


async def never(*_question: object) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["confirm", "device"])
async def test_the_answers_of_people_are_a_part_of_a_pairing(
    board: Board, new_client: Make, way: str
) -> None:
    await board.open()
    client = new_client(board)
    confirm = never if way == "confirm" else None
    expect = board.fingerprint if way == "device" else None
    with timed_out(LONGEST) as caught:
        pairing = asyncio.ensure_future(
            client.pair(confirm=confirm, expect=expect, timeout=LONGEST)
        )
        await until(lambda: board.pair_resource and observations_of(board.pair_resource))
        skip_time(LONGEST)
        await pairing
    assert str(caught.value).endswith(
        "waiting for your answer" if way == "confirm" else "waiting for confirmation at the device"
    )
    assert client.devices == []
    await until(lambda: not board.pairing.sessions())


async def test_a_silent_device_is_a_part_of_a_pairing(board: Board, new_client: Make) -> None:
    await board.open()
    proxy = await Proxy.start(Address(HOST, board.pairing.port))
    proxy.cut()
    with timed_out():
        await new_client(limits=LIMITS).pair(
            str(proxy.address), expect=board.fingerprint, timeout=SECONDS
        )
    proxy.close()


def test_a_blocking_call_ends_in_time(home: Path, board_thread: Any) -> None:
    board_thread.do(board_thread.board.open)
    board_thread.say(True)
    board = board_thread.board
    with BlockingClient(home=home, look=no_adverts) as blocking:
        blocking.pair(board.pairing_address, expect=board.fingerprint, name="anna")
        kitchen = blocking.connect("kitchen", timeout=30)
        with timed_out():
            kitchen.get("/slow", timeout=SECONDS)
        with timed_out():
            kitchen.post("/slow", timeout=SECONDS)
        assert kitchen.get("/hello").code == "2.05"


# -- every call has a timeout ---------------------------------------------------------------------

WITHOUT = {"close", "connect_at", "resumed", "address"}  # `connect_at` has its own


@pytest.mark.parametrize(
    "owner",
    [client.Client, device.Device, administration.Administration],
    ids=lambda one: one.__name__,
)
def test_every_call_that_talks_to_a_device_has_a_timeout(owner: type) -> None:
    calls = {
        name: method
        for name, method in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(method) or "observe" in name or "follow" in name)
    }
    assert len(calls) > 3
    without = {
        name for name, call in calls.items() if "timeout" not in inspect.signature(call).parameters
    }
    assert without <= WITHOUT
