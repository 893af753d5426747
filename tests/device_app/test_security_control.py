"""The control socket decides by the credentials of the process at its other end.

Each user here is a process of its own, which root has given a user ID and groups.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.access.operators import Operator, current_operator
from device_app.console import control_access, control_server
from device_app.console.control_client import call
from device_app.console.control_server import ControlServer
from device_app.errors import AppError
from tests.kit.other_users import STRANGER, OtherUser
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

GROUP = 54_400  # of the service
pytestmark = pytest.mark.needs_root


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="handfast-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def service_gid(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The number of the group `handfast`, which a test may change."""
    found: list[int | None] = [GROUP]
    monkeypatch.setattr(control_access, "service_gid", lambda: found[0])
    monkeypatch.setattr(control_access, "account_name", lambda uid: f"user{uid}")
    return found


@pytest.fixture(autouse=True)
def _patient_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client here sends a request, however late."""
    monkeypatch.setattr(control_server, "CONTROL_REFUSAL_SECONDS", TIMEOUT_SECONDS)


class Served:
    """A control server with one verb, and the operators that have used it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operators: list[Operator | None] = []

    async def ask(self, _args: object, _tell: object) -> dict[str, object]:
        self.operators.append(current_operator())
        return {"fine": True}

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def assert_logged(self, caplog: pytest.LogCaptureFixture, text: str) -> None:
        assert self.operators == []
        assert f"refused a control connection: {text}" in caplog.text


@pytest.fixture
async def serve(open_folder: Path) -> AsyncIterator[Callable[..., asyncio.Future[Served]]]:
    servers: list[ControlServer] = []

    async def start(*, group: int, mode: int) -> Served:
        run = open_folder / "run"
        run.mkdir()
        os.chown(run, -1, group)
        run.chmod(mode)
        served = Served(run / "control.sock")
        servers.append(await ControlServer.start(served.path, {"ask": served.ask}))
        return served

    yield lambda **options: asyncio.ensure_future(start(**options))
    for server in servers:
        await server.close()


DONE = {"ok": True, "result": {"fine": True}}


def is_refused(answer: dict[str, object]) -> bool:
    return answer.get("ok") is False and answer["exit"] == 7


# ------------------------------------------------------------------------------ without a group


@pytest.mark.parametrize("careless", [False, True], ids=["0600", "0666"])
async def test_the_control_socket_refuses_another_user_of_the_machine(
    open_folder: Path, caplog: pytest.LogCaptureFixture, *, careless: bool
) -> None:
    """The mode of the socket prevents the access; if the mode is changed, the daemon refuses it."""
    served = Served(open_folder / "control.sock")
    server = await ControlServer.start(served.path, {"ask": served.ask})
    try:
        assert served.mode == 0o600
        if careless:
            served.path.chmod(0o666)
        answer = await OtherUser().ask(served.path, "ask")
        if careless:
            assert is_refused(answer)
            served.assert_logged(caplog, f"uid {STRANGER} may not use")
        else:
            assert answer == {"failed": "PermissionError"}
        assert served.operators == []
        assert await call(served.path, "ask", {}) == {"fine": True}
        assert served.operators == [None]
    finally:
        await server.close()


@pytest.mark.usefixtures("service_gid")
@pytest.mark.parametrize(
    ("group", "mode"),
    [(GROUP + 1, 0o755), (GROUP, 0o700), (0, 0o755)],
    ids=["of another group", "that the group cannot enter", "of root"],
)
async def test_the_group_gets_no_socket_in_a_folder(
    serve: Callable[..., asyncio.Future[Served]], group: int, mode: int
) -> None:
    served = await serve(group=group, mode=mode)
    assert served.mode == 0o600
    served.path.chmod(0o666)
    served.path.parent.chmod(0o755)
    assert is_refused(await OtherUser(groups=[GROUP]).ask(served.path, "ask"))
    assert is_refused(await OtherUser(gid=GROUP).ask(served.path, "ask"))


# --------------------------------------------------------------------------------- with a group


@pytest.mark.usefixtures("service_gid")
@pytest.mark.parametrize(
    "member",
    [
        OtherUser(gid=GROUP),
        OtherUser(groups=[GROUP]),
        OtherUser(groups=[*range(60_000, 60_255), GROUP]),
        OtherUser(gid=GROUP, groups=range(60_000, 60_300)),
    ],
    ids=["primary", "supplementary", "one of 256", "primary, with 300 more"],
)
async def test_a_member_of_the_group_is_the_console(
    serve: Callable[..., asyncio.Future[Served]],
    member: OtherUser,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    served = await serve(group=GROUP, mode=0o750)
    assert served.mode == 0o660
    assert served.path.stat().st_gid == GROUP
    assert await member.ask(served.path, "ask") == DONE
    assert served.operators == [Operator(STRANGER, f"user{STRANGER}")]
    assert await OtherUser(uid=0, gid=0).ask(served.path, "ask") == DONE
    assert served.operators[1:] == [None]
    assert caplog.messages == [f"uid {STRANGER} user{STRANGER} runs the verb ask"]


@pytest.mark.usefixtures("service_gid")
async def test_a_stranger_is_refused_whatever_the_mode_of_the_socket(
    serve: Callable[..., asyncio.Future[Served]], caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(group=GROUP, mode=0o750)
    stranger = OtherUser(groups=[GROUP - 1, GROUP + 1])
    assert await stranger.ask(served.path, "ask") == {"failed": "PermissionError"}
    served.path.parent.chmod(0o755)
    assert await stranger.ask(served.path, "ask") == {"failed": "PermissionError"}
    served.path.chmod(0o666)
    answer = await stranger.ask(served.path, "ask")
    assert is_refused(answer)
    assert "usermod -aG handfast" in answer["advice"]
    served.assert_logged(caplog, f"uid {STRANGER} is not a member of the group handfast")


@pytest.mark.usefixtures("service_gid")
async def test_a_user_whose_groups_cannot_be_read_is_refused(
    serve: Callable[..., asyncio.Future[Served]], caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel has no partial answer: with 257 groups it gives none (ERANGE)."""
    served = await serve(group=GROUP, mode=0o750)
    member = OtherUser(groups=[*range(60_000, 60_256), GROUP])
    assert is_refused(await member.ask(served.path, "ask"))
    served.assert_logged(caplog, f"the groups of uid {STRANGER} cannot be read")


@pytest.mark.parametrize("new", [None, GROUP + 1], ids=["removed", "renumbered"])
async def test_a_group_that_changes_under_the_daemon_admits_no_one(
    serve: Callable[..., asyncio.Future[Served]],
    service_gid: list[int | None],
    new: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The old number may belong to another group by now, whose members could open the socket."""
    served = await serve(group=GROUP, mode=0o750)
    service_gid[0] = new
    for member in (OtherUser(gid=GROUP), OtherUser(groups=[GROUP])):
        assert is_refused(await member.ask(served.path, "ask"))
    served.assert_logged(caplog, "the group handfast has changed")
    renumbered = OtherUser(groups=[GROUP + 1])
    assert await renumbered.ask(served.path, "ask") == {"failed": "PermissionError"}
    assert await call(served.path, "ask", {}) == {"fine": True}


async def test_a_socket_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AppError, match=r"control\.sock cannot be created: File exists"):
        await ControlServer.start(tmp_path / "file" / "control.sock", {})
