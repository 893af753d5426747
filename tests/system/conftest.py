"""Real daemons and real clients as processes, on real sockets, with real terminals.

Nothing sleeps: what a process says is read as it comes, and every wait is for a word, an event or
an exit, with a limit. All processes started here are ended here.

Test modules get all of this through the fixture `stage`; they import the classes for types only.
"""

import asyncio
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.console import offline
from device_app.console.control_client import call
from device_app.paths import Paths
from iam.audit import AuditTrail, Event
from peer.identity import Fingerprint, Identity

ROOT: Final = Path(__file__).resolve().parents[2]
WIRETAP: Final = Path(__file__).with_name("wiretap.py")
HOST: Final = "127.0.0.1"
PATIENCE: Final = 20.0
"""Seconds until a test gives up waiting; on a busy machine everything takes longer."""


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """Its one JSON object, and nothing else on stdout."""
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
    """A running command. On a terminal, all it says is on one screen; else `out` and `err`."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], *, terminal: bool = False) -> None:
        self.argv = list(argv)
        self.started_at = time.monotonic()
        self.ended_at = 0.0
        self._said: dict[str, bytes] = {}
        self._news = threading.Condition()
        self._screen: int | None = None
        if terminal:
            self._screen, theirs = pty.openpty()
            self.process = subprocess.Popen(
                self.argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
            )
            os.close(theirs)
            streams = {"screen": self._screen}
        else:
            self.process = subprocess.Popen(
                self.argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            streams = {"out": self.process.stdout.fileno(), "err": self.process.stderr.fileno()}
        self._threads = [
            threading.Thread(target=self._read, args=(name, fd), daemon=True)
            for name, fd in streams.items()
        ]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for name in streams:
            self._said[name] = b""
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, descriptor: int) -> None:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # a terminal that the last process has left
                data = b""
            with self._news:
                self._said[name] += data
                self._news.notify_all()
            if not data:
                return

    def _watch(self) -> None:
        self.process.wait()
        with self._news:
            self.ended_at = time.monotonic()
            self._news.notify_all()

    def said(self, on: str) -> str:
        """All it has said so far."""
        return self._said[on].decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def is_running(self) -> bool:
        return not self.ended_at

    def until(self, text: str, *, on: str = "err", times: int = 1, since: int = 0) -> str:
        """Wait until it has said `text` so often, beginning at `since`; all it has said."""

        def heard() -> bool:
            return self.said(on)[since:].count(text) >= times

        with self._news:
            self._news.wait_for(lambda: heard() or not self._is_listening(), PATIENCE)
        assert heard(), f"never said {text!r} on {on}: {self}"
        return self.said(on)

    def _is_listening(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def type(self, line: str) -> None:
        """What a person types at its terminal."""
        assert self._screen is not None
        os.write(self._screen, f"{line}\n".encode())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, *, code: int | None = None) -> Result:
        """Wait for its end. With `code`, that is how it has to end."""
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        assert not self._is_listening(), f"does not end: {self}"
        screen = self._screen is not None
        result = Result(
            self.process.returncode,
            self.said("screen" if screen else "out"),
            "" if screen else self.said("err"),
        )
        assert code is None or result.code == code, f"wanted exit {code}: {self}"
        return result

    def close(self) -> None:
        """End it, with a word first; free what it held."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.is_running:
                self.send(number)
                with self._news:
                    self._news.wait_for(lambda: not self.is_running, PATIENCE / 2)
        for thread in self._threads:
            thread.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self._screen is not None:
            os.close(self._screen)
            self._screen = None

    def __repr__(self) -> str:
        said = "\n".join(f"--- {name}\n{self.said(name)}" for name in self._said)
        return f"{' '.join(self.argv)}\nexit {self.process.returncode}\n{said}"


