"""The audit trail says which user of the machine used the console, and for nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.access.operators import Operator, acting, current_operator, without_operator
from device_app.app import App
from device_app.console import control_access
from device_app.settings.paths import Paths
from tests.kit.device import SETTINGS, Device
from tests.kit.other_users import STRANGER, OtherUser
from tests.kit.waiting import skip_time, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from iam.audit import Event

GROUP = 54_400
ANNA = f"uid {STRANGER} anna"


@pytest.fixture
def run_folder() -> Iterator[Path]:
    """The folder of the group for the control socket."""
    folder = Path(tempfile.mkdtemp(prefix="handfast-"))
    os.chown(folder, -1, GROUP)
    folder.chmod(0o750)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def device(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Device]:
    """A device as a service."""
    monkeypatch.setattr(control_access, "service_gid", lambda: GROUP)
    monkeypatch.setattr(control_access, "account_name", lambda _uid: "anna")
    app = await App.start(Paths(tmp_path, tmp_path, run_folder), SETTINGS)
    yield Device(app)
    await app.close()


def events(device: Device) -> list[Event]:
    return [record.event for record in device.app.access.store.audit.iterate()]


@pytest.mark.needs_root
async def test_the_detail_begins_with_the_user_of_the_console(device: Device) -> None:
    anna, root = OtherUser(groups=[GROUP]), OtherUser(uid=0, gid=0)
    path = device.app.paths.socket
    for who in (anna, root):
        name = "olga" if who is anna else "otto"
        for verb, args in (
            ("users-add", {"wish": {"name": name, "role": "owner"}}),
            ("users-set", {"name": name, "wish": {"display": name}}),
            ("invite", {"wish": {"name": "mia"}}),
            ("open", {"role": "user"}),
            ("close", {}),
            ("policy-reload", {}),
        ):
            assert (await who.ask(path, verb, **args))["ok"], (verb, args)
    found = [(event.kind, event.actor, event.detail) for event in events(device)]
    for kind in ("user-added", "user-changed", "invite-created", "window-opened", "window-closed"):
        first, second = [one for one in found if one[0] == kind]
        assert first[1] == second[1] == "@console"
        assert first[2].split(", ")[0] == ANNA, first
        assert ANNA not in second[2], second
        assert without_operator(first[2]).split(" ")[0] == second[2].split(" ")[0]
    by_anna, by_root = [one for one in found if one[0] == "policy-loaded"][-2:]
    assert by_anna[2].startswith(ANNA)
    assert "uid" not in by_root[2]


@pytest.mark.needs_root
async def test_what_a_verb_leaves_behind_has_no_operator(device: Device) -> None:
    """A window closes by itself, by a timer that the verb has started."""
    anna = OtherUser(groups=[GROUP])
    opened = await anna.ask(device.app.paths.socket, "open", role="owner", seconds=60.0)
    assert opened["ok"]
    before = len(events(device))
    skip_time(61)
    await until(lambda: len(events(device)) > before)
    event = events(device)[before]
    assert (event.kind, event.actor) == ("window-closed", "")
    assert "uid" not in event.detail


async def test_only_the_task_of_a_verb_has_its_operator() -> None:
    anna = Operator(1000, "anna")
    seen: list[Operator | None] = []
    noted = asyncio.Event()

    def later() -> None:
        seen.append(current_operator())
        noted.set()

    async def elsewhere() -> None:
        seen.append(current_operator())

    with acting(anna):
        asyncio.get_running_loop().call_soon(later)
        task = asyncio.ensure_future(elsewhere())
        assert current_operator() == anna
        await noted.wait()
        await task
        assert current_operator() == anna
    assert seen == [None, None]
    assert current_operator() is None
    with acting(None):
        assert current_operator() is None


def test_there_is_no_operator_without_an_event_loop() -> None:
    assert current_operator() is None


@pytest.mark.parametrize(
    ("operator", "detail"),
    [
        (Operator(1000, "anna"), "invite 1a2b3c4d, 1 uses"),
        (Operator(1000, ""), "role guest -> user"),
        (Operator(1000, "anna"), ""),
    ],
)
def test_a_detail_is_found_behind_its_operator(operator: Operator, detail: str) -> None:
    shown = f"{operator}, {detail}" if detail else str(operator)
    assert without_operator(shown) == detail
    assert without_operator(detail) == detail
