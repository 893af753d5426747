"""Pairing with the address that `discover` prints, and at other ports than the pairing port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client_app.client import Client
from client_app.pairing import pairing_port
from peer.errors import NotLocal, OtherPort, PeerError, Unreachable, WindowClosed
from peer.net.problem import ProblemError, error_of
from tests.kit.daemon import HOST
from tests.kit.internals import answer_all
from tests.kit.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Device, Kit


@pytest.fixture
def free_port() -> int:
    return next(free_ports(HOST))


@pytest.fixture
async def device(kit: Kit) -> Device:
    return await kit.device()


def regular(device: Device) -> str:
    return f"{HOST}:{device.app.server.port}"


async def pair(device: Device, home: Path, target: str) -> str:
    """Pair by the device's code at an address; return the stored one."""
    async with Client(home=home) as client:
        code = device.app.status()["window"].get("code", "000000")
        done = await client.pair(target, name="anna", code=code)
    return done.device.last_seen


async def test_the_regular_port_leads_to_the_pairing_port(device: Device, tmp_path: Path) -> None:
    await device.open()
    assert await pair(device, tmp_path, regular(device)) == regular(device)
    assert device.app.pairing.budget.failures == 0


async def test_a_closed_window_is_reported_by_the_regular_port(
    device: Device, tmp_path: Path
) -> None:
    with pytest.raises(WindowClosed, match="closed") as caught:
        await pair(device, tmp_path, regular(device))
    assert "handfast-device open" in caught.value.advice
    assert caught.value.exit_code == 11


async def test_an_address_without_a_port_leads_to_the_pairing_port(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on the usual pairing port, so the usual regular port is asked."""
    monkeypatch.setattr(pairing_port, "REGULAR_PORT", device.app.server.port)
    with pytest.raises(WindowClosed):
        await pair(device, tmp_path, HOST)
    await device.open()
    assert await pair(device, tmp_path, HOST) == regular(device)


async def test_a_client_elsewhere_gets_the_error_that_it_is_not_local(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not be told that the window is closed, which it cannot know."""
    device = await kit.device(allow_loopback=False)
    monkeypatch.setattr(pairing_port, "REGULAR_PORT", device.app.server.port)
    for target in (HOST, regular(device)):
        with pytest.raises(NotLocal):
            await pair(device, tmp_path, target)


async def test_a_port_where_nothing_listens_is_no_closed_window_if_no_daemon_runs(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr(pairing_port, "REGULAR_PORT", free_port)
    with pytest.raises(Unreachable, match="nothing listens") as caught:
        await pair(device, tmp_path, HOST)
    assert caught.value.refused
    assert "handfast-device run" in caught.value.advice
    with pytest.raises(Unreachable, match=f"nothing listens at {HOST}:{free_port}"):
        await pair(device, tmp_path, f"{HOST}:{free_port}")


async def test_an_unusual_port_where_nothing_listens_may_be_that_of_a_closed_window(
    device: Device, tmp_path: Path, free_port: int
) -> None:
    """The regular port may be an unusual one as well."""
    with pytest.raises(WindowClosed):
        await pair(device, tmp_path, f"{HOST}:{free_port}")


class Circle:
    """A device's hook that names a port for pairing, whatever it is asked."""

    def __init__(self, port: int | None) -> None:
        self.port = port
        self.asked = 0

    def __call__(self, _request: object, _path: object, _resource: object) -> None:
        self.asked += 1
        raise ProblemError("pairing-port", "elsewhere", "Try there.", port=self.port)


@pytest.mark.parametrize("where", ["itself", "nowhere", "each other"])
async def test_a_device_cannot_lead_a_client_in_a_circle(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await device.open()
    pairing = device.app.pairing.port
    ports = {"itself": device.app.server.port, "nowhere": None, "each other": pairing.number}
    here, there = Circle(ports[where]), Circle(device.app.server.port)
    answer_all(device.app.site, here, monkeypatch)
    answer_all(pairing.site, there, monkeypatch)
    with pytest.raises(OtherPort):
        await pair(device, tmp_path, regular(device))
    assert here.asked + there.asked <= 2


@pytest.mark.parametrize("port", [0, -1, 65536, True, "5685", None, 5685.0])
def test_a_port_that_is_none_is_not_followed(port: object) -> None:
    refusal = ProblemError("pairing-port", "elsewhere", "Try there.", port=port)  # type: ignore[arg-type]
    error = error_of(refusal.to_message())
    assert isinstance(error, OtherPort)
    assert error.port == 0


async def test_other_verbs_name_the_regular_port_in_words(kit: Kit, device: Device) -> None:
    """A paired client that asks for /pair learns where pairing is."""
    owner = await kit.paired(device, "olga")
    await device.open()
    answer = await owner.ask("GET", "/pair")
    number = device.app.pairing.port.number
    assert str(number) in answer.body[-1]
    assert str(number) in answer.body[-2]
    assert isinstance(error_of(answer.message), PeerError)
