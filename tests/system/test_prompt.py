"""A person at the prompt for the code: Ctrl-C, and a window that closes meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.process import Program
    from tests.kit.system import Client, Stage

pytestmark = pytest.mark.slow

PROMPT = "Code shown by the device"


def asked(anna: Client, port: int) -> Program:
    asking = anna.start("pair", f"127.0.0.1:{port}", "--name", "anna", terminal=True)
    asking.until(PROMPT, on="screen")
    return asking


def test_ctrl_c_at_the_prompt_costs_no_attempt(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    port = device.boot()["window"]["port"]
    for _ in range(4):  # one more than a window has attempts
        asking = asked(anna, port)
        asking.send(signal.SIGINT)
        asking.end(code=130)
    status = device.until(lambda status: not status["sessions"])
    assert (status["failures"], status["window"]["failures"]) == (0, 0)
    assert status["window"]["open"]
    assert not anna.aliases


def test_a_window_that_closes_at_the_prompt_is_reported_with_the_next_step(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    window = device.boot()["window"]
    asking = asked(anna, window["port"])
    device.run("close")
    asking.type("1234-5678")
    ended = asking.end(code=11)
    assert "handfast-device open" in ended.out
    assert device.status()["failures"] == 0
