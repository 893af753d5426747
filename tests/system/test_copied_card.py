"""A copied SD card: two real devices with one key announce themselves on one link."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.kit.namespaces import Namespace, Namespaces, add_addresses

if TYPE_CHECKING:
    from tests.kit.system import Device, Party, Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip")]


def put(party: Party, namespace: Namespace) -> None:
    party.place = ("ip", "netns", "exec", namespace.name)


def plug_in(namespaces: Namespaces, switch: Namespace, number: int) -> Namespace:
    """Connect a new namespace, with the address of that number, to the switch."""
    made = namespaces.add()
    port = f"port{number}"
    namespaces.join(made, switch, names=("eth0", port))
    switch.ip("link", "set", port, "master", "eth0")
    add_addresses(made, "eth0", number)
    return made


def announced(device: Device) -> Device:
    device.run_options, device.port, device.pairing_port = [], 5684, 5685
    (device.home / "device.d").mkdir(exist_ok=True)
    settings = device.home / "device.d" / "cables.toml"
    settings.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
    return device


def test_two_devices_with_one_key_are_noticed_by_all(namespaces: Namespaces, stage: Stage) -> None:
    lan = namespaces.add()
    lan.ip("link", "add", "eth0", "type", "bridge")
    lan.ip("link", "set", "eth0", "up")
    add_addresses(lan, "eth0", 2)
    anna = stage.client("anna")
    put(anna, lan)
    kitchen = announced(stage.device(announced=True))
    copy = announced(stage.device("copy", announced=True))
    put(kitchen, plug_in(namespaces, lan, 1))
    put(copy, plug_in(namespaces, lan, 3))

    kitchen.boot()
    kitchen.admit(anna, "anna")

    # The card is copied: the same key, name and users.
    kitchen.stop()
    for file in kitchen.home.iterdir():
        if file.is_file():
            shutil.copy2(file, copy.home)
    kitchen.boot()
    copy.boot()

    for device, other in ((kitchen, "192.0.2.3"), (copy, "192.0.2.1")):
        status = device.until(lambda now: bool(now["elsewhere"]))
        assert other in [one["address"] for one in status["elsewhere"]]
        assert "handfast-device new-identity" in device.run("status").out
        assert device.events("identity-elsewhere")

    seen = anna.run("discover", "--timeout", "10s")
    assert "(two devices)" in seen.out
    assert "handfast-device new-identity" in seen.err
    doctor = anna.run("doctor", "kitchen").out
    assert "two devices have the key of kitchen" in doctor
    assert "handfast-device new-identity" in doctor

    # The way out: the copy gets a key of its own.
    copy.stop()
    copy.run("new-identity", "--yes")
    copy.boot()
    apart = anna.run("--json", "discover", "--timeout", "10s").value["devices"]
    assert sorted(one["shared"] for one in apart) == [False, False]
