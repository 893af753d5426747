"""A session continues when the network below it changes, and comes back when a server does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.nat_lab import Nat
from tests.kit.remote_home import RemoteHome, remote_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.namespaces import Namespaces
    from tests.kit.process import Program
    from tests.kit.system import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver"),
]

LAMP = Path(__file__).parents[3] / "examples" / "lamp.py"


@pytest.fixture
def home(stage: Stage, namespaces: Namespaces) -> Iterator[RemoteHome]:
    """A device with a lamp, and its owner away from it."""
    with remote_home(stage, namespaces, modules=[LAMP]) as made:
        yield made


def observing(home: RemoteHome, *options: str) -> Program:
    watching = home.client.start("observe", "kitchen", "/lamp", *options)
    watching.until("off\n", on="out")
    return watching


def switch(home: RemoteHome, state: str) -> None:
    home.client.run("put", "kitchen", "/lamp", "--data", state)


def handshakes(home: RemoteHome) -> int:
    return int(home.device.status()["counters"]["regular"]["handshakes"])


def test_an_observation_goes_on_when_its_client_moves_to_another_network(home: RemoteHome) -> None:
    home.lab.move_away(Nat.CONE)
    watching = observing(home)
    before = handshakes(home)
    home.lab.move_away(Nat.OPEN)  # another address, and no NAT any more
    home.lab.client.cut()  # or its router would still translate for the former address
    home.lab.client.mend()
    switch(home, "on")
    watching.until("on\n", on="out")
    assert handshakes(home) == before + 1, "the session of the switch, and no other"
    assert watching.output("err") == ""


def test_an_observation_goes_on_when_a_relay_takes_over(home: RemoteHome) -> None:
    home.lab.move_away(Nat.CONE)
    watching = observing(home)
    before = handshakes(home)
    home.lab.move_away(Nat.BLOCKED)
    switch(home, "on")
    watching.until("on\n", on="out")
    assert handshakes(home) == before + 1
    assert watching.output("err") == ""


def test_the_device_comes_back_after_its_broker_has(home: RemoteHome) -> None:
    home.lab.move_away(Nat.SYMMETRIC)
    watching = observing(home)
    home.broker.process.stop()
    home.device.until(lambda status: status["remote"]["state"] != "attached")
    home.broker.process.start()
    home.attached()
    switch(home, "on")
    watching.until("on\n", on="out")  # its path needs no broker


def test_a_client_comes_back_after_its_relay_has(home: RemoteHome) -> None:
    home.lab.move_away(Nat.BLOCKED)
    watching = observing(home)
    before = handshakes(home)
    home.relay.process.stop()
    home.relay.process.start()
    switch(home, "on")
    watching.until("on\n", on="out")
    assert handshakes(home) == before + 1
