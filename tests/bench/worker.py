"""A script of this folder as a process that runs commands: JSON in, JSON out (RFC 7464).

A command is a line `[NAME, {ARGUMENT: VALUE}]`, and its result is a JSON text that ends with a
record separator. So a group can hold thousands of connections in another process, and measure the
CPU time and the memory of each process alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from peer.remote.settings import Server
from peer.secret import Secret
from tests.bench.harness import cpu_seconds, resident_bytes
from tests.kit.process import ROOT, Program, environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

END: Final = "\x1e"
MB: Final = 1_000_000


class Worker:
    """A running script. `settings` are its only argument, as JSON."""

    def __init__(self, script: str, settings: object) -> None:
        file = str(ROOT / "tests" / "bench" / script)
        self._program = Program(
            [sys.executable, file, json.dumps(settings)], environment(), typed=True
        )
        self._answers = 0

    def ask(self, command: str, **arguments: object) -> Any:
        """Run a command, and return its result."""
        self._program.type(json.dumps([command, arguments]))
        self._answers += 1
        text = self._program.until(END, on="out", times=self._answers)
        return json.loads(text.split(END)[self._answers - 1].splitlines()[-1])

    def cpu(self) -> float:
        """The CPU time so far, in seconds."""
        return cpu_seconds(self._program.process.pid)

    def resident(self) -> int:
        """The resident memory in bytes."""
        return resident_bytes(self._program.process.pid)

    def close(self) -> None:
        """End the process."""
        self._program.close()


@contextmanager
def worker(script: str, settings: object) -> Iterator[Worker]:
    """Run a script until the end of the context."""
    made = Worker(script, settings)
    try:
        yield made
    finally:
        made.close()


async def run_commands(commands: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
    """Run the commands that arrive on stdin, one after another, until it ends."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, arguments = json.loads(line)
        print(json.dumps(await commands[name](**arguments)), end=f"{END}\n", flush=True)


async def at_once(count: int, make: Callable[[], Awaitable[object]], limit: int = 8) -> None:
    """Call a function that many times, at most `limit` calls at the same time."""
    room = asyncio.Semaphore(limit)

    async def one() -> None:
        async with room:
            await make()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


def settings_of(server: Server) -> dict[str, str]:
    """The settings of a server, as JSON can have them."""
    return {
        "url": server.url,
        "username": server.username,
        "password": server.password.reveal(),
        "pin": server.pin.hex(),
    }


def server_of(settings: dict[str, str]) -> Server:
    """The server with these settings."""
    password, pin = Secret(settings["password"]), bytes.fromhex(settings["pin"])
    return Server(settings["url"], settings["username"], password, pin)
