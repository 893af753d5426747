"""One key at two places: `doctor` finds it by tickets, and a search by what both announce."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client_app.client import Client
from client_app.doctor import diagnose
from client_app.models import Check
from peer.identity import Identity
from peer.net.discovery import Advert
from tests.kit.board import Board
from tests.kit.serve import HOST

BoardAt = tuple[Board, str]


@pytest.fixture
async def copy(keys: Callable[[int], Identity]) -> AsyncIterator[Board]:
    """A device whose SD card is a copy of that of `board`."""
    made = Board(keys(0))
    await made.start()
    yield made
    await made.close()


async def copies(client: Client) -> list[Check]:
    found = [check async for check in diagnose(client, "kitchen")]
    return [check for check in found if check.name == "copies"]


def at(*boards: Board) -> tuple[str, ...]:
    return tuple(f"{HOST}:{board.regular.port}" for board in boards)


async def test_two_devices_with_one_key_are_noticed(
    board: Board, copy: Board, paired: Client
) -> None:
    paired.book.put(replace(paired.devices[0], addresses=at(board, copy)))
    (check,) = await copies(paired)
    assert check.verdict == "note"
    for place in at(board, copy):
        assert place in check.said
    assert "`handfast-device new-identity`" in check.advice


@pytest.mark.usefixtures("paired")
async def test_a_copy_that_is_announced_is_noticed(board: Board, copy: Board, home: Path) -> None:
    async def look() -> AsyncIterator[Advert]:
        for one in (board, copy):
            yield one.advert()

    async with Client(home=home, look=look) as client:
        assert len(await copies(client)) == 1


async def test_one_device_with_several_addresses_is_one(board: Board, paired: Client) -> None:
    addresses = (*at(board), f"localhost:{board.regular.port}", f"127.1:{board.regular.port}")
    paired.book.put(replace(paired.devices[0], addresses=addresses))
    assert await copies(paired) == []


async def test_another_port_of_the_device_is_no_copy(board: Board, paired: Client) -> None:
    """The pairing port has the same key, and accepts no tickets."""
    assert board.pairing is not None
    pairing = f"{HOST}:{board.pairing.port}"
    paired.book.put(replace(paired.devices[0], addresses=(*at(board), pairing)))
    assert await copies(paired) == []


async def test_places_without_the_key_are_left_out(
    board: Board, other: Board, paired: Client
) -> None:
    addresses = (*at(board, other), f"{HOST}:9")
    paired.book.put(replace(paired.devices[0], addresses=addresses))
    assert await copies(paired) == []


async def searched(home: Path, *adverts: Advert) -> None:
    """Connect to the device at its announced addresses."""

    async def look() -> AsyncIterator[Advert]:
        for one in adverts:
            yield one

    async with Client(home=home, look=look) as client:
        known = client.book.find("kitchen")
        client.book.put(replace(known, last_seen="", addresses=()))
        answer = await (await client.connect("kitchen")).get("/hello")
        assert str(answer.text).startswith("hello")


@pytest.mark.usefixtures("paired")
async def test_a_search_that_hears_two_devices_with_one_id_says_so_once(
    board: Board, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = replace(board.advert(), start="00000001")
    there = replace(here, addresses=("127.0.0.2",), start="00000002")
    await searched(home, there, here, there, here)
    [line] = [one.getMessage() for one in caplog.records if "two devices" in one.getMessage()]
    assert "as kitchen, at 127.0.0.1, 127.0.0.2" in line
    assert "`handfast-device new-identity`" in line


@pytest.mark.usefixtures("paired")
async def test_one_device_with_two_links_or_an_older_one_is_not_reported(
    board: Board, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = replace(board.advert(), start="00000001")
    by_wifi = replace(here, addresses=("127.0.0.2",), interface=3)
    older = replace(here, addresses=("127.0.0.3",), start="")
    restarted = replace(here, start="00000002")
    await searched(home, by_wifi, older, here, restarted)
    assert "two devices" not in caplog.text
