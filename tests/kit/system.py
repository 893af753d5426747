"""Devices and clients as processes, on real sockets and real terminals.

No test sleeps: it waits for output, an event or an exit, with a limit. A `Stage` ends all processes
that it started.
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
from tests.kit.ports import free_ports
from tests.kit.process import Program, Result, environment
from tests.kit.waiting import TIMEOUT_SECONDS

WIRETAP: Final = Path(__file__).with_name("wiretap.py")
HOST: Final = "127.0.0.1"


class Party:
    """One side: a home folder, and the network namespace of its commands."""

    module = ""

    def __init__(self, stage: "Stage", home: Path) -> None:
        self.stage = stage
        self.home = home
        #: The prefix of each command: empty, or `ip netns exec NAME`.
        self.place: tuple[str, ...] = ()

    def start(
        self,
        *args: str,
        options: Sequence[str] = (),
        terminal: bool = False,
        env: dict[str, str] | None = None,
    ) -> Program:
        """Start a command in the background."""
        argv = [sys.executable, "-m", self.module, "--home", str(self.home), *options, *args]
        return self.stage.start([*self.place, *argv], terminal=terminal, env=env)

    def run(self, *args: str, code: int = 0) -> Result:
        """Run a command to its end, and check its exit code."""
        return self.start(*args).end(code=code)

    def json(self, *args: str) -> dict[str, Any]:
        """The JSON object that a command prints with `--json`."""
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
        self.port, self.pairing_port = next(free_ports(HOST)), next(free_ports(HOST))
        self.run_options: list[str] = []
        self._daemon: Program | None = None

    @property
    def daemon(self) -> Program:
        assert self._daemon is not None
        return self._daemon

    def boot(self, *options: str, terminal: bool = False) -> dict[str, Any]:
        """Run the daemon on its ports until it is ready; return its status."""
        ports = ["--port", str(self.port), "--pairing-port", str(self.pairing_port)]
        self._daemon = self.start("run", *ports, *self.run_options, *options, terminal=terminal)
        self._daemon.until("ready\n", on="screen" if terminal else "err")
        return self.status()

    def stop(self) -> Result:
        """Send SIGTERM, as a service manager does."""
        self.daemon.send(signal.SIGTERM)
        return self.daemon.end(code=0)

    def ask(self, verb: str, **args: object) -> dict[str, Any]:
        """Call the running daemon directly, which is faster than a command."""
        return asyncio.run(call(self.places.socket, verb, args))

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll the status until a condition holds."""
        limit = time.monotonic() + TIMEOUT_SECONDS
        while not holds(status := self.status()):
            assert time.monotonic() < limit, status
        return status

    def open(self, *options: str) -> "OpenCommand":
        """Start `handfast-device open`, which waits for a client."""
        return OpenCommand(self, self.start("--json", "open", *options))

    def users(self) -> dict[str, list[str]]:
        """The fingerprints of each user."""
        listed = self.ask("users-list")["users"]
        return {user["name"]: [key["fingerprint"] for key in user["keys"]] for user in listed}

    def events(self, kind: str) -> list[Event]:
        """The events of a kind in the audit trail, after its chain was verified."""
        place = f"{(self.home / 'device.db').as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True)) as store:
            trail = AuditTrail(store, keep=10_000)
            assert trail.verify() is None
            return [record.event for record in trail.iterate() if record.event.kind == kind]

    def pair(self, client: "Client", name: str, *, target: str = "", role: str = "") -> Result:
        """Pair a client that knows the fingerprint from the label; the device's user accepts."""
        opening = self.open(*(["--role", role] if role else []))
        asking = client.ask_to_pair(self, target or opening.address, name)
        self.run("accept", opening.pending()["id"])
        opening.program.end(code=0)
        return asking.end(code=0)

    def admit(self, client: "Client", name: str, *, role: str = "owner") -> None:
        """Add a user on both sides without a pairing, for tests of other things."""
        self.ask("users-add", wish={"name": name, "role": role, "keys": [client.fingerprint]})
        client.know(self, user=name, role=role)


class OpenCommand:
    """A waiting `handfast-device open --json`."""

    def __init__(self, device: Device, program: Program) -> None:
        self.device = device
        self.program = program
        window = json.loads(self._line("window"))["window"]
        self.port = int(window["port"])
        self.address = f"{HOST}:{self.port}"

    def pending(self, *, times: int = 1) -> dict[str, Any]:
        """Wait for the ceremony that needs the decision of the device's user."""
        found: dict[str, Any] = json.loads(self._line("pending", times=times))["ceremony"]
        return found

    def ended(self) -> dict[str, Any]:
        """Wait for the ceremony that ended."""
        found: dict[str, Any] = json.loads(self._line("ended"))["ceremony"]
        return found

    def _line(self, event: str, *, times: int = 1) -> str:
        marker = f'"event": "{event}"'
        output = self.program.until(marker, on="out", times=times)
        return [line for line in output.splitlines() if marker in line][times - 1]


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
        """The fingerprint of its key, which is created if necessary."""
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
        """Store a device: its key, and its last known address."""
        known = KnownDevice(
            alias=alias or device.name,
            fingerprint=Fingerprint.parse(device.fingerprint),
            name=device.name,
            user=user,
            role=role,
            port=device.port,
            last_seen=at or f"{HOST}:{device.port}",
        )
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.book.put(known)

    def set_last_seen(self, device: Device, at: str) -> None:
        """Store another address as the last known one."""
        key = Fingerprint.parse(device.fingerprint)
        self.book.update(key, lambda one: replace(one, last_seen=at))

    def ask_to_pair(
        self, device: Device, target: str, name: str, *options: str, terminal: bool = False
    ) -> Program:
        """Run `handfast pair` with the expected fingerprint, so that no question is asked."""
        expected = ["--expect-fingerprint", device.fingerprint, "--name", name]
        return self.start("--json", "pair", target, *expected, *options, terminal=terminal)


class Stage:
    """Makes the parties of one test, and ends all processes that they started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []

    def device(self, name: str = "kitchen", *, announced: bool = False) -> Device:
        """A device on loopback. It is not announced by default, since loopback is shared."""
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
        """Start a relay to `device` that prints the DTLS records; return it and its port."""
        tap = self.start([*place, sys.executable, str(WIRETAP), at, device])
        output = tap.until("\n", on="out")
        return tap, int(output.split()[1])

    def end(self) -> None:
        """End all processes in reverse order."""
        for program in reversed(self.programs):
            program.close()

    def close(self) -> None:
        """End all processes, and fail if one printed a traceback."""
        self.end()
        for program in self.programs:
            print(program, end="\n\n")  # pytest shows this if the test failed
        for program in self.programs:
            assert "Traceback" not in repr(program), program
