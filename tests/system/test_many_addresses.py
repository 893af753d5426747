"""Two machines with container networks of the same address, and a device on each of them.

    kitchen 192.168.1.1 ── cable ── 192.168.1.2 desk, and the client
            172.17.0.1                172.17.0.1
            fifteen more networks

The client must reach the kitchen, and must not raise an alarm because the desk answers at an
address that the kitchen has as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.kit.namespaces import Namespace, Namespaces
    from tests.kit.system import Client, Device, Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip")]

REGULAR, PAIRING = 5684, 5685
CONTAINERS: Final = "172.17.0.1"
LAN: Final = "192.168.1.1"


@pytest.fixture
def machines(namespaces: Namespaces) -> tuple[Namespace, Namespace]:
    one, other = namespaces.add(), namespaces.add()
    for number in range(16):
        for machine in (one, other)[: 1 if number else 2]:
            bridge = f"br{number}"
            machine.ip("link", "add", bridge, "type", "bridge")
            machine.ip("addr", "add", f"172.{17 + number}.0.1/16", "dev", bridge)
            machine.ip("link", "set", bridge, "up")
    namespaces.join(one, other)
    for number, machine in enumerate((one, other), start=1):
        machine.ip("addr", "add", f"192.168.1.{number}/24", "dev", "eth0")
        machine.ip("addr", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
    return one, other


def place(machine: Namespace) -> tuple[str, ...]:
    return ("ip", "netns", "exec", machine.name)


def boot(stage: Stage, name: str, machine: Namespace) -> Device:
    """Start a device with default settings, whose pairing window is open because it has no user."""
    device = stage.device(name, announced=True)
    device.place = place(machine)
    device.run_options, device.port, device.pairing_port = [], REGULAR, PAIRING
    settings = device.home / "device.d" / "cable.toml"
    settings.parent.mkdir()
    settings.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
    device.boot()
    return device


def sessions(device: Device) -> int:
    counters = device.status()["counters"]
    return sum(side.get("handshakes", 0) for side in counters.values())


def invited(client: Client, *addresses: str) -> None:
    """Store addresses of the kitchen, as an invite names them."""
    known = client.book.find("kitchen")
    client.book.update(
        known.fingerprint, lambda one: replace(one, last_seen="", addresses=addresses)
    )


def test_a_client_reaches_the_device_that_it_means(
    machines: tuple[Namespace, Namespace], stage: Stage
) -> None:
    kitchen, desk = (
        boot(stage, name, machine)
        for name, machine in zip(("kitchen", "desk"), machines, strict=True)
    )
    anna = stage.client("anna")
    anna.place = place(machines[1])

    kitchen.pair(anna, "anna", target="kitchen")
    assert anna.book.find("kitchen").last_seen in {
        f"{LAN}:{REGULAR}",
        f"[fe80::1%eth0]:{REGULAR}",
    }

    invited(anna, f"{CONTAINERS}:{REGULAR}", f"{LAN}:{REGULAR}")
    assert "kitchen" in anna.run("get", "kitchen", "/hello").out
    assert sessions(desk) == 0, "the address of this machine was tried"

    kitchen.stop()
    invited(anna, f"{CONTAINERS}:{REGULAR}")
    failed = anna.start("--json", "get", "kitchen", "/hello").end(code=3).error
    assert failed["kind"] == "Unreachable"
    assert "address of this machine" in failed["message"]


def test_a_link_local_network_is_enough(
    machines: tuple[Namespace, Namespace], stage: Stage
) -> None:
    for number, machine in enumerate(machines, start=1):
        machine.ip("addr", "del", f"192.168.1.{number}/24", "dev", "eth0")
    kitchen = boot(stage, "kitchen", machines[0])
    anna = stage.client("anna")
    anna.place = place(machines[1])
    kitchen.pair(anna, "anna", target="kitchen")
    assert anna.book.find("kitchen").last_seen == f"[fe80::1%eth0]:{REGULAR}"
    assert "kitchen" in anna.run("get", "kitchen", "/hello").out
