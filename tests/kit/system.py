"""Devices and clients as processes, on real sockets and real terminals.

Nothing sleeps: every wait is for a text, an event or an exit, with a limit. A `Stage` ends all
processes that it started.
"""

import asyncio
import json
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.console import offline
from device_app.console.control_client import call
from device_app.settings.paths import Paths
from iam.audit import AuditTrail, Event
from peer.identity import Fingerprint, Identity
from tests.kit.process import Program, Result, environment
from tests.kit.waiting import TIMEOUT_SECONDS

WIRETAP: Final = Path(__file__).with_name("wiretap.py")
HOST: Final = "127.0.0.1"


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
        limit = time.monotonic() + TIMEOUT_SECONDS
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
