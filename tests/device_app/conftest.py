"""A device on loopback, in this process or as a process of its own, and clients that talk to it.

Nothing sleeps: tests wait for answers, for events of the pairing service, or for lines of
output, each with a time limit. Ports are those the kernel gives.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from device_app.access.clock import SystemClocks
from device_app.app import App
from device_app.config import Settings
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.terms import PairingTerms
from device_app.paths import Paths
from iam.model import Key, User
from peer import cbor
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.pairing.binding import Channel
from peer.pairing.ceremony import Ceremony
from peer.pairing.compare import CompareClient
from peer.pairing.sides import Terms

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds until a test gives up waiting
OUT_OF_THE_BOX = replace(DEFAULT_LIMITS, window_linger_seconds=0.3)


@dataclass
class Answer:
    """What came back, with its body in the form of its content format."""

    code: str
    body: Any
    message: aiocoap.Message

    @property
    def reason(self) -> str:
        return str(self.body["handfast:problem"]["reason"])

    @property
    def text(self) -> str:
        return f"{self.body[-1]} {self.body[-2]}"


def answer_of(message: aiocoap.Message) -> Answer:
    body: Any = message.payload
    if message.opt.content_format in (60, 257):
        body = cbor.decode_untrusted(message.payload)
    elif message.opt.content_format == 0:
        body = message.payload.decode()
    return Answer(message.code.dotted, body, message)


def request_of(
    method: str, path: str, body: object = None, *, raw: bytes | None = None, ct: int | None = 60
) -> aiocoap.Message:
    """A request; `body` goes as CBOR, `raw` as it is."""
    payload = raw if raw is not None else b"" if body is None else cbor.encode(body)
    segments = path.removeprefix("/").partition("?")
    message = aiocoap.Message(
        code=getattr(Code, method), uri_path=segments[0].split("/"), payload=payload
    )
    if segments[2]:
        message.opt.uri_query = segments[2].split("&")
    if body is not None or (raw is not None and ct is not None):
        message.opt.content_format = ct
    return message


class Caller:
    """One client key, with a connection to each of the two ports of a device."""

    def __init__(self, port: Callable[[bool], int], identity: Identity | None = None) -> None:
        self.identity = identity or Identity.create()
        self._port = port
        self.client = CoapsClient(self.identity)
        self.connections: dict[bool, CoapsConnection] = {}

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint.hex

    async def connect(self, *, pairing: bool = False) -> CoapsConnection:
        held = self.connections.get(pairing)
        if held is None or not held.is_open:
            address = Address(HOST, self._port(pairing))
            held = await self.client.connect(address, pinned=None, timeout=PATIENCE)
            self.connections[pairing] = held
        return held

    async def ask(
        self, method: str, path: str, body: object = None, *, pairing: bool = False, **options: Any
    ) -> Answer:
        connection = await self.connect(pairing=pairing)
        message = request_of(method, path, body, **options)
        return answer_of(await connection.request(message, timeout=PATIENCE))

    async def pair_ask(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        return await self.ask(method, path, body, pairing=True, **options)

    async def afresh(self) -> None:
        """Give up the session, as a client does that has not heard yet that the device has."""
        await self.connections.pop(False).close()

    async def observe(self, path: str, *, pairing: bool = False) -> AsyncGenerator[Answer, None]:
        connection = await self.connect(pairing=pairing)
        async for message in connection.observe(request_of("GET", path)):
            yield answer_of(message)

    async def tag(self, started: Answer) -> CompareClient:
        """The client's half of the ceremony that this answer began."""
        connection = await self.connect(pairing=True)
        peer = connection.peer
        channel = Channel(
            peer.exporter, self.identity.fingerprint, peer.fingerprint, started.body["window"]
        )
        client = CompareClient()
        client.begin()
        terms = Terms(channel, started.body["role"], "anna", started.body["id"])
        client.started_untrusted(terms, {})
        return client

    async def start(self, name: str, **more: object) -> Answer:
        return await self.pair_ask("POST", "/pair", {"method": "compare", "name": name, **more})

    async def confirm(self, started: Answer) -> Answer:
        side = await self.tag(started)
        done = await self.pair_ask("POST", f"/pair/{started.body['id']}", side.confirm())
        if done.code == "2.04":
            side.verify_untrusted(done.body)
        return done

    async def close(self) -> None:
        await self.client.close()


