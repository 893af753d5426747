"""Pairing with a device that has several addresses, of which only one works."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from client_app.client import Client
from client_app.pairing.ceremony import Comparison
from peer.errors import NotLocal, PinMismatch, Unreachable
from peer.net.discovery import Advert
from tests.kit.board import Board


@pytest.fixture
async def remote(board: Board) -> AsyncIterator[Board]:
    """The device of `board` at another port, over a path that is not local.

    It stands for another address of the device, for example in a VPN.
    """
    made = Board(board.identity)
    made.local = False
    await made.start()
    await made.open()
    yield made
    await made.close()


def look_for(*adverts: Advert) -> AsyncIterator[Advert]:
    async def look() -> AsyncIterator[Advert]:
        for advert in adverts:
            yield advert

    return look()


async def confirm(_question: Comparison) -> bool:
    return True


async def test_a_refusal_at_one_address_does_not_prevent_pairing_at_another(
    board: Board, other: Board, remote: Board, home: Path
) -> None:
    await board.open()
    await other.open()
    wrong = replace(other.advert(), device_id=board.fingerprint.device_id, name="kitchen")
    adverts = (wrong, remote.advert(), board.advert())
    async with Client(home=home, look=lambda: look_for(*adverts)) as client:
        board.answers.put_nowait(True)
        done = await client.pair("kitchen", confirm=confirm)
    assert done.device.port == board.regular.port


async def test_the_refusal_is_reported_if_no_address_works(
    board: Board, other: Board, remote: Board, home: Path
) -> None:
    await other.open()
    wrong = replace(other.advert(), device_id=board.fingerprint.device_id, name="kitchen")
    async with Client(home=home, look=lambda: look_for(wrong, remote.advert())) as client:
        with pytest.raises(NotLocal):
            await client.pair("kitchen", confirm=confirm)
        assert client.devices == []


async def test_an_impostor_with_the_announced_name_and_id_is_not_paired_with(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    wrong = replace(other.advert(), device_id=board.fingerprint.device_id, name="kitchen")
    async with Client(home=home, look=lambda: look_for(wrong)) as client:
        with pytest.raises(Unreachable, match="another key answered"):
            await client.pair("kitchen", confirm=confirm)
        stated = f"127.0.0.1:{other.pairing.port}"
        with pytest.raises(PinMismatch):
            await client.pair(stated, expect=board.fingerprint, confirm=confirm)
        assert client.devices == []
