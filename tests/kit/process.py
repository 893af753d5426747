"""A command as a process: its output is read as it arrives, and every wait has a limit."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.kit.waiting import TIMEOUT_SECONDS

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """The only JSON object on stdout."""
        [line] = self.out.splitlines()
        value: dict[str, Any] = json.loads(line)
        assert value["schema"] == 1
        return value

    @property
    def error(self) -> dict[str, Any]:
        """The error of a client with `--json`: one object on stderr, and nothing on stdout."""
        assert not self.out, self
        value: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        assert value["schema"] == 1
        found: dict[str, Any] = value["error"]
        assert found["exit"] == self.code
        return found


class Program:
    """A running command.

    On a `terminal`, all of its output is on one `screen`. With `typed`, it reads lines from the
    test, and `out` has both of its streams. Otherwise the streams are `out` and `err`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: dict[str, str] | None,
        *,
        terminal: bool = False,
        typed: bool = False,
    ) -> None:
        self.argv = list(argv)
        self.started_at = time.monotonic()
        self.ended_at = 0.0
        self._output: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._screen: int | None = None
        self._closing = [*os.pipe()]
        if terminal:
            self._screen, program_side = pty.openpty()
            self.process = subprocess.Popen(
                self.argv,
                env=env,
                stdin=program_side,
                stdout=program_side,
                stderr=program_side,
                close_fds=True,
            )
            os.close(program_side)
            streams = {"screen": self._screen}
        else:
            self.process = subprocess.Popen(
                self.argv,
                env=env,
                stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if typed else subprocess.PIPE,
            )
            assert self.process.stdout is not None
            streams = {"out": self.process.stdout.fileno()}
            if self.process.stderr is not None:
                streams["err"] = self.process.stderr.fileno()
        self._threads = [
            threading.Thread(target=self._read, args=(name, fd), daemon=True)
            for name, fd in streams.items()
        ]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for name in streams:
            self._output[name] = b""
        self._open_streams = set(streams)
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, descriptor: int) -> None:
        while True:
            try:
                ready, _, _ = select.select([descriptor, self._closing[0]], [], [])
                if self._closing[0] in ready:  # a read that waits would keep the terminal open
                    os.close(descriptor)
                data = b"" if self._closing[0] in ready else os.read(descriptor, 65536)
            except OSError:  # the last process has closed the terminal
                data = b""
            with self._changed:
                self._output[name] += data
                if not data:
                    self._open_streams.remove(name)
                self._changed.notify_all()
            if not data:
                return

    def _watch(self) -> None:
        self.process.wait()
        with self._changed:
            self.ended_at = time.monotonic()
            self._changed.notify_all()

    def output(self, on: str) -> str:
        """The output so far."""
        return self._output[on].decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def is_running(self) -> bool:
        return not self.ended_at

    def until(self, text: str, *, on: str = "err", times: int = 1, since: int = 0) -> str:
        """Wait until `text` was printed `times` times from offset `since`; return the output."""

        def is_printed() -> bool:
            return self.output(on)[since:].count(text) >= times

        with self._changed:
            self._changed.wait_for(
                lambda: is_printed() or not self._is_listening(), TIMEOUT_SECONDS
            )
        assert is_printed(), f"{text!r} was not printed on {on}: {self}"
        return self.output(on)

    def _is_listening(self) -> bool:
        return self.is_running or bool(self._open_streams)

    def type(self, line: str) -> None:
        """Type a line at its terminal, or write it to its input."""
        if self._screen is not None:
            os.write(self._screen, f"{line}\n".encode())
            return
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close_terminal(self) -> None:
        """Close its terminal, as when a window is closed or a remote shell is lost.

        Start it with `setsid --ctty`, so that the terminal is the controlling one.
        """
        assert self._screen is not None
        self._screen = None
        os.write(self._closing[1], b"x")

    def end(self, *, code: int | None = None, seconds: float = TIMEOUT_SECONDS) -> Result:
        """Wait for its end, for some seconds, and check the exit code if one is given."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        assert not self._is_listening(), f"the command does not end: {self}"
        screen = "screen" in self._output
        result = Result(
            self.process.returncode,
            self.output("screen" if screen else "out"),
            self.output("err") if "err" in self._output else "",
        )
        assert code is None or result.code == code, f"expected exit code {code}: {self}"
        return result

    def close(self) -> None:
        """Terminate it, or kill it if necessary, and free its resources. Safe to repeat."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.is_running:
                self.send(number)
                with self._changed:
                    self._changed.wait_for(lambda: not self.is_running, TIMEOUT_SECONDS / 2)
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self._screen is not None:
            os.close(self._screen)
            self._screen = None
        while self._closing:
            os.close(self._closing.pop())

    def __repr__(self) -> str:
        output = "\n".join(f"--- {name}\n{self.output(name)}" for name in self._output)
        return f"{' '.join(self.argv)}\nexit {self.process.returncode}\n{output}"


def environment() -> dict[str, str]:
    """Our environment, without variables that change the folders of the processes."""
    of_a_service = "(STATE|RUNTIME)_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_|JOURNAL_STREAM$"
    excluded = re.compile(f"_?HANDFAST|{of_a_service}")
    kept = {name: value for name, value in os.environ.items() if not excluded.match(name)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb"}