class Party:
    """One side: a home folder, and the place in which its commands run."""

    module = ""

    def __init__(self, stage: "Stage", home: Path) -> None:
        self.stage = stage
        self.home = home
        #: The prefix of the command: empty, or `ip netns exec NAME`.
        self.place: tuple[str, ...] = ()

    def start(
        self,
        *args: str,
        options: Sequence[str] = (),
        terminal: bool = False,
        env: dict[str, str] | None = None,
    ) -> Program:
        """A command that runs in the background."""
        argv = [sys.executable, "-m", self.module, "--home", str(self.home), *options, *args]
        return self.stage.start([*self.place, *argv], terminal=terminal, env=env)

    def run(self, *args: str, code: int = 0) -> Result:
        """A command, to its end, with this exit code."""
        return self.start(*args).end(code=code)

    def json(self, *args: str) -> dict[str, Any]:
        """What a command says with `--json`."""
        return self.run(*args, "--json").value


class Device(Party):
    """A device's home, and its daemon while it runs."""

    module = "device_app"

    def __init__(self, stage: "Stage", home: Path, *, name: str) -> None:
        super().__init__(stage, home)
        self.name = name
        self.places = Paths(home, home, home)
        made = offline.init(self.places, name=name, force=False)
        self.id = str(made["id"])
        self.fingerprint = str(made["fingerprint"])
        self.port = 0  # 0: any; then the one of the last time
        self.pairing_port = 0
        self.run_options: list[str] = []
        self._daemon: Program | None = None

    @property
    def daemon(self) -> Program:
        assert self._daemon is not None
        return self._daemon

    def boot(self, *options: str, terminal: bool = False) -> dict[str, Any]:
        """Run the daemon, on the ports of the last time, until it is ready; its status then."""
        ports = ["--port", str(self.port), "--pairing-port", str(self.pairing_port)]
        self._daemon = self.start("run", *ports, *self.run_options, *options, terminal=terminal)
        self._daemon.until("ready\n", on="screen" if terminal else "err")
        status = self.status()
        self.port = int(status["port"])
        return status

    def stop(self) -> Result:
        """SIGTERM, as a service manager does."""
        self.daemon.send(signal.SIGTERM)
        return self.daemon.end(code=0)

    def ask(self, verb: str, **args: object) -> dict[str, Any]:
        """Ask the running daemon as its command line does, without a process for each look."""
        return asyncio.run(call(self.places.socket, verb, args))

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the status until something holds in it."""
        limit = time.monotonic() + PATIENCE
        while not holds(status := self.status()):
            assert time.monotonic() < limit, status
        return status

    def open(self, *options: str) -> "Opening":
        """`handfast-device open`, which waits."""
        return Opening(self, self.start("--json", "open", *options))

    def users(self) -> dict[str, list[str]]:
        """User → fingerprints."""
        listed = self.ask("users-list")["users"]
        return {user["name"]: [key["fingerprint"] for key in user["keys"]] for user in listed}

    def events(self, kind: str) -> list[Event]:
        """What the audit trail, whose chain has to hold, has of a kind."""
        place = f"{(self.home / 'device.db').as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True)) as store:
            trail = AuditTrail(store, keep=10_000)
            assert trail.verify() is None
            return [record.event for record in trail.iterate() if record.event.kind == kind]

    def pair(self, client: "Client", name: str, *, target: str = "", role: str = "") -> Result:
        """Window, request, the device's yes; the client knows the fingerprint from the label."""
        opening = self.open(*(["--role", role] if role else []))
        asking = client.ask_to_pair(self, target or opening.address, name)
        self.run("accept", opening.pending()["id"])
        opening.program.end(code=0)
        return asking.end(code=0)

    def admit(self, client: "Client", name: str, *, role: str = "owner") -> None:
        """Make both know each other without a pairing, where that is not what is shown."""
        self.ask("users-add", wish={"name": name, "role": role, "keys": [client.fingerprint]})
        client.know(self, user=name, role=role)


