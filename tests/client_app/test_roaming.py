"""Sessions over a path whose carriers are lost for a while: they continue, with their observations.

The driver of the path renews the carriers. These tests take them away and give them back.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from client_app import observation
from client_app import silence as silence_module
from client_app.client import Client
from client_app.content import Gap, Reply
from tests.kit.adverts import no_adverts
from tests.kit.paths_to_board import PathsToBoard, with_settings
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from client_app.device import Device
    from tests.kit.board import Board


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(observation, "PROBE_ROUND_TRIPS", 0)
    monkeypatch.setattr(observation, "PATH_PROBE_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr(silence_module, "REQUEST_PING_SECONDS", 0.05)


@pytest.fixture
async def kitchen(paired: Client, paths: PathsToBoard, home: Path) -> AsyncIterator[Device]:
    with_settings(paired, paths)
    async with Client(home=home, look=no_adverts, via="direct,relay", open_path=paths) as client:
        yield await client.connect("kitchen")


def lose_carriers(paths: PathsToBoard) -> None:
    for end in paths.paths:
        end.other = None


def renew_carriers(paths: PathsToBoard) -> None:
    client, device = paths.paths
    client.other, device.other = device, client


async def until_pings_are_lost(paths: PathsToBoard) -> None:
    """Wait until a device at an address would be given up: it has not answered several pings."""
    await until(lambda: paths.paths[0].lost >= 3)


async def test_an_observation_goes_on_after_the_carriers_were_renewed(
    board: Board, paths: PathsToBoard, kitchen: Device
) -> None:
    states = kitchen.observe("/count", gaps=True, ping_seconds=0.05)
    async with aclosing(states):
        assert isinstance(await anext(states), Reply)
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0)
        lose_carriers(paths)
        await until_pings_are_lost(paths)
        renew_carriers(paths)
        board.observed.step()
        state = await waiting
        assert isinstance(state, Reply)
        assert (state.value, state.gap) == ({"count": 1}, None)
    assert len(paths.used) == 1


async def test_a_request_that_is_under_way_goes_on(
    board: Board, paths: PathsToBoard, kitchen: Device
) -> None:
    before = len(paths.paths[1].sent)
    answer = asyncio.ensure_future(kitchen.post("/slow"))
    await until(lambda: len(paths.paths[1].sent) > before)  # the request is acknowledged
    await until(lambda: ("POST", "/slow") in board.requests)
    lose_carriers(paths)
    await until_pings_are_lost(paths)
    renew_carriers(paths)
    board.gate.set()
    assert (await answer).text == "at last"
    assert len(paths.used) == 1


async def test_a_silent_session_is_not_replaced_while_its_path_gets_carriers(
    paths: PathsToBoard, kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kitchen.get("/hello")
    monkeypatch.setattr("client_app.session.SILENT_SECONDS", 0.0)
    lose_carriers(paths)
    answer = asyncio.ensure_future(kitchen.get("/hello"))
    await until_pings_are_lost(paths)
    assert not answer.done()
    renew_carriers(paths)
    assert (await answer).code == "2.05"
    assert len(paths.used) == 1


async def test_a_device_that_never_answers_again_is_given_up(
    paths: PathsToBoard, kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = kitchen.observe("/count", gaps=True, ping_seconds=0.05)
    async with aclosing(states):
        await anext(states)
        lose_carriers(paths)
        with monkeypatch.context() as impatient:
            impatient.setattr(observation, "PATH_GRACE_SECONDS", 0.1)
            assert isinstance(await anext(states), Gap)
        state = await anext(states)
        assert isinstance(state, Reply)
        assert state.gap is not None
    assert len(paths.used) == 2


async def test_the_end_of_a_path_ends_the_session_at_once(
    paths: PathsToBoard, kitchen: Device
) -> None:
    states = kitchen.observe("/count", gaps=True, ping_seconds=None)
    async with aclosing(states):
        await anext(states)
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0)
        for end in list(paths.paths):
            end.lose()
        assert isinstance(await waiting, Gap)
        assert isinstance(await anext(states), Reply)
    assert len(paths.used) == 2


async def test_a_request_beside_an_observation_does_not_end_its_session(
    paths: PathsToBoard, kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "PATH_PROBE_SECONDS", 0.0)
    monkeypatch.setattr("client_app.session.SILENT_SECONDS", 0.0)
    async with aclosing(kitchen.observe("/count", ping_seconds=None)) as states:
        await anext(states)
        lose_carriers(paths)
        answer = asyncio.ensure_future(kitchen.get("/hello"))
        await until_pings_are_lost(paths)
        renew_carriers(paths)
        assert (await answer).code == "2.05"
    assert len(paths.used) == 1
