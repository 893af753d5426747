"""A pairing port in use: paired clients are served, and each window tries again."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_app.console.control_client import call
from device_app.console.status import health_of
from device_app.errors import AppError
from device_app.pairing.methods import Hardware
from device_app.pairing.terms import PairingTerms
from device_app.terminal.render_status import banner_lines, status_lines
from peer.pairing.methods import Method
from peer.terminal.exit_codes import ExitCode
from tests.kit.methods import HOST, labelled, paired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.device import Device, Kit


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """Another program's port."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind((HOST, 0))
        yield other


def complaints(device: Device) -> list[str]:
    health, code = health_of(device.app.status())
    assert (code is ExitCode.DONE) is bool(health["healthy"])
    return list(health["problems"])


async def test_a_board_without_an_owner_starts_serves_and_says_what_is_wrong(
    kit: Kit, taken: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a board opens a window by itself at its start. Here it cannot."""
    number = taken.getsockname()[1]
    with caplog.at_level(logging.ERROR):
        device = await kit.device(pairing_port=number)
        await device.app.open_first_window(pair=False)
    assert not device.app.pairing.is_open
    assert (await kit.caller(device).ask("GET", "/hello")).reason == "not-paired"
    olga = kit.known(device, "olga", "owner")
    assert (await olga.ask("GET", "/hello")).code == "2.05"
    [problem] = complaints(device)
    assert f"port {number}" in problem
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [record.message for record in errors] == [
        f"{problem}. Another program uses this port. Stop it, or choose another port."
    ]
    status = device.app.status()
    assert status["window"] == {"open": False, "port": None, "trouble": problem}
    assert f"problem      {problem}" in status_lines(status)
    assert "cannot be opened" in banner_lines(status)[-1]


async def test_each_window_tries_again(kit: Kit, taken: socket.socket) -> None:
    """From the console, remotely, by the button; when the port is free, they pair."""
    device = await kit.device(
        pairing_port=taken.getsockname()[1],
        terms=PairingTerms(role="user"),
        hardware=Hardware(button=True),
    )
    await device.app.open_first_window(pair=True)
    olga = kit.known(device, "olga", "owner")
    place = device.app.paths.socket
    for verb in ("open", "press"):
        with pytest.raises(AppError, match="cannot listen") as caught:
            await call(place, verb, {})
        assert "Another program uses this port" in caught.value.advice
    refused = await olga.ask("POST", "/iam/window", {})
    assert (refused.code, refused.reason) == ("5.03", "busy")
    assert (await olga.ask("GET", "/iam/window")).body == {"open": False}
    assert not device.app.pairing.methods.shown_code, "a code of no window"
    assert complaints(device)
    taken.close()
    assert complaints(device), "no one has tried yet"
    await call(place, "open", {})
    assert device.port(pairing=True) == device.app.settings.pairing_port
    assert complaints(device) == []
    await device.closed()
    assert complaints(device) == [], "it was open since"
    await device.open()
    await paired(kit.caller(device), labelled(device), Method.SAS)
    assert set(device.users.users) == {"anna", "olga"}


async def test_of_several_addresses_none_stays_open_if_one_is_taken(
    kit: Kit, taken: socket.socket
) -> None:
    number = taken.getsockname()[1]
    device = await kit.device(pairing_port=number, listen=("127.0.0.2", HOST))
    await device.app.open_first_window(pair=True)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("127.0.0.2", number))
    taken.close()
    await device.open()
    assert device.port(pairing=True) == number


async def test_no_window_that_cannot_be_keeps_paired_clients_out(kit: Kit) -> None:
    """The same for what the configuration asks of a first window, and the board cannot do yet."""
    device = await kit.device(terms=PairingTerms(methods=(Method.LABEL,)))
    await device.app.open_first_window(pair=False)
    [problem] = complaints(device)
    assert "handfast-device label" in problem
    olga = kit.known(device, "olga", "owner")
    assert (await olga.ask("GET", "/hello")).code == "2.05"
    await call(device.app.paths.socket, "label", {})
    await device.open()
    assert complaints(device) == []
