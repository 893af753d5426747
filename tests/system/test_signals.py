"""Signals end `handfast` as Ctrl-C does: its sessions are closed first."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def paired(stage: Stage) -> tuple[Device, Client]:
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    device.admit(anna, "anna")
    return device, anna


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_a_signal_closes_the_sessions_of_the_client(stage: Stage, number: signal.Signals) -> None:
    device, anna = paired(stage)
    observing = anna.start("--json", "observe", device.name, "/board")
    observing.until("\n", on="out")
    assert len(device.status()["sessions"]) == 1
    observing.send(number)
    observing.end(code=EXIT_CODES[number])
    device.until(lambda status: not status["sessions"])


def test_a_client_that_ignores_hang_ups_continues(stage: Stage) -> None:
    """As nohup(1) starts it."""
    device, anna = paired(stage)
    anna.place = ("nohup",)
    observing = anna.start("--json", "observe", device.name, "/board")
    observing.until("\n", on="out")
    observing.send(signal.SIGHUP)
    device.run("policy", "list")
    assert observing.is_running
    observing.send(signal.SIGTERM)
    observing.end(code=143)