class Device:
    """An App in this process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.news: list[PairingEvent] = []
        self._came = asyncio.Event()
        app.pairing.events.subscribe(self._heard)

    def _heard(self, news: PairingEvent) -> None:
        self.news.append(news)
        self._came.set()

    @property
    def fingerprint(self) -> Fingerprint:
        return self.app.identity.fingerprint

    def port(self, pairing: bool) -> int:
        return self.app.pairing.port.number if pairing else self.app.server.port

    async def heard(self, kind: PairingEventKind, *, count: int = 1) -> PairingEvent:
        """The count-th news of a kind, now or when it comes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [news for news in self.news if news.kind is kind]
                if len(found) >= count:
                    return found[count - 1]
                self._came.clear()
                await self._came.wait()

    async def open(self, **options: Any) -> None:
        await self.app.pairing.open(**options)

    def decide(self, *, accept: bool) -> Ceremony:
        pending = self.app.pairing.ceremonies.pending()
        assert pending is not None
        return self.app.pairing.ceremonies.decide(pending.id, accept=accept)

    async def port_closed(self) -> None:
        """Until the pairing port is gone."""
        await self.heard(PairingEventKind.GONE)
        assert not self.app.pairing.port.number

    def events(self, kind: str) -> list[Any]:
        trail = self.app.access.store.audit
        return [record.event for record in trail.iterate() if record.event.kind == kind]

    def shows(self, kind: str) -> list[tuple[str, str]]:
        """(actor, result) of the events of a kind."""
        return [(event.actor, event.result) for event in self.events(kind)]

    async def pair(self, caller: Caller, name: str, *, role: str | None = None) -> Answer:
        """Pair with both users' yes."""
        await self.open(role=role)
        started = await caller.start(name)
        assert started.code == "2.01", started
        self.decide(accept=True)
        done = await caller.confirm(started)
        assert done.code == "2.04", done
        await caller.connections.pop(True).close()
        return done


SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    advertise=False,
    allow_loopback=True,
)


class Kit:
    """Starts devices and callers, and ends them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ends: list[Callable[[], Awaitable[None]]] = []

    async def device(
        self,
        *,
        settings: Settings | None = None,
        limits: Limits = OUT_OF_THE_BOX,
        clocks: SystemClocks | None = None,
        terms: PairingTerms | None = None,
        board_seconds: float = 0.05,
        **changes: Any,
    ) -> Device:
        chosen = replace(settings or SETTINGS, limits=limits, **changes)
        if terms is not None:
            chosen = replace(chosen, terms=terms)
        app = await App.start(
            Paths(self.home, self.home, self.home),
            chosen,
            clocks=clocks,
            board_seconds=board_seconds,
        )
        self._ends.append(app.close)
        return Device(app)

    def caller(self, device: Device, identity: Identity | None = None) -> Caller:
        caller = Caller(device.port, identity)
        self._ends.append(caller.close)
        return caller

    async def paired(self, device: Device, name: str, *, role: str | None = None) -> Caller:
        caller = self.caller(device)
        await device.pair(caller, name, role=role)
        return caller

    def known(self, device: Device, name: str, role: str, **more: Any) -> Caller:
        """A caller whose key the console has added."""
        caller = self.caller(device)
        key = Key(caller.fingerprint, method="given", added=1.0)
        device.app.access.registry.add_user(None, User(name, role, (key,), **more))
        return caller

    def policy(self, text: str, name: str = "test.toml") -> Path:
        """A policy file of the device, there from its next start or reload on."""
        path = self.home / "policy.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    async def process(self, *args: str, **options: Any) -> "Process":
        process = await Process.start(self.home, *args, **options)
        self._ends.append(process.end)
        return process

    def caller_of(self, process: "Process", identity: Identity | None = None) -> Caller:
        caller = Caller(process.port, identity)
        self._ends.append(caller.close)
        return caller

    async def close(self) -> None:
        while self._ends:
            await self._ends.pop()()


class Process:
    """`handfast-device run` as a process; its stderr is read until "ready"."""

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
    ) -> "Process":
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
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.said.append(line)
                if text in line:
                    return line
        raise AssertionError(f"the daemon never said {text!r}: {''.join(self.said)}")

    async def _read_on(self) -> None:
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.said.append(line)
            self._spoke.set()

    async def line(self) -> None:
        """Until it says something more."""
        self._spoke.clear()
        await self._spoke.wait()

    async def says(self, text: str) -> None:
        """Until it has said this since we last listened."""
        async with asyncio.timeout(PATIENCE):
            while not any(text in line for line in self.said[self.heard :]):
                await self.line()
        self.heard = len(self.said)

    def port(self, pairing: bool) -> int:
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
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            if self._reader is not None:
                await self._reader
        return code

    async def end(self) -> None:
        if self.process.returncode is None:
            await self.stop()
        if self._reader is not None:
            self._reader.cancel()
        # The transport closes its pipes when it hears of the end; let it.
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
    """One command to its end."""
    process = await asyncio.create_subprocess_exec(
        *command(home, *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment() | (env or {}),
    )
    async with asyncio.timeout(4 * PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(tmp_path / "home")
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            await made.close()


@pytest.fixture
async def device(kit: Kit) -> Device:
    """A fresh device with a closed window."""
    return await kit.device()


@pytest.fixture
async def owner(kit: Kit, device: Device) -> Caller:
    """The first client to pair."""
    return await kit.paired(device, "olga")
