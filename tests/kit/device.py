"""A device in this process, over real UDP on loopback, and callers that send what a test wants.

A caller is one key with its sessions. It can send raw bodies and options that the client library
never sends. No test sleeps: it waits for an answer or an event, with a time limit.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from device_app.access.clock import SystemClocks
from device_app.app import App
from device_app.console.views import SessionView
from device_app.limits import BOARD_UPDATE_SECONDS
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.terms import PairingTerms
from device_app.remote.agent import MakeAgent
from device_app.remote.agent_factory import create_agent
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.audit import Event
from iam.model import Key, State, User
from peer import cbor
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.pairing.binding import Channel, Confirmation, confirmation
from peer.pairing.ceremony import Ceremony
from peer.pairing.compare import CompareClient
from peer.pairing.sides import Terms
from tests.kit.daemon import HOST, Daemon
from tests.kit.internals import request_by_hand
from tests.kit.memory_paths import MemoryPath
from tests.kit.waiting import TIMEOUT_SECONDS, until

#: The defaults, and a pairing port that closes soon after its window. A client makes one handshake
#: for one session, also on a machine that pauses it: tests count both.
QUICK_CLOSE = replace(
    DEFAULT_LIMITS, window_linger_seconds=0.3, handshake_again_seconds=TIMEOUT_SECONDS
)
#: Such a port, enough handshakes for every attack, and early retransmissions.
HASTY = replace(
    DEFAULT_LIMITS, window_linger_seconds=0.2, handshake_burst=2000, ack_timeout_seconds=0.3
)
#: The same, with a port that stays open until the client of the last ceremony has read its result:
#: for tests that send requests after the window has closed.
LINGERING = replace(HASTY, window_linger_seconds=3600)
#: A window that is open for longer than a client or a user may take for a step.
LONG_WINDOW = replace(
    DEFAULT_LIMITS,
    window_seconds=DEFAULT_LIMITS.window_max_seconds,
    window_linger_seconds=0.2,
    handshake_burst=2000,
)
#: After this time each step has ended.
STEP_OVER_SECONDS = DEFAULT_LIMITS.person_seconds + 1
SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    advertise=False,
    allow_loopback=True,
)


class Port(Protocol):
    """Returns the number of one of the two ports of a device."""

    def __call__(self, *, pairing: bool) -> int: ...


def fixed_port(number: int) -> Port:
    """Returns the same number for both ports, so that a proxy of the test can be used."""

    def port(*, pairing: bool) -> int:
        assert pairing in (True, False)
        return number

    return port


@dataclass(frozen=True)
class Answer:
    """A response: code, bytes, and the body decoded according to its Content-Format."""

    message: aiocoap.Message

    @property
    def code(self) -> str:
        return str(self.message.code.dotted)

    @property
    def payload(self) -> bytes:
        return bytes(self.message.payload)

    @property
    def body(self) -> Any:
        if self.message.opt.content_format in (60, 257):
            return cbor.decode_untrusted(self.payload)
        if self.message.opt.content_format in (0, None):
            return self.payload.decode()
        return self.payload

    @property
    def reason(self) -> str:
        return str(self.body["handfast:problem"]["reason"])

    @property
    def text(self) -> str:
        return f"{self.body[-1]} {self.body[-2]}"

    def __repr__(self) -> str:
        return f"Answer({self.code}, {self.payload!r})"


def request_of(
    method: Code | int | str,
    path: str,
    body: object = None,
    *,
    raw: bytes | None = None,
    ct: int | None = 60,
    options: dict[int, bytes] | None = None,
    **fields: Any,
) -> aiocoap.Message:
    """A request. `body` is sent as CBOR and `raw` unchanged; `options` have any number."""
    payload = raw if raw is not None else b"" if body is None else cbor.encode(body)
    plain, _, query = path.partition("?")
    message = aiocoap.Message(
        code=Code[method] if isinstance(method, str) else Code(method),
        uri_path=plain.removeprefix("/").split("/"),
        payload=payload,
        **fields,
    )
    if query:
        message.opt.uri_query = query.split("&")
    if (body is not None or raw is not None) and ct is not None:
        message.opt.content_format = ct
    for number, value in (options or {}).items():
        message.opt.add_option(OptionNumber(number).create_option(decode=value))
    return message


class Caller:
    """One key, and its sessions with the two ports of a device."""

    def __init__(
        self, port: Port, identity: Identity | None = None, *, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.identity = identity or Identity.create()
        self.client = CoapsClient(self.identity, limits=limits)
        #: The port of the device, or of a proxy in between.
        self.port = port
        #: The last session with each port, by "is the pairing port".
        self.connections: dict[bool, CoapsConnection] = {}
        #: The port of each of these sessions.
        self._ports: dict[bool, int] = {}

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint.hex

    async def connect(self, *, pairing: bool = False, fresh: bool = False) -> CoapsConnection:
        """The session with one of the two ports; opens one if there is none, or if `fresh`.

        A session with a port that has closed may still seem open: its end has not arrived yet.
        """
        held, port = self.connections.get(pairing), self.port(pairing=pairing)
        is_over = held is None or not held.is_open or self._ports.get(pairing, port) != port
        if held is None or is_over or fresh:
            address = Address(HOST, port)
            held = await self.client.connect(address, pinned=None, timeout=TIMEOUT_SECONDS)
            self.connections[pairing], self._ports[pairing] = held, port
        return held

    async def connect_over(self, device: "Device") -> MemoryPath:
        """Use a session over a remote path from now on; return the device's end of the path."""
        mine, theirs = MemoryPath.attached(device.app.server, self.identity.fingerprint)
        self._ports.pop(False, None)
        self.connections[False] = await self.client.connect_over(
            mine, pinned=device.fingerprint, timeout=TIMEOUT_SECONDS
        )
        return theirs

    async def disconnect(self, *, pairing: bool = False) -> None:
        """Close the session with one of the two ports; the next request opens a new one."""
        await self.connections.pop(pairing).close()

    async def send(self, message: aiocoap.Message, *, pairing: bool = False) -> Answer:
        connection = await self.connect(pairing=pairing)
        if message.opt.block1 is not None or message.opt.block2 is not None:
            return Answer(await request_by_hand(connection, message, timeout=TIMEOUT_SECONDS))
        return Answer(await connection.request(message, timeout=TIMEOUT_SECONDS))

    async def ask(
        self,
        method: Code | int | str,
        path: str,
        body: object = None,
        *,
        pairing: bool = False,
        **options: Any,
    ) -> Answer:
        return await self.send(request_of(method, path, body, **options), pairing=pairing)

    async def pair_ask(
        self, method: Code | int | str, path: str, body: object = None, **options: Any
    ) -> Answer:
        return await self.ask(method, path, body, pairing=True, **options)

    async def observe(self, path: str, *, pairing: bool = False) -> AsyncGenerator[Answer, None]:
        connection = await self.connect(pairing=pairing)
        async for message in connection.observe(request_of("GET", path)):
            yield Answer(message)

    async def start(self, name: str, **more: object) -> Answer:
        """Start a ceremony of the method `compare`."""
        return await self.pair_ask("POST", "/pair", {"method": "compare", "name": name, **more})

    async def compare_side(self, started: Answer) -> CompareClient:
        """The client's side of the ceremony that this answer started."""
        peer = (await self.connect(pairing=True)).peer
        channel = Channel(
            peer.exporter, self.identity.fingerprint, peer.fingerprint, started.body["window"]
        )
        client = CompareClient()
        client.begin()
        terms = Terms(channel, started.body["role"], "anna", started.body["id"])
        client.started_untrusted(terms, {})
        return client

    async def confirm(self, started: Answer) -> Answer:
        """Confirm a ceremony, and check the confirmation of the device."""
        side = await self.compare_side(started)
        done = await self.pair_ask("POST", f"/pair/{started.body['id']}", side.confirm())
        if done.code == "2.04":
            side.verify_untrusted(done.body)
        return done

    def tags(
        self, started: Answer, *, role: str | None = None, window: bytes | None = None
    ) -> Confirmation:
        """Both tags of a ceremony for this session, or with another role or window."""
        peer = self.connections[True].peer
        channel = Channel(
            peer.exporter,
            self.identity.fingerprint,
            peer.fingerprint,
            started.body["window"] if window is None else window,
        )
        b = channel.binding(method="compare", role=role or started.body["role"])
        return confirmation(peer.exporter, b, "compare")

    async def send_tag(self, started: Answer, tag: object) -> Answer:
        """Send any value as the confirmation of the client."""
        return await self.pair_ask("POST", f"/pair/{started.body['id']}", {"confirm": tag})

    async def close(self) -> None:
        await self.client.close()


