"""The programs of examples/ run: the modules in a daemon, the scripts against it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from tests.kit.server_process import free_port
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.process import Program
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
HOST = "127.0.0.1"
EV_KEY, KEY_ENTER, PRESSED, RELEASED = 1, 28, 1, 0


def serve(device: Device, module: str) -> None:
    """Copy a module of examples/ to the device, name it in the settings, and run the daemon."""
    (device.home / "modules").mkdir()
    shutil.copy(EXAMPLES / f"{module}.py", device.home / "modules")
    (device.home / "device.d" / "module.toml").write_text(f'[resources]\nmodules = ["{module}"]\n')
    device.boot()


def script(stage: Stage, client: Client, name: str, *args: str) -> Program:
    """Run a script of examples/ as a user would, with the key and devices of this client."""
    environment = {"HANDFAST_HOME": str(client.home), "HANDFAST_INTERFACES": HOST}
    return stage.start([sys.executable, str(EXAMPLES / name), *args], env=environment)


def key_event(value: int) -> bytes:
    """An event of a Linux input device (struct input_event)."""
    return struct.pack("@llHHi", 1, 0, EV_KEY, KEY_ENTER, value)


def test_the_lamp_is_switched_by_requests_and_by_its_button(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led, button = tmp_path / "led", tmp_path / "button"
    led.mkdir()
    (led / "brightness").write_text("0\n")
    os.mkfifo(button)
    monkeypatch.setenv("LAMP_LED", str(led))
    monkeypatch.setenv("LAMP_BUTTON", str(button))
    device, anna, gustav = stage.device(), stage.client("anna"), stage.client("gustav")
    serve(device, "lamp")
    device.admit(anna, "anna")
    device.admit(gustav, "gustav", role="guest")

    observing = gustav.start("observe", "kitchen", "/lamp", "--count", "3")
    observing.until("off\n", on="out")
    anna.run("put", "kitchen", "/lamp", "--data", "on")
    observing.until("on\n", on="out")
    assert (led / "brightness").read_text() == "1"
    with button.open("wb", buffering=0) as keys:
        keys.write(key_event(PRESSED) + key_event(RELEASED))
        assert observing.end(code=0).out.split() == ["off", "on", "off"]
    assert (led / "brightness").read_text() == "0"

    anna.run("put", "kitchen", "/lamp", "--data", "dim", code=8)
    gustav.run("put", "kitchen", "/lamp", "--data", "on", code=7)
    assert gustav.run("get", "kitchen", "/lamp").out == "off\n"


def test_the_sensor_notifies_of_each_new_value(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "temp1_input"
    file.write_text("41337\n")
    monkeypatch.setenv("SENSOR_FILE", str(file))
    monkeypatch.setenv("SENSOR_SECONDS", "0.02")
    device, anna = stage.device(), stage.client("anna")
    serve(device, "sensor")
    device.admit(anna, "anna", role="guest")

    assert anna.json("get", "kitchen", "/temperature")["value"] == {"celsius": 41.3}
    observing = anna.start("--json", "observe", "kitchen", "/temperature", "--count", "2")
    observing.until("41.3", on="out")
    file.write_text("\n")  # a failed measurement
    file.write_text("42000\n")
    lines = [json.loads(line) for line in observing.end(code=0).out.splitlines()]
    assert [line["value"]["celsius"] for line in lines] == [41.3, 42.0]


def test_the_script_reads_many_devices_concurrently(stage: Stage) -> None:
    anna = stage.client("anna")
    for name in ("kitchen", "cellar", "attic"):
        device = stage.device(name)
        device.boot()
        device.admit(anna, "anna")
        if name == "attic":
            device.stop()

    ended = script(stage, anna, "read_devices.py", "/hello").end(code=1)
    lines = {line["device"]: line for line in map(json.loads, ended.out.splitlines())}
    assert lines.keys() == {"kitchen", "cellar", "attic"}
    assert lines["kitchen"]["value"] != lines["cellar"]["value"]
    assert "attic" in lines["attic"]["error"]
    assert lines["attic"]["advice"]
    only = script(stage, anna, "read_devices.py", "/hello", "cellar").end(code=0)
    assert json.loads(only.out) == lines["cellar"]


@pytest.mark.needs_tool("mosquitto")
def test_the_mqtt_bridge_publishes_states_and_executes_commands(
    stage: Stage, tmp_path: Path
) -> None:
    port = free_port(HOST)
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} {HOST}\nallow_anonymous true\n")
    broker = stage.start(["mosquitto", "-c", str(configuration)])
    broker.until("running", on="err")
    device, anna = stage.device(), stage.client("anna")
    serve(device, "lamp")
    device.admit(anna, "anna", role="user")

    script(stage, anna, "mqtt_bridge.py", "--port", str(port), "kitchen:/lamp")
    assert asyncio.run(states_around_a_command(port)) == [b"off", b"on"]
    assert anna.run("get", "kitchen", "/lamp").out == "on\n"


async def states_around_a_command(port: int) -> list[object]:
    """The messages of the bridge about the lamp, before and after a message that switches it on."""
    async with aiomqtt.Client(HOST, port) as mqtt, asyncio.timeout(TIMEOUT_SECONDS):
        await mqtt.subscribe("handfast/kitchen/lamp")
        states = aiter(mqtt.messages)
        before = (await anext(states)).payload
        await mqtt.publish("handfast/kitchen/lamp/set", b"on")
        return [before, (await anext(states)).payload]
