"""`handfast-device` as an asyncio process: its log lines, its commands and their results."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from click.testing import CliRunner

from device_app import cli
from tests.kit.waiting import TIMEOUT_SECONDS

_ONE_COMMAND: Final = Lock()
HOST = "127.0.0.1"


class Daemon:
    """`handfast-device run` as a process. `start` returns when it has logged "ready"."""

    def __init__(self, home: Path, process: asyncio.subprocess.Process) -> None:
        self.home = home
        self.process = process
        self.said: list[str] = []
        self.heard = 0
        self.status: dict[str, Any] = {}
        self._reader: asyncio.Task[None] | None = None
        self._spoke = asyncio.Event()

    @classmethod
    async def start(
        cls, home: Path, *args: str, env: dict[str, str] | None = None, ready: bool = True
    ) -> "Daemon":
        options = ["--port", "0", "--pairing-port", "0", "--listen", HOST, "--allow-loopback"]
        process = await asyncio.create_subprocess_exec(
            *command(home, "run", *options, *args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() | (env or {}),
        )
        self = cls(home, process)
        if ready:
            await self.until("ready")
            self.status = await self.json("status")
            self._reader = asyncio.create_task(self._read_on())
        return self

    async def until(self, text: str) -> str:
        """Read stderr until a line holds the text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.said.append(line)
                if text in line:
                    return line
        raise AssertionError(f"the daemon did not log {text!r}: {''.join(self.said)}")

    async def _read_on(self) -> None:
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.said.append(line)
            self._spoke.set()

    async def line(self) -> None:
        """Wait for the next log line."""
        self._spoke.clear()
        await self._spoke.wait()

    async def says(self, text: str) -> None:
        """Wait for a line with the text among those logged since the last call."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not any(text in line for line in self.said[self.heard :]):
                await self.line()
        self.heard = len(self.said)

    def port(self, *, pairing: bool) -> int:
        return int(self.status["pairing_port" if pairing else "port"])

    async def run(self, *args: str) -> "Result":
        return await run(self.home, *args)

    async def json(self, *args: str) -> dict[str, Any]:
        result = await self.run(*args, "--json")
        assert result.code == 0, result
        value: dict[str, Any] = json.loads(result.out)
        assert value["schema"] == 1
        return value

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            code = await self.process.wait()
            if self._reader is not None:
                await self._reader
        return code

    async def end(self) -> None:
        if self.process.returncode is None:
            await self.stop()
        if self._reader is not None:
            self._reader.cancel()
        # The transport closes its pipes only when the process has been reaped.
        self.process._transport.close()  # type: ignore[attr-defined]


@dataclass
class Result:
    code: int
    out: str
    err: str


def command(home: Path, *args: str) -> Sequence[str]:
    return [sys.executable, "-m", "device_app", "--home", str(home), *args]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDFAST")}
    return kept | {"PYTHONPATH": root, "HANDFAST_INTERFACES": HOST}


async def run(home: Path, *args: str, env: dict[str, str] | None = None) -> Result:
    """Run one command to its end in this process, in a thread since it runs an event loop."""
    assert "run" not in args, "the daemon sets signal handlers: use `run_process`"
    outside = dict.fromkeys(name for name in os.environ if name.startswith("HANDFAST"))
    changed = outside | {"HANDFAST_INTERFACES": HOST} | (env or {})

    def call() -> Result:
        with _ONE_COMMAND:  # click's runner replaces `sys.stdout`
            words = ["--home", str(home), *args]
            result = CliRunner().invoke(cli.main, words, env=changed, prog_name="handfast-device")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    async with asyncio.timeout(4 * TIMEOUT_SECONDS):
        return await asyncio.to_thread(call)


async def run_process(home: Path, *args: str, env: dict[str, str] | None = None) -> Result:
    """Run one command to its end as a process, for its signals, its user or its start."""
    process = await asyncio.create_subprocess_exec(
        *command(home, *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment() | (env or {}),
    )
    async with asyncio.timeout(4 * TIMEOUT_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())