class Device:
    """An `App` in this process, and the actions of its user."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.pairing_events: list[PairingEvent] = []
        self._event_arrived = asyncio.Event()
        app.pairing.events.subscribe(self._event_received)

    def _event_received(self, event: PairingEvent) -> None:
        self.pairing_events.append(event)
        self._event_arrived.set()

    @property
    def fingerprint(self) -> Fingerprint:
        return self.app.identity.fingerprint

    @property
    def users(self) -> State:
        return self.app.access.store.state

    def port(self, *, pairing: bool) -> int:
        return self.app.pairing.port.number if pairing else self.app.server.port

    async def event(
        self, kind: PairingEventKind, *, count: int = 1, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> PairingEvent:
        """The event number `count` of a kind; waits for it if necessary."""
        async with asyncio.timeout(timeout_seconds):
            while len(found := [one for one in self.pairing_events if one.kind is kind]) < count:
                self._event_arrived.clear()
                await self._event_arrived.wait()
        return found[count - 1]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for a condition that no event announces."""
        await until(holds)

    async def open(self, **options: Any) -> None:
        await self.app.pairing.open(**options)

    async def closed(self) -> None:
        """Close the window if it is open, and wait until the pairing port is closed."""
        self.app.pairing.close_window()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self.app.pairing.port.number:
                self._event_arrived.clear()
                await self._event_arrived.wait()

    async def port_closed(self) -> None:
        """Wait until the pairing port is closed."""
        await self.event(PairingEventKind.GONE)
        assert not self.app.pairing.port.number

    def pending(self) -> Ceremony:
        """The ceremony that waits for the decision of the device's user."""
        pending = self.app.pairing.ceremonies.pending()
        assert pending is not None
        return pending

    def decide(self, *, accept: bool) -> Ceremony:
        """Decide as the device's user."""
        return self.app.pairing.ceremonies.decide(self.pending().id, accept=accept)

    async def pair(self, caller: Caller, name: str, *, role: str | None = None) -> Answer:
        """Pair a caller; both users accept."""
        await self.open(role=role)
        started = await caller.start(name)
        assert started.code == "2.01", started
        self.decide(accept=True)
        done = await caller.confirm(started)
        assert done.code == "2.04", done
        await caller.disconnect(pairing=True)
        return done

    def add_user(self, name: str, role: str, identity: Identity, **fields: Any) -> None:
        """Add a user without a pairing, as the console does."""
        now = self.app.access.clock.now()
        key = Key(identity.fingerprint.hex, method="given", added=now)
        user = User(name, role, (key,), **{"created": now, **fields})
        self.app.access.registry.add_user(None, user)

    def counters(self, port: str = "regular") -> dict[str, int]:
        """The counters, as shown by `status`."""
        return dict(self.app.status()["counters"][port])

    def sessions(self, port: str) -> list[SessionView]:
        """The sessions, as shown by `status`."""
        return [one for one in self.app.status()["sessions"] if one["on"] == port]

    def events(self, kind: str) -> list[Event]:
        """The events of a kind in the audit trail."""
        trail = self.app.access.store.audit
        return [record.event for record in trail.iterate() if record.event.kind == kind]

    def results(self, kind: str) -> list[tuple[str, str]]:
        """Actor and result of each event of a kind."""
        return [(event.actor, event.result) for event in self.events(kind)]


