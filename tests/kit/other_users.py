"""Processes of other users of this machine, which talk to a control socket. They need root."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.kit.waiting import TIMEOUT_SECONDS

#: A user ID without an account, and a group ID without a group.
STRANGER: Final = 54_321
_TALK: Final = """
import os, socket, sys
path, uid, gid, groups, line = sys.argv[1:]
os.setgroups([int(one) for one in groups.split(",") if one])
os.setgid(int(gid))
os.setuid(int(uid))
with socket.socket(socket.AF_UNIX) as talk:
    talk.settimeout(30)
    try:
        talk.connect(path)
        talk.sendall(line.encode() + b"\\n")
        while part := talk.recv(65536):
            sys.stdout.buffer.write(part)
    except (PermissionError, ConnectionError) as error:
        print(type(error).__name__)
"""


@dataclass(frozen=True)
class OtherUser:
    """A user and its groups."""

    uid: int = STRANGER
    gid: int = STRANGER
    groups: Collection[int] = ()

    async def ask(self, path: Path, verb: str, **args: Any) -> dict[str, Any]:
        """Ask for a verb; return the last message, or `{"failed": NAME}` without a connection."""
        line = json.dumps({"verb": verb, "args": args})
        groups = ",".join(map(str, self.groups))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", _TALK),
            *(str(path), str(self.uid), str(self.gid), groups, line),
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
        assert process.returncode == 0
        last = output.decode().splitlines()[-1] if output.strip() else "nothing"
        if not last.startswith("{"):
            return {"failed": last}
        found: dict[str, Any] = json.loads(last)
        return found
