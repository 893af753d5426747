"""The demonstration of `handfast demo`: real processes, each command printed before it runs.

It uses a temporary folder and the loopback interface. Each step has a time limit; a step that fails
ends the demonstration with an error. The processes and the folder are removed in any case.
"""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from client_app.limits import DEMO_STEP_SECONDS, DEMO_STOP_SECONDS
from peer.errors import PeerError, TimedOut
from peer.terminal.text import on_lines

_LOOPBACK: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.1
# Commands are printed as they are typed, and run as modules by this Python interpreter.
_MODULES: Final = {"handfast": "client_app", "handfast-device": "device_app"}

_CODE: Final = re.compile(r"[0-9]{4}-[0-9]{4}")
_LABEL: Final = re.compile(r"HANDFAST:1\S+")

Say = Callable[[str], object]
T = TypeVar("T")


@dataclass(slots=True)
class _Run:
    """A process and its output, with both streams in the order in which a terminal shows them."""

    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None


async def tour(say: Say) -> None:
    """Run the demonstration. Raises `PeerError` if a step does not end as expected."""
    with tempfile.TemporaryDirectory(prefix="handfast-demo-") as folder:
        stage = _Stage(Path(folder), say)
        try:
            await _tour(stage)
        finally:
            await stage.close()


async def _tour(stage: "_Stage") -> None:
    device, anna, mia, eve = (f"--home {who}" for who in ("device", "anna", "mia", "eve"))
    here = f"--interface {_LOOPBACK}"
    stage.chapter("Create a device with its own key, and start it. Port 0 means any free port.")
    made = await stage.run(f"handfast-device {device} init --name kitchen")
    daemon = await stage.start(
        f"handfast-device {device} run --allow-loopback --listen {_LOOPBACK}"
        f" {here} --port 0 --pairing-port 0"
    )
    await stage.until(daemon, "ready")

    stage.chapter(
        "Open the pairing window at the device. Clients on the network can see that it is open."
    )
    window = await stage.run(f"handfast-device {device} open --no-wait")
    await stage.run(f"handfast {anna} {here} discover --timeout 2s")

    if code := _CODE.search(window):
        stage.chapter(
            "Pair with the code that the device shows. It authenticates both sides to each other, "
            "so\na man in the middle is detected. On a terminal, the client asks for the code."
        )
        await stage.run(f"handfast {anna} {here} pair {_id(made)} --name anna --code {code[0]}")
    else:
        stage.chapter(
            "Pair with a label: the device shows no code, for the reason above. The label\n"
            "authenticates both sides to each other, so a man in the middle is detected."
        )
        label = _label(await stage.run(f"handfast-device {device} label"))
        await stage.run(f"handfast-device {device} open --no-wait --methods label")
        await stage.run(f"handfast {anna} {here} pair {shlex.quote(label)} --name anna")

    stage.chapter("From now on, both sides accept only the key that they have stored.")
    await stage.run(f"handfast {anna} get kitchen /hello")
    await stage.run(f"handfast {anna} observe kitchen /board --count 2")

    stage.chapter(
        "To add someone who is not on the LAN, send an invite. It works once and grants one role."
    )
    await stage.run(
        f"handfast {anna} -q invite kitchen mia --role guest --for 1h",
        into=f"handfast {mia} {here} pair -",
    )
    await stage.run(f"handfast {mia} get kitchen /hello")

    stage.chapter("A guest may not list the users, and a client that is not paired is refused.")
    await stage.run(f"handfast {mia} users kitchen", exit_code=7)
    await stage.run(f"handfast {anna} export", into=f"handfast {eve} import -")
    await stage.run(f"handfast {eve} get kitchen /hello", exit_code=10)
    await stage.run(f"handfast {anna} events kitchen --last 3")

    stage.chapter("Remove the user mia. This takes effect at once, also on an open observation.")
    watching = await stage.start(f"handfast {mia} observe kitchen /board")
    await stage.until(watching, "load")
    await stage.run(f"handfast {anna} users kitchen remove mia --yes")
    await stage.end(watching, exit_code=10)
    stage.chapter("End of the demonstration; its processes and its folder are removed.")


def _id(shown: str) -> str:
    """The device's id in what `init` prints; a name another device might have as well."""
    return shown.partition("id ")[2].split()[0]


def _label(shown: str) -> str:
    """The text of the label in what `label` prints."""
    found = _LABEL.search(shown)
    if found is None:
        raise PeerError("the device has printed no label")
    return found[0]


class _Stage:
    """Runs commands in one folder, prints them and their output, and cleans up."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder = folder
        self._say = say
        self._runs: list[_Run] = []

    def chapter(self, text: str) -> None:
        """Print a comment on the next commands."""
        self._say(f"\n# {text.replace(chr(10), chr(10) + '# ')}")

    async def run(self, command: str, *, exit_code: int = 0, into: str = "") -> str:
        """Run a command and return its output; `into` is a second command that reads it."""
        started = await self._spawn(command, shown=f"{command} | {into}" if into else command)
        output = await self.end(started, exit_code=exit_code, is_shown=not into)
        if into:
            second = await self._spawn(into, shown="", stdin=output)
            return await self.end(second, exit_code=0)
        return output

    async def start(self, command: str) -> _Run:
        """Start a command in the background."""
        return await self._spawn(command, shown=f"{command} &")

    async def end(self, run: _Run, *, exit_code: int, is_shown: bool = True) -> str:
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

    async def until(self, run: _Run, word: str) -> None:
        """Wait until a background command has printed a word; show its output so far."""

        async def has_printed() -> None:
            while word not in "".join(run.output):
                if run.process.returncode is not None:
                    self._show(run.output)
                    raise PeerError("a process of the demonstration ended too early")
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

    async def _spawn(self, command: str, *, shown: str, stdin: str | None = None) -> _Run:
        if shown:
            self._say(f"$ {shown}")
        program, *arguments = shlex.split(command)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULES[program], *arguments),
            cwd=self._folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        run = _Run(process)
        self._runs.append(run)
        run.reader = asyncio.create_task(_read(run, stdin))
        return run

    def _show(self, output: Sequence[str]) -> None:
        for line in on_lines("".join(output)).splitlines():
            self._say(f"  {line}")


async def _read(run: _Run, stdin: str | None) -> None:
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
            f"a step of the demonstration took longer than {DEMO_STEP_SECONDS:g} s"
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
