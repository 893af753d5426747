"""Resources of applications: the documented interface, and errors that name the module."""

from __future__ import annotations

import sys
from importlib.metadata import MetadataPathFinder
from typing import TYPE_CHECKING, Any

import pytest

from device_app import exposed, resource_spec
from device_app.errors import ModuleError
from device_app.modules import loading
from device_app.modules.installed import may_have

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Device, Kit

LAMP = """
from aiocoap import Message
from aiocoap.resource import ObservableResource

from device_app.resource_spec import Board, ResourceSpec


class Lamp(ObservableResource):
    ct = 0
    rt = "lamp"

    def __init__(self, board):
        super().__init__()
        self.board = board
        self.light = "off"

    async def render_get(self, request):
        return Message(payload=self.light.encode(), content_format=0)

    async def render_put(self, request):
        who = self.board.subject(request).user.name
        self.light = request.payload.decode() + " by " + who
        self.updated_state()
        return Message()


def resources(board: Board):
    yield ResourceSpec(
        "/lamp",
        Lamp(board),
        actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
        least_role={"Lamp:Set": "user"},
    )
"""


pytestmark = pytest.mark.usefixtures("clean_imports")


def write(kit: Kit, name: str, text: str) -> None:
    folder = kit.home / "modules"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


async def test_a_resource_with_its_own_actions_is_authorized(kit: Kit) -> None:
    write(kit, "my_lamp", LAMP)
    device = await kit.device(modules=("my_lamp",))
    owner = await kit.paired(device, "olga")
    guest = await kit.paired(device, "gustav")
    user = await kit.paired(device, "uwe", role="user")
    assert (await guest.ask("GET", "/lamp")).body == "off"
    assert (await guest.ask("PUT", "/lamp", raw=b"on", ct=0)).reason == "denied"
    assert (await user.ask("PUT", "/lamp", raw=b"on", ct=0)).code == "2.04"
    assert (await owner.ask("GET", "/lamp")).body == "on by uwe"
    assert (await guest.ask("POST", "/lamp", raw=b"on", ct=0)).code == "4.05"
    unknown_client = kit.caller(device)
    assert (await unknown_client.ask("GET", "/lamp")).reason == "not-paired"
    assert "Lamp:Set" in (await user.ask("GET", "/iam/me")).body["actions"]
    listing = (await guest.ask("GET", "/.well-known/core?rt=lamp")).message.payload
    assert listing == b'</lamp>;ct="0";rt="lamp";obs'


GOOD = "from device_app.resource_spec import ResourceSpec\nfrom aiocoap.resource import Resource\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import not_there_at_all", "not_there_at_all"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "no function resources"),
        ("def resources(board): raise OSError('no GPIO')", "no GPIO"),
        ("def resources(board): return [7]", "returned int"),
        (
            GOOD + "def resources(board): return [ResourceSpec('/x', 7, {'GET': 'X:Get'})]",
            "not an aiocoap",
        ),
        (
            GOOD + "def resources(board):\n"
            " return [ResourceSpec('/iam/me', Resource(), {'GET': 'X:Get'})]",
            "belongs to handfast",
        ),
        (GOOD + "def resources(board): return [ResourceSpec('/x', Resource(), {})]", "no actions"),
        (
            GOOD + "def resources(board): return [ResourceSpec('/x', Resource(), {'GET': 'x'})]",
            "not an action",
        ),
        (
            GOOD + "def resources(board):\n"
            " return [ResourceSpec('/x', Resource(), {'PUT': 'Iam:Widen'})]",
            "reserved module",
        ),
        (
            GOOD + "def resources(board):\n"
            " return [ResourceSpec('/x', Resource(), {'GET': 'X:Get'}, {'X:Get': 'unpaired'})]",
            "unpaired",
        ),
        (
            GOOD + "def resources(board):\n"
            " return [ResourceSpec('/x', Resource(), {'GET': 'X:Get'}, {'X:Set': 'user'})]",
            "no method needs",
        ),
        (
            GOOD + "class X(Resource):\n async def render_get(self, request): ...\n"
            "def resources(board): return [ResourceSpec('/x', X(), {'GET': 'X:Get'})] * 2",
            "serves /x already",
        ),
    ],
)
async def test_an_invalid_module_prevents_the_start(kit: Kit, text: str, why: str) -> None:
    write(kit, "my_broken", text)
    with pytest.raises(ModuleError, match="'my_broken'") as caught:
        await kit.device(modules=("my_broken",))
    assert why in str(caught.value)
    await kit.device()  # the failed start released all resources


def install(folder: Path, name: str, target: str) -> None:
    """Write what an installer writes about a distribution that has a module for devices."""
    about = folder / f"{name}-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{loading.GROUP}]\n{name} = {target}\n")


def test_installed_modules_are_loaded_by_their_entry_point(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not may_have(loading.GROUP)
    install(tmp_path / "one", "lamp", "my_entry:resources")
    monkeypatch.syspath_prepend(tmp_path / "one")
    assert may_have(loading.GROUP)
    write(kit, "my_entry", LAMP)
    board: Any = resource_spec.Board("kitchen", "ABCDEFGH", lambda _request: None)  # type: ignore[arg-type,return-value]
    [lamp] = loading.load((), kit.home / "modules", board)
    assert lamp.spec.segments == ("lamp",)
    assert lamp.spec.roles() == {"Lamp:Read": "guest", "Lamp:Set": "user"}
    write(kit, "my_entry_broken", "1 / 0")
    install(tmp_path / "two", "broken", "my_entry_broken:resources")
    monkeypatch.syspath_prepend(tmp_path / "two")
    with pytest.raises(ModuleError, match="'broken'"):
        loading.load((), kit.home / "modules", board)


@pytest.mark.parametrize("unusual", ["an archive", "an egg", "not text", "a finder"])
def test_an_unusual_installation_is_left_to_importlib(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unusual: str
) -> None:
    at = tmp_path / "place"
    if unusual == "a finder":
        monkeypatch.setattr(sys, "meta_path", [MetadataPathFinder(), *sys.meta_path])
    elif unusual == "an archive":
        at.write_bytes(b"PK")
    elif unusual == "an egg":
        (at / "lamp.egg").mkdir(parents=True)
    else:
        install(at, "lamp", "my_entry:resources")
        (at / "lamp-1.dist-info" / "entry_points.txt").write_bytes(b"\xff")
    monkeypatch.syspath_prepend(at)
    assert may_have(loading.GROUP)


async def test_the_reserved_segments_are_those_that_the_device_serves(device: Device) -> None:
    """An application cannot use a first path segment that the device serves on either port."""
    sites = (device.app.site, device.app.pairing.port.site)
    served = {path[0] for site in sites for path in site.paths()}
    served |= {"remote", "tunnels"}  # if the settings have `[remote]` or `[tunnel.services]`
    assert served == resource_spec.RESERVED_SEGMENTS


@pytest.mark.parametrize("name", ["Exposed", "Board"])
def test_the_old_names_still_work_for_one_release(name: str) -> None:
    new = "ResourceSpec" if name == "Exposed" else name
    with pytest.warns(DeprecationWarning, match=f"resource_spec.{new}"):
        assert getattr(exposed, name) is getattr(resource_spec, new)
    assert not hasattr(exposed, "load")
