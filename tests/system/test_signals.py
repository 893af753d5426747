"""Signals end `handfast` as Ctrl-C does: its sessions are closed first."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.kit.system import HOST

if TYPE_CHECKING:
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow
ON_A_TERMINAL = ("setsid", "--ctty")  # of its own, as a window of a desktop or a remote shell
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


@pytest.mark.needs_tool("setsid")
@pytest.mark.parametrize("verb", ["observe", "events"])
def test_a_closed_terminal_ends_a_client_and_its_session(stage: Stage, verb: str) -> None:
    device, anna = paired(stage)
    anna.place = ON_A_TERMINAL
    words = {"observe": "/board", "events": "--follow"}
    options = ["--interface", HOST]
    running = anna.start(verb, device.name, words[verb], options=options, terminal=True)
    running.until("\n", on="screen")
    assert len(device.status()["sessions"]) == 1
    running.close_terminal()
    running.end(code=EXIT_CODES[signal.SIGHUP])
    device.until(lambda status: not status["sessions"])


@pytest.mark.needs_tool("setsid")
def test_a_closed_terminal_ends_a_daemon_and_its_sessions(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.place = ON_A_TERMINAL
    device.boot(terminal=True)
    device.admit(anna, "anna")
    observing = anna.start("observe", device.name, "/board")
    observing.until("\n", on="out")
    device.daemon.close_terminal()
    device.daemon.end(code=0)
    said = observing.until("connecting again")
    assert "no longer responds" not in said, "the session ended with close_notify"


@pytest.mark.needs_tool("setsid")
def test_a_closed_terminal_ends_a_client_that_asks_a_question(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    opening = device.open()
    anna.place = ON_A_TERMINAL
    words = ("pair", opening.address, "--name", "anna")
    asking = anna.start(*words, options=["--interface", HOST], terminal=True)
    asking.until("Code shown", on="screen")
    asking.close_terminal()
    asking.end(code=EXIT_CODES[signal.SIGHUP])
