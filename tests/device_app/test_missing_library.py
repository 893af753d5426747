"""A device without pycryptodome offers no pairing by a code, and says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from device_app.console.pairing_console import window_view
from device_app.terminal.render_pairing import window_lines
from device_app.terminal.render_status import status_lines
from peer.errors import UsageError

if TYPE_CHECKING:
    from tests.kit.device import Kit

REASON = "pycryptodome is not installed; install pycryptodome 4 or newer"
SAID = f"The method code is not offered: {REASON}."


@pytest.fixture
def _no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = SimpleNamespace(unavailable=lambda: REASON, missing=lambda: REASON)
    monkeypatch.setattr("device_app.pairing.methods.jpake", lacking)


@pytest.mark.usefixtures("_no_curve")
async def test_the_log_the_window_and_the_status_say_why_no_code_is_offered(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    device = await kit.device()
    assert f"the pairing method code is not offered: {REASON}" in caplog.messages
    await device.open(role="user")
    window = window_view(device.app.pairing)
    assert window["methods"] == ["sas", "compare"]
    assert window["not_offered"] == {"code": REASON}
    assert "code" not in window
    assert SAID in window_lines(window)
    status = device.app.status()
    assert any(line.strip() == SAID for line in status_lines(status))


@pytest.mark.usefixtures("_no_curve")
async def test_a_window_with_a_code_is_refused_with_what_to_do(kit: Kit) -> None:
    device = await kit.device()
    with pytest.raises(UsageError, match="the method code cannot be offered") as error:
        await device.open(role="user", methods=("code",))
    assert REASON in str(error.value)
    assert "board" not in error.value.advice
    assert "start the daemon again" in error.value.advice


async def test_with_the_library_nothing_is_said(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    device = await kit.device()
    await device.open(role="user")
    window = window_view(device.app.pairing)
    assert "code" in window["methods"]
    assert "not_offered" not in window
    assert not any("not offered" in line for line in [*window_lines(window), *caplog.messages])