class Kit:
    """Starts devices and callers with the given limits, and closes them."""

    def __init__(
        self, home: Path, *, limits: Limits = HASTY, board_seconds: float = BOARD_UPDATE_SECONDS
    ) -> None:
        self.home = home
        self._limits = limits
        self._board_seconds = board_seconds
        self._ends: list[Callable[[], Awaitable[object]]] = []

    async def device(
        self,
        *,
        settings: Settings = SETTINGS,
        limits: Limits | None = None,
        clocks: SystemClocks | None = None,
        terms: PairingTerms | None = None,
        board_seconds: float | None = None,
        make_agent: MakeAgent | None = None,
        **changes: Any,
    ) -> Device:
        chosen = replace(settings, limits=limits or self._limits, **changes)
        if terms is not None:
            chosen = replace(chosen, terms=terms)
        app = await App.start(
            Paths(self.home, self.home, self.home),
            chosen,
            clocks=clocks,
            board_seconds=self._board_seconds if board_seconds is None else board_seconds,
            make_agent=make_agent or create_agent,
        )
        self.at_end(app.close)
        return Device(app)

    def caller(self, port: Device | Port, identity: Identity | None = None) -> Caller:
        """A caller of a device in this process, or of one at the given `port`."""
        found = port.port if isinstance(port, Device) else port
        caller = Caller(found, identity, limits=self._limits)
        self.at_end(caller.close)
        return caller

    async def paired(self, device: Device, name: str, *, role: str | None = None) -> Caller:
        """A caller that has paired."""
        caller = self.caller(device)
        await device.pair(caller, name, role=role)
        return caller

    def known(self, device: Device, name: str, role: str, **fields: Any) -> Caller:
        """A caller whose key the console has added."""
        caller = self.caller(device)
        device.add_user(name, role, caller.identity, **fields)
        return caller

    def policy(self, text: str, name: str = "test.toml") -> Path:
        """Write a policy file, which the device reads at its next start or reload."""
        path = self.home / "policy.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def at_end(self, end: Callable[[], Awaitable[object]]) -> None:
        """Call `end` when the test is over, in reverse order of registration."""
        self._ends.append(end)

    def remove_policy(self, name: str = "test.toml") -> None:
        """Remove a policy file."""
        (self.home / "policy.d" / name).unlink(missing_ok=True)

    async def daemon(self, *args: str, **options: Any) -> Daemon:
        """Start `handfast-device run` as a process over the same home."""
        daemon = await Daemon.start(self.home, *args, **options)
        self.at_end(daemon.end)
        return daemon

    async def close(self) -> None:
        while self._ends:
            await self._ends.pop()()
