"""The control socket refuses other users of the machine by the credentials of their processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.console.control_client import call
from device_app.console.control_server import ControlServer

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
TALK = f"""
import os, socket, sys
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
with socket.socket(socket.AF_UNIX) as talk:
    talk.settimeout(15)
    try:
        talk.connect(sys.argv[1])
        talk.sendall(b'{{"verb": "ask"}}\\n')
        print(talk.recv(1000))
    except (PermissionError, ConnectionError, BrokenPipeError) as error:
        print(type(error).__name__)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="handfast-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.needs_root
@pytest.mark.parametrize("careless", [False, True], ids=["0600", "0666"])
async def test_the_control_socket_refuses_another_user_of_the_machine(
    open_folder: Path, *, careless: bool
) -> None:
    """The mode of the socket prevents the access; if the mode is changed, the daemon refuses it."""
    requests: list[object] = []

    async def ask(args: object, _say: object) -> dict[str, object]:
        requests.append(args)
        return {"fine": True}

    path = open_folder / "control.sock"
    server = await ControlServer.start(path, {"ask": ask})
    try:
        if careless:
            path.chmod(0o666)
        other_user = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", TALK, str(path)),
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(other_user.communicate(), 30)
        assert other_user.returncode == 0
        allowed = {b"b''", b"ConnectionResetError", b"BrokenPipeError"}
        assert output.strip() in (allowed if careless else {b"PermissionError"})
        assert requests == []
        assert await call(path, "ask", {}) == {"fine": True}
    finally:
        await server.close()
