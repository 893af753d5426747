"""`handfast-device` as a process, awaited: its log lines, its commands and their results."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from click.testing import CliRunner

from device_app import cli
from tests.kit import process
from tests.kit.process import Program, Result
from tests.kit.waiting import TIMEOUT_SECONDS

_ONE_COMMAND: Final = Lock()
HOST = "127.0.0.1"


class Daemon:
    """`handfast-device run` as a process, awaited until it logs "ready"."""

    def __init__(self, home: Path, program: Program) -> None:
        self.home = home
        self.status: dict[str, Any] = {}
        self._program = program
        self._seen = 0

    @classmethod
    async def start(cls, home: Path, *args: str, env: dict[str, str] | None = None) -> "Daemon":
        """Start a daemon on free ports of loopback, and ask for its status."""
        options = ["--port", "0", "--pairing-port", "0", "--listen", HOST, "--allow-loopback"]
        program = Program(command(home, "run", *options, *args), environment() | (env or {}))
        self = cls(home, program)
        try:
            await self.until("ready\n")  # not "Address already in use"
            self.status = await self.json("status")
        except BaseException:
            program.close()
            raise
        return self

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._program.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._program.is_running

    @property
    def log_lines(self) -> list[str]:
        """The lines that it has logged."""
        return self._program.output("err").splitlines(keepends=True)

    async def until(self, text: str, *, times: int = 1) -> None:
        """Wait until it has logged a text that many times."""
        await asyncio.to_thread(self._program.until, text, times=times)

    async def logs(self, text: str) -> None:
        """Wait until it logs a text, beginning after the last text that was awaited here."""
        output = await asyncio.to_thread(self._program.until, text, since=self._seen)
        self._seen = len(output)

    def port(self, *, pairing: bool) -> int:
        """The number of one of its two ports, when it started."""
        return int(self.status["pairing_port" if pairing else "port"])

    async def run(self, *args: str) -> Result:
        """Run a command in its folder."""
        return await run(self.home, *args)

    async def json(self, *args: str) -> dict[str, Any]:
        """Run a command with `--json`; return what it printed."""
        result = await self.run(*args, "--json")
        assert result.code == 0, result
        return result.value

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._program.send(number)

    async def ended(self) -> Result:
        """Wait for its end; return its exit code and its output."""
        return await asyncio.to_thread(self._program.end)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; return its exit code."""
        self.send(number)
        return (await self.ended()).code

    async def end(self) -> None:
        """End it if it runs, and free its streams."""
        await asyncio.to_thread(self._program.close)


def command(home: Path, *args: str) -> Sequence[str]:
    """The arguments of `handfast-device` with this folder."""
    return [sys.executable, "-m", "device_app", "--home", str(home), *args]


def environment() -> dict[str, str]:
    """The environment of the test without settings of handfast, and with discovery on loopback."""
    return process.environment() | {"HANDFAST_INTERFACES": HOST}


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

    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await asyncio.to_thread(call)
    except TimeoutError as error:
        raise AssertionError(f"the command does not end: {' '.join(args)}") from error


async def run_process(home: Path, *args: str, env: dict[str, str] | None = None) -> Result:
    """Run one command to its end as a process, for its signals, its user or its start."""
    program = Program(command(home, *args), environment() | (env or {}))
    try:
        return await asyncio.to_thread(program.end)
    finally:
        await asyncio.to_thread(program.close)
