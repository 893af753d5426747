"""Runs the commands of a demonstration as processes, and shows each with its output.

A step has a time limit, and one that fails ends the demonstration with an error. The processes are
ended in any case.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from client_app.limits import DEMO_STEP_SECONDS, DEMO_STOP_SECONDS
from peer.errors import PeerError, TimedOut
from peer.terminal.text import on_lines

_POLL_SECONDS: Final = 0.1
# Commands are printed as they are typed, and run as modules by this Python interpreter.
_MODULES: Final = {"handfast": "client_app", "handfast-device": "device_app"}

Say = Callable[[str], object]
T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """A process and its output, with both streams in the order in which a terminal shows them."""

    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None


class Stage:
    """Runs commands in one folder, prints them and their output, and cleans up.

    Args:
        folder: where the commands run.
        say: prints a line.
        places: by the name of a machine, the command that runs another one there, such as
            `ip netns exec NAME`. Without a machine, a command runs here.
    """

    def __init__(
        self, folder: Path, say: Say, *, places: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._folder = folder
        self._say = say
        self._places = places or {}
        self._runs: list[Run] = []

    def chapter(self, text: str) -> None:
        """Print a comment on the next commands."""
        self._say(f"\n# {text.replace(chr(10), chr(10) + '# ')}")

    async def run(self, command: str, *, exit_code: int = 0, into: str = "", at: str = "") -> str:
        """Run a command and return its output.

        Args:
            command: the words as they are typed.
            exit_code: the one that is expected.
            into: a second command that reads the output of the first one.
            at: the name of the machine.

        Raises:
            PeerError: the command ends with another exit code.
            TimedOut: it does not end.
        """
        shown = f"{command} | {into}" if into else command
        started = await self._spawn(command, shown=shown, at=at)
        output = await self.end(started, exit_code=exit_code, is_shown=not into)
        if into:
            second = await self._spawn(into, shown="", stdin=output, at=at)
            return await self.end(second, exit_code=0)
        return output

    async def start(self, command: str, *, at: str = "") -> Run:
        """Start a command in the background."""
        return await self._spawn(command, shown=f"{command} &", at=at)

    async def end(self, run: Run, *, exit_code: int, is_shown: bool = True) -> str:
        """Wait for the end of a command, check its exit code, and return its output."""
        code = await _bounded(run.process.wait())
        assert run.reader is not None
        await _bounded(run.reader)
        if is_shown:
            self._show(run.output)
        if code:
            self._say(f"  (exit {code})")
        if code != exit_code:
            raise PeerError(
                f"a step of the demonstration exited with {code} instead of {exit_code}",
                advice="Run `handfast doctor` to find the cause.",
            )
        return "".join(run.output)

    async def until(self, run: Run, word: str) -> None:
        """Wait until a background command has printed a word; show its output so far."""

        async def has_printed() -> None:
            while word not in "".join(run.output):
                if run.process.returncode is not None:
                    self._show(run.output)
                    raise PeerError(
                        "a process of the demonstration ended too early",
                        advice="Its last lines say why.",
                    )
                await asyncio.sleep(_POLL_SECONDS)

        await _bounded(has_printed())
        self._show(run.output)
        run.output.clear()

    async def close(self) -> None:
        """End the processes that still run, with SIGTERM and then with SIGKILL."""
        running = [run for run in self._runs if run.process.returncode is None]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for run in running:
                if run.process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        run.process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEMO_STOP_SECONDS):
                    await asyncio.gather(*(run.process.wait() for run in running))
                    break
        await asyncio.gather(*(run.reader for run in self._runs if run.reader is not None))

    async def _spawn(
        self, command: str, *, shown: str, stdin: str | None = None, at: str = ""
    ) -> Run:
        if shown:
            self._say(f"{at}$ {shown}")
        program, *arguments = shlex.split(command)
        module = _MODULES.get(program)
        started = (sys.executable, "-m", module) if module else (program,)
        process = await asyncio.create_subprocess_exec(
            *(*self._places.get(at, ()), *started, *arguments),
            cwd=self._folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        run = Run(process)
        self._runs.append(run)
        run.reader = asyncio.create_task(_read(run, stdin))
        return run

    def _show(self, output: Sequence[str]) -> None:
        for line in on_lines("".join(output)).splitlines():
            self._say(f"  {line}")


async def _read(run: Run, stdin: str | None) -> None:
    if stdin is not None and run.process.stdin is not None:
        run.process.stdin.write(stdin.encode())
        run.process.stdin.close()
    assert run.process.stdout is not None
    async for line in run.process.stdout:
        run.output.append(line.decode("utf-8", "replace"))


async def _bounded(work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(DEMO_STEP_SECONDS):
            return await work
    except TimeoutError as error:
        raise TimedOut(
            f"a step of the demonstration took longer than {DEMO_STEP_SECONDS:g} s",
            advice="Run it again when the machine is less busy.",
        ) from error


def _environment() -> dict[str, str]:
    """This process's environment, without settings of handfast, and with its import path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HANDFAST", "_HANDFAST"))
    }
    root = str(Path(__file__).resolve().parents[2])
    paths = filter(None, (root, os.environ.get("PYTHONPATH")))
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