class Opening:
    """A waiting `handfast-device open --json`."""

    def __init__(self, device: Device, program: Program) -> None:
        self.device = device
        self.program = program
        window = json.loads(self._line("window"))["window"]
        self.port = int(window["port"])
        self.address = f"{HOST}:{self.port}"

    def pending(self, *, times: int = 1) -> dict[str, Any]:
        """The ceremony that waits for the device's user, as soon as there is one."""
        found: dict[str, Any] = json.loads(self._line("pending", times=times))["ceremony"]
        return found

    def ended(self) -> dict[str, Any]:
        """The ceremony that ended, as soon as there is one."""
        found: dict[str, Any] = json.loads(self._line("ended"))["ceremony"]
        return found

    def _line(self, event: str, *, times: int = 1) -> str:
        word = f'"event": "{event}"'
        said = self.program.until(word, on="out", times=times)
        return [line for line in said.splitlines() if word in line][times - 1]


class Client(Party):
    """A client's home."""

    module = "client_app"

    def start(
        self,
        *args: str,
        options: Sequence[str] = (),
        terminal: bool = False,
        env: dict[str, str] | None = None,
    ) -> Program:
        if not self.place:
            options = ["--interface", HOST, *options]
        return super().start(*args, options=options, terminal=terminal, env=env)

    @property
    def fingerprint(self) -> str:
        """Of its key, which is made now if there is none."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        return Identity.load_or_create(self.home / "identity.pem").fingerprint.hex

    @property
    def book(self) -> DeviceBook:
        return DeviceBook(self.home / "devices.json")

    @property
    def aliases(self) -> list[str]:
        return [one.alias for one in self.book.all()]

    def know(
        self, device: Device, *, user: str = "", role: str = "", at: str = "", alias: str = ""
    ) -> None:
        """Write down a device: whose key it has, and where it was last seen."""
        known = KnownDevice(
            alias=alias or device.name,
            fingerprint=Fingerprint.parse(device.fingerprint),
            name=device.name,
            user=user,
            role=role,
            port=device.port or 5684,
            last_seen=at or (f"{HOST}:{device.port}" if device.port else ""),
        )
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.book.put(known)

    def look_at(self, device: Device, at: str) -> None:
        """It was last seen there."""
        key = Fingerprint.parse(device.fingerprint)
        self.book.update(key, lambda one: replace(one, last_seen=at))

    def ask_to_pair(
        self, device: Device, target: str, name: str, *options: str, terminal: bool = False
    ) -> Program:
        """`handfast pair` with the fingerprint known from another source: no one is asked here."""
        expected = ["--expect-fingerprint", device.fingerprint, "--name", name]
        return self.start("--json", "pair", target, *expected, *options, terminal=terminal)


class Stage:
    """Makes the parties of one test, and ends everything they started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []

    def device(self, name: str = "kitchen", *, announced: bool = False) -> Device:
        """A device on the loopback; not announced, since all of this machine share that one."""
        device = Device(self, self.folder / f"device-{name}", name=name)
        device.run_options = ["--listen", HOST, "--interface", HOST, "--allow-loopback"]
        if not announced:
            more = device.home / "device.d"
            more.mkdir()
            (more / "quiet.toml").write_text("[network]\nadvertise = false\n")
        return device

    def client(self, name: str) -> Client:
        return Client(self, self.folder / f"client-{name}")

    def start(
        self, argv: Sequence[str], *, terminal: bool = False, env: dict[str, str] | None = None
    ) -> Program:
        program = Program(argv, environment() | (env or {}), terminal=terminal)
        self.programs.append(program)
        return program

    def wiretap(
        self, device: str, *, at: str = f"{HOST}:0", place: Sequence[str] = ()
    ) -> tuple[Program, int]:
        """A relay to `device` that tells the DTLS records that pass, and its port."""
        tap = self.start([*place, sys.executable, str(WIRETAP), at, device])
        said = tap.until("\n", on="out")
        return tap, int(said.split()[1])

    def close(self) -> None:
        """End all, the last first; none may have failed with a traceback."""
        for program in reversed(self.programs):
            program.close()
        for program in self.programs:
            print(program, end="\n\n")  # shown if the test failed
        for program in self.programs:
            assert "Traceback" not in repr(program), program


def environment() -> dict[str, str]:
    """Ours, without what would lead the processes to other folders."""
    ours = re.compile(r"_?HANDFAST|(STATE|RUNTIME)_DIRECTORY$|NOTIFY_SOCKET$")
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.close()
