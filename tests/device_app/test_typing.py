"""Events while a person types the code: wrong codes, a window that closes, giving up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from client_app.client import Client
from client_app.errors import Declined
from peer.errors import PeerError, RefusedByUser, WindowClosed, WrongCode
from peer.net.tasks import cancel_all
from tests.kit.daemon import HOST
from tests.kit.device import LINGERING
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.kit.device import Device, Kit


@pytest.fixture
async def device(kit: Kit) -> Device:
    made = await kit.device()
    await made.open()
    return made


async def pair(device: Device, home: Path, code: Callable[[], Awaitable[str]] | str) -> Any:
    async with Client(home=home) as client:
        target = f"{HOST}:{device.app.pairing.port.number or device.app.server.port}"
        return await client.pair(target, name="anna", method="code", code=code)


def shown_code(device: Device) -> str:
    return device.app.status()["window"]["code"]


def wrong_code(device: Device) -> str:
    return "1234-5678" if shown_code(device) != "1234-5678" else "1234-5679"


async def test_the_last_wrong_code_says_that_the_window_has_closed(
    device: Device, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(WrongCode) as caught:
            await pair(device, tmp_path, wrong_code(device))
        assert "has closed" not in caught.value.advice
    with pytest.raises(WrongCode) as caught:
        await pair(device, tmp_path, wrong_code(device))
    assert "the pairing window has closed" in caught.value.advice
    assert "Open the window" in caught.value.advice
    with pytest.raises(WindowClosed):
        await pair(device, tmp_path, "1234-5678")


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_window_that_closes_while_a_person_types_is_a_closed_window(
    device: Device, tmp_path: Path, *, is_right: bool
) -> None:
    code = shown_code(device) if is_right else wrong_code(device)

    async def type_slowly() -> str:
        await device.closed()
        return code

    with pytest.raises(WindowClosed) as caught:
        await pair(device, tmp_path, type_slowly)
    assert caught.value.exit_code == 11
    assert "open" in caught.value.advice
    assert device.app.pairing.budget.failures == 0


async def test_giving_up_before_the_code_is_typed_costs_no_attempt(
    device: Device, tmp_path: Path
) -> None:
    asked = asyncio.Event()

    async def give_up() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    for _ in range(4):  # one more than a window has attempts
        asked.clear()
        typing = asyncio.ensure_future(pair(device, tmp_path, give_up))
        await asyncio.wait_for(asked.wait(), 60)
        await cancel_all([typing])
    await until(lambda: not device.app.pairing.port.sessions())
    status = device.app.status()
    assert (status["failures"], status["window"]["failures"]) == (0, 0)
    assert status["window"]["open"]
    assert (await pair(device, tmp_path, shown_code(device))).device.user == "anna"


async def test_a_code_that_is_none_costs_no_attempt(device: Device, tmp_path: Path) -> None:
    for text in ("", "12", "what is it", "1" * 40):
        with pytest.raises(PeerError):
            await pair(device, tmp_path, text)
    assert device.app.status()["failures"] == 0


@pytest.mark.parametrize("who", ["client", "device"])
@pytest.mark.parametrize("method", ["compare", "sas"])
async def test_the_last_refusal_says_that_the_window_has_closed(
    kit: Kit, tmp_path: Path, method: str, who: str
) -> None:
    device = await kit.device(limits=LINGERING)
    await device.open(methods=[method])

    async def decline(_question: object) -> bool:
        if who == "client":
            return False
        await device.until(lambda: device.app.pairing.ceremonies.pending() is not None)
        device.decide(accept=False)
        await asyncio.Event().wait()
        return True

    error = Declined if who == "client" else RefusedByUser
    for turn in range(3):
        async with Client(home=tmp_path) as client:
            target = f"{HOST}:{device.app.pairing.port.number}"
            with pytest.raises(error) as caught:
                await client.pair(target, name="anna", method=method, confirm=decline)
        assert ("window has closed" in caught.value.advice) == (turn == 2)
