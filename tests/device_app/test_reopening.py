"""Opening a window that is already open: it is extended, or its methods change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.control_client import call
from device_app.errors import AppError
from device_app.pairing import labels
from device_app.pairing.events import PairingEventKind
from device_app.pairing.hardware import Hardware
from device_app.terminal.render_pairing import closed_lines
from peer.errors import UsageError
from peer.pairing.window_timer import CloseReason
from tests.kit.waiting import TIMEOUT_SECONDS, stop_time

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


def offered(device: Device) -> list[str]:
    window = device.app.pairing.window
    assert window is not None
    return list(window.methods)


async def test_other_methods_replace_a_window_without_a_ceremony(device: Device) -> None:
    service = device.app.pairing
    stop_time()
    await device.open(seconds=100, role="user")
    first = service.window
    assert offered(device) == ["code", "sas", "compare"]
    await device.open(seconds=50)
    assert service.window is first
    await device.open(methods=["sas"], seconds=30)
    assert service.window is not first
    assert offered(device) == ["sas"]
    assert service.seconds_left == pytest.approx(100)
    assert service.methods.shown_code == ""
    assert service.window is not None
    assert service.window.role == "user"
    # The same methods do not replace the window.
    second = service.window
    await device.open(methods=["sas"])
    assert service.window is second


async def test_a_label_that_is_created_later_is_offered(device: Device) -> None:
    service = device.app.pairing
    await device.open()
    label, _ = labels.made(device.app.access, device.fingerprint, replace=False)
    service.methods.replace_label(label)
    await device.open()
    assert offered(device) == ["label", "code", "sas", "compare"]


async def test_the_button_is_offered_after_it_was_pressed(kit: Kit) -> None:
    device = await kit.device(hardware=Hardware(button=True))
    await device.open()
    assert "button" not in offered(device)
    await device.open(pressed=True)
    assert "button" in offered(device)
    await device.open()
    assert "button" in offered(device)


async def test_a_ceremony_prevents_a_change_of_the_methods(kit: Kit, device: Device) -> None:
    await device.open()
    caller = kit.caller(device)
    first = device.app.pairing.window
    await caller.start("anna")
    await device.open(seconds=200)
    with pytest.raises(UsageError, match="a client is pairing"):
        await device.open(methods=["sas"])
    assert device.app.pairing.window is first


async def test_a_press_of_ten_seconds_opens_a_window_for_an_owner(kit: Kit) -> None:
    """If the owners have lost their clients, a user at the board becomes owner (protocol §5.12)."""
    device = await kit.device(hardware=Hardware(button=True))
    await device.open(role="user")
    for held, role in ((3, "user"), (9.9, "user"), (10, "owner")):
        await call(device.app.paths.socket, "press", {"held": held})
        assert device.app.pairing.role_for(None) == role
    await call(device.app.paths.socket, "press", {"held": 12})
    assert device.app.pairing.role_for(None) == "owner"


async def test_press_is_refused_on_a_board_without_a_button(device: Device) -> None:
    with pytest.raises(AppError, match="no button"):
        await call(device.app.paths.socket, "press", {"held": 12})
    assert not device.app.pairing.is_open


async def test_a_window_that_closes_while_its_port_opens_ends_the_command_that_waits(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time may be up, or another command may close it."""
    port = device.app.pairing.port
    reconcile = port.reconcile

    async def reconcile_and_close() -> None:
        await reconcile()
        device.app.pairing.close_window()

    monkeypatch.setattr(port, "reconcile", reconcile_and_close)
    shown: list[Any] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answer = await call(device.app.paths.socket, "open", {"wait": True}, on_event=shown.append)
    assert answer == {"paired": None, "closed": CloseReason.CONSOLE, "refused": False}
    assert shown == []


async def test_a_window_that_is_replaced_is_not_reported_as_closed(kit: Kit) -> None:
    """The button adds a method, and a long press another role: each takes a new window."""
    device = await kit.device(hardware=Hardware(button=True))
    reasons: list[str] = []
    device.app.pairing.events.subscribe(
        lambda event: (
            reasons.append(event.reason) if event.kind is PairingEventKind.CLOSED else None
        )
    )
    await device.open(role="user")
    for held in (0.3, 12):
        await call(device.app.paths.socket, "press", {"held": held})
        assert device.app.pairing.is_open
    assert reasons == [CloseReason.REPLACED] * 2
    assert "was closed" not in " ".join(closed_lines(CloseReason.REPLACED))
