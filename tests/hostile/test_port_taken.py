"""If the pairing port is in use, paired clients are served, and each new window tries again."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_app.console.control_client import call
from device_app.console.status import health_of
from device_app.errors import AppError
from device_app.pairing.hardware import Hardware
from device_app.pairing.terms import PairingTerms
from device_app.terminal.render_status import banner_lines, status_lines
from peer.pairing.methods import Method
from peer.terminal.exit_codes import ExitCode
from tests.kit.methods import HOST, add_label, paired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.device import Device, Kit


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A socket on the port that another program uses."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind((HOST, 0))
        yield other


def problems(device: Device) -> list[str]:
    health, code = health_of(device.app.status())
    assert (code is ExitCode.DONE) is bool(health["healthy"])
    return list(health["problems"])


async def test_a_device_without_an_owner_starts_and_reports_the_port_in_use(
    kit: Kit, taken: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """A board without an owner opens a window at its start, which fails here."""
    number = taken.getsockname()[1]
    with caplog.at_level(logging.ERROR):
        device = await kit.device(pairing_port=number)
        await device.app.open_first_window(pair=False)
    assert not device.app.pairing.is_open
    assert (await kit.caller(device).ask("GET", "/hello")).reason == "not-paired"
    olga = kit.known(device, "olga", "owner")
    assert (await olga.ask("GET", "/hello")).code == "2.05"
    [problem] = problems(device)
    assert f"port {number}" in problem
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [record.message for record in errors] == [
        f"{problem}. Another program uses this port. Stop it, or choose another port."
    ]
    status = device.app.status()
    assert status["window"] == {"open": False, "port": None, "trouble": problem}
    assert f"problem      {problem}" in status_lines(status)
    assert "cannot be opened" in banner_lines(status)[-1]


async def test_each_new_window_tries_to_bind_the_port_again(kit: Kit, taken: socket.socket) -> None:
    """The window is opened from the console, by the button and remotely; then the port is free."""
    device = await kit.device(
        pairing_port=taken.getsockname()[1],
        terms=PairingTerms(role="user"),
        hardware=Hardware(button=True),
    )
    await device.app.open_first_window(pair=True)
    olga = kit.known(device, "olga", "owner")
    path = device.app.paths.socket
    for verb in ("open", "press"):
        with pytest.raises(AppError, match="cannot listen") as caught:
            await call(path, verb, {})
        assert "Another program uses this port" in caught.value.advice
    refused = await olga.ask("POST", "/iam/window", {})
    assert (refused.code, refused.reason) == ("5.03", "busy")
    assert (await olga.ask("GET", "/iam/window")).body == {"open": False}
    assert not device.app.pairing.methods.shown_code, "a code is displayed without a window"
    assert problems(device)
    taken.close()
    assert problems(device), "the problem was cleared before a window was opened"
    await call(path, "open", {})
    assert device.port(pairing=True) == device.app.settings.pairing_port
    assert problems(device) == []
    await device.closed()
    assert problems(device) == [], "the problem came back after the window had been open"
    await device.open()
    await paired(kit.caller(device), add_label(device), Method.SAS)
    assert set(device.users.users) == {"anna", "olga"}


async def test_if_one_address_is_in_use_no_other_address_stays_bound(
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


async def test_paired_clients_are_served_if_the_first_window_cannot_open(kit: Kit) -> None:
    """The configured methods need a label that does not exist yet."""
    device = await kit.device(terms=PairingTerms(methods=(Method.LABEL,)))
    await device.app.open_first_window(pair=False)
    [problem] = problems(device)
    assert "handfast-device label" in problem
    olga = kit.known(device, "olga", "owner")
    assert (await olga.ask("GET", "/hello")).code == "2.05"
    await call(device.app.paths.socket, "label", {})
    await device.open()
    assert problems(device) == []
