"""`handfast-device check`: what a start would say, and that a start says the same."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from device_app.app import App
from device_app.console import offline
from device_app.errors import AppError
from device_app.settings.paths import Paths
from peer.errors import PeerError
from tests.kit.daemon import run
from tests.kit.device import Kit

pytestmark = pytest.mark.usefixtures("clean_imports")

LAMP = """
import asyncio
from aiocoap.resource import Resource
from device_app.resource_spec import ResourceSpec

print("printed by a module")


class Lamp(Resource):
    async def render_get(self, request):
        return "on"

    async def render_put(self, request):
        pass


def resources(board):
    asyncio.get_running_loop()  # there is one at a start
    yield ResourceSpec("/lamp", Lamp(), {"GET": "Lamp:Read"})
"""
POLICY = """
[[policy]]
id = "lamps"
[[policy.statement]]
effect = "Allow"
actions = ["ACTION"]
[[role]]
id = "lamplighter"
rank = 12
policies = ["lamps"]
"""
MODULES = "[resources]\nmodules = ['{}']\n"
SETTINGS = """
name = "kitchen"
[network]
listen = ["127.0.0.1"]
port = 0
pairing_port = 0
advertise = false
"""


def write(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def checked(home: Path) -> tuple[int, dict[str, Any]]:
    result = await run(home, "check", "--json")
    return result.code, json.loads(result.out)


async def start_error(home: Path) -> str:
    """Start the device of a folder; return its error, or nothing."""
    paths = Paths(home, home, home)
    try:
        app = await App.start(paths, offline.settings(paths))
    except (AppError, PeerError) as error:
        return str(error)
    await app.close()
    return ""


async def test_a_sound_device_is_ready(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await run(home, "init", "--name", "kitchen")
    write(
        home,
        {
            "device.toml": SETTINGS,
            "device.d/lamp.toml": '[resources]\nmodules = ["my_lamp"]\n',
            "device.d/._lamp.toml": "\0",
            "modules/my_lamp.py": LAMP,
            "policy.d/lamp.toml": POLICY.replace("ACTION", "Lamp:Read"),
        },
    )
    before = {path: path.read_bytes() for path in sorted(home.glob("device*")) if path.is_file()}
    code, answer = await checked(home)
    assert (code, answer["ready"], answer["problems"]) == (0, True, [])
    assert answer["modules"] == [{"name": "my_lamp", "paths": ["/lamp"]}]
    assert answer["settings"] == [str(home / "device.toml"), str(home / "device.d" / "lamp.toml")]
    assert answer["policies"] == [str(home / "policy.d" / "lamp.toml")]
    hidden, unreached = answer["warnings"]
    assert "._lamp.toml" in hidden
    assert "Lamp.render_put is never called" in unreached
    shown = await run(home, "check")
    assert (shown.code, "The device would start." in shown.out) == (0, True)
    assert "printed by a module" not in shown.out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("files", "part", "text"),
    [
        ({"device.toml": "nmae = 'x'\n"}, "settings", "device.toml:1"),
        ({"device.toml": "name = 'x\n"}, "settings", "device.toml:1"),
        ({"device.toml": SETTINGS + "[pairing]\nrole = 'king'\n"}, "settings", "no role 'king'"),
        (
            {"device.toml": SETTINGS + "[resources]\nmodules = ['my_none']\n"},
            "module",
            "my_none.py",
        ),
        (
            {
                "device.toml": SETTINGS + "[resources]\nmodules = ['my_bad']\n",
                "modules/my_bad.py": "\n1 / 0\n",
            },
            "module",
            "my_bad.py, line 2",
        ),
        ({"device.toml": SETTINGS, "modules/random.py": ""}, "module", "random.py"),
        ({"device.toml": SETTINGS, "policy.d/a.toml": "[[policy]\n"}, "policy", "a.toml:1"),
        ({"device.toml": SETTINGS, "device-key.pem": "no key"}, "key", "device-key.pem"),
    ],
)
async def test_a_problem_is_the_error_of_a_start(
    tmp_path: Path, files: dict[str, str], part: str, text: str
) -> None:
    write(tmp_path, files)
    if "device-key.pem" in files:
        (tmp_path / "device-key.pem").chmod(0o600)
    code, answer = await checked(tmp_path)
    (problem,) = answer["problems"]
    assert (code, answer["ready"], problem["part"]) == (1, False, part)
    assert text in problem["text"]
    assert problem["advice"]
    if part == "settings" and "king" not in text:
        with pytest.raises(AppError) as caught:
            offline.settings(Paths(tmp_path, tmp_path, tmp_path))
        assert problem["text"] == str(caught.value)
    else:
        assert await start_error(tmp_path) == problem["text"]
    shown = await run(tmp_path, "check")
    assert (shown.code, "The device would not start: 1 problem." in shown.out) == (1, True)


async def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    modules = "[resources]\nmodules = ['my_a', 'my_b', 'my_c']\n"
    write(
        tmp_path,
        {
            "device.toml": SETTINGS + modules,
            "modules/my_a.py": "1 / 0\n",
            "modules/my_b.py": "import sys\nsys.exit()\n",
            "modules/my_c.py": LAMP,
            "policy.d/a.toml": POLICY.replace("Allow", "Perhaps"),
            "device-key.pem": "no key",
        },
    )
    code, answer = await checked(tmp_path)
    parts = [problem["part"] for problem in answer["problems"]]
    assert (code, parts) == (1, ["key", "module", "module", "policy"])


async def test_a_misspelt_action_is_a_warning_once_all_modules_are_known(tmp_path: Path) -> None:
    files = {
        "device.toml": SETTINGS + "[resources]\nmodules = ['my_lamp']\n",
        "modules/my_lamp.py": LAMP,
        "policy.d/a.toml": POLICY.replace("ACTION", "Lamp:Raed"),
    }
    write(tmp_path, files)
    _, answer = await checked(tmp_path)
    assert any("Lamp:Raed" in warning for warning in answer["warnings"])
    write(tmp_path, {"modules/my_lamp.py": LAMP + "1 / 0\n"})
    del sys.modules["my_lamp"]  # each command is a process of its own
    _, answer = await checked(tmp_path)
    assert len(answer["problems"]) == 1
    assert not any("Lamp:Raed" in warning for warning in answer["warnings"])


@pytest.mark.parametrize("which", ["port", "pairing_port"])
async def test_a_port_that_another_program_uses_is_reported(tmp_path: Path, which: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        number = other.getsockname()[1]
        ports = {"port": 0, "pairing_port": 0} | {which: number}
        lines = [f"{name} = {one}" for name, one in ports.items()]
        text = "\n".join(["[network]", 'listen = ["127.0.0.1"]', "advertise = false", *lines])
        write(tmp_path, {"device.toml": text})
        code, answer = await checked(tmp_path)
        if which == "port":
            (problem,) = answer["problems"]
            assert (code, problem["part"]) == (1, "network")
            assert await start_error(tmp_path) == problem["text"]
        else:
            assert (code, answer["problems"]) == (0, [])
            assert await start_error(tmp_path) == ""
            assert any(f"port {number}" in warning for warning in answer["warnings"])


async def test_a_device_that_was_never_started_is_ready(tmp_path: Path) -> None:
    write(tmp_path, {"device.toml": SETTINGS})
    code, answer = await checked(tmp_path)
    assert (code, answer["ready"]) == (0, True)
    assert "a start creates one" in answer["warnings"][0]
    assert entries(tmp_path) == [tmp_path / "device.toml"]


async def test_a_running_device_can_be_checked(kit: Kit) -> None:
    device = await kit.device()
    code, answer = await checked(kit.home)
    assert (code, answer["problems"]) == (0, [])
    assert device.app.status()["running"]
