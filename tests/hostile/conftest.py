"""A real device in this process, over real UDP, and callers that do not behave.

A caller here sends what a test wants, not what our client would: raw bodies, strange options,
bytes under CoAP. Nothing sleeps; what a test waits for has a time limit.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.blockwise import Block1Spool, Block2Cache
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from device_app.access.clock import SystemClocks
from device_app.app import App
from device_app.config import Settings
from device_app.limits import BOARD_UPDATE_SECONDS
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.paths import Paths
from iam.model import Key, State, User
from peer import cbor
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.pairing.binding import Channel, Confirmation, confirmation
from peer.pairing.ceremony import Ceremony

HOST = "127.0.0.1"
PATIENCE = 20.0  # seconds until a test gives up waiting
#: Enough handshakes for every test, and a port that does not linger.
HASTY = replace(
    DEFAULT_LIMITS, window_linger_seconds=0.2, handshake_burst=2000, ack_timeout_seconds=0.3
)
#: The same, and a port that is there until the client of the last ceremony knows how it ended: for
#: tests that ask after the window has closed, however long what they do before takes.
LINGERING = replace(HASTY, window_linger_seconds=3600)
SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    advertise=False,
    allow_loopback=True,
)


@dataclass(frozen=True)
class Answer:
    """What came back: code, bytes, and the body in the form of its content format."""

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
        return self.payload.decode()

    @property
    def reason(self) -> str:
        return str(self.body["handfast:problem"]["reason"])

    @property
    def text(self) -> str:
        return f"{self.body[-1]} {self.body[-2]}"


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
    """A request. `body` goes as CBOR and `raw` as it is; `options` are numbers we make up."""
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


def spooled() -> int:
    """How many half-received bodies and half-sent answers this process keeps, wherever."""
    gc.collect()  # earlier tests leave cycles
    kept: list[Any] = []
    for one in gc.get_objects():
        if isinstance(one, Block1Spool):
            kept.append(one._assemblies)
        elif isinstance(one, Block2Cache):
            kept.append(one._completes)
    return sum(len(getattr(one, "_items", one)) for one in kept)


class Caller:
    """One key, and its sessions with a device."""

    def __init__(self, device: "Device", identity: Identity) -> None:
        self.identity = identity
        self.client = CoapsClient(identity, limits=HASTY)
        #: Where it finds the device; a test may put a path of its own in between.
        self.port = device.port
        self._held: dict[bool, CoapsConnection] = {}

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint.hex

    async def connect(self, *, pairing: bool = False, fresh: bool = False) -> CoapsConnection:
        """The session with one of the two ports; a new one if there is none, or if `fresh`."""
        held = self._held.get(pairing)
        if fresh or held is None or not held.is_open:
            address = Address(HOST, self.port(pairing=pairing))
            held = await self.client.connect(address, pinned=None, timeout=PATIENCE)
            self._held[pairing] = held
        return held

    async def send(self, message: aiocoap.Message, *, pairing: bool = False) -> Answer:
        connection = await self.connect(pairing=pairing)
        by_hand = message.opt.block1 is not None or message.opt.block2 is not None
        message.remote = connection._remote
        request = connection._context.request(message, handle_blockwise=not by_hand)
        return Answer(await connection._answer(request, timeout=PATIENCE))

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
        return await self.pair_ask("POST", "/pair", {"method": "compare", "name": name, **more})

    def tags(
        self, started: Answer, *, role: str | None = None, window: bytes | None = None
    ) -> Confirmation:
        """Both tags of a ceremony as this session has them, or with other things in them."""
        peer = self._held[True].peer
        channel = Channel(
            peer.exporter,
            self.identity.fingerprint,
            peer.fingerprint,
            started.body["window"] if window is None else window,
        )
        b = channel.binding(method="compare", role=role or started.body["role"])
        return confirmation(peer.exporter, b, "compare")

    async def confirm(self, started: Answer, tag: object) -> Answer:
        return await self.pair_ask("POST", f"/pair/{started.body['id']}", {"confirm": tag})

    async def close(self) -> None:
        await self.client.close()


class Device:
    """An App in this process, and what its user does."""

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

    @property
    def users(self) -> State:
        return self.app.access.store.state

    def port(self, *, pairing: bool) -> int:
        return self.app.pairing.port.number if pairing else self.app.server.port

    async def heard(
        self, kind: PairingEventKind, *, count: int = 1, patience: float = PATIENCE
    ) -> PairingEvent:
        """The count-th news of a kind, now or when it comes."""
        async with asyncio.timeout(patience):
            while len(found := [news for news in self.news if news.kind is kind]) < count:
                self._came.clear()
                await self._came.wait()
        return found[count - 1]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for a condition that no event announces."""
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def open(self, **options: Any) -> None:
        await self.app.pairing.open(**options)

    async def closed(self) -> None:
        """Close the window if it is open, and wait until nothing listens."""
        self.app.pairing.close_window()
        async with asyncio.timeout(PATIENCE):
            while self.app.pairing.port.number:
                self._came.clear()
                await self._came.wait()

    def pending(self) -> Ceremony:
        pending = self.app.pairing.ceremonies.pending()
        assert pending is not None
        return pending

    @staticmethod
    def spooled() -> int:
        """Half-received bodies and half-sent answers that are kept."""
        return spooled()

    def decide(self, *, accept: bool) -> Ceremony:
        return self.app.pairing.ceremonies.decide(self.pending().id, accept=accept)

    def counters(self, port: str = "regular") -> dict[str, int]:
        """As `status` shows them."""
        return dict(self.app.status()["counters"][port])

    def sessions(self, port: str) -> list[dict[str, Any]]:
        """As `status` shows them."""
        return [one for one in self.app.status()["sessions"] if one["on"] == port]

    def enlist(self, name: str, role: str, identity: Identity) -> None:
        """A user that the console has added."""
        key = Key(identity.fingerprint.hex, method="given", added=self.app.access.clock.now())
        user = User(name, role, (key,), created=self.app.access.clock.now())
        self.app.access.registry.add_user(None, user)


class Kit:
    """Starts devices and callers, and ends them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ends: list[Callable[[], Awaitable[None]]] = []

    async def device(
        self,
        *,
        limits: Limits = HASTY,
        clocks: SystemClocks | None = None,
        board_seconds: float = BOARD_UPDATE_SECONDS,
        **changes: Any,
    ) -> Device:
        app = await App.start(
            Paths(self.home, self.home, self.home),
            replace(SETTINGS, limits=limits, **changes),
            clocks=clocks,
            board_seconds=board_seconds,
        )
        self.at_end(app.close)
        return Device(app)

    def caller(self, device: Device, identity: Identity | None = None) -> Caller:
        caller = Caller(device, identity or Identity.create())
        self.at_end(caller.close)
        return caller

    def known(self, device: Device, name: str, role: str) -> Caller:
        """A caller whose key the console has added."""
        caller = self.caller(device)
        device.enlist(name, role, caller.identity)
        return caller

    def policy(self, text: str) -> None:
        """The policy of the device, from its next start or reload on; nothing: there is no file."""
        path = self.home / "policy.d" / "test.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)

    def at_end(self, end: Callable[[], Awaitable[None]]) -> None:
        """Called in reverse when the test is over."""
        self._ends.append(end)

    async def close(self) -> None:
        while self._ends:
            await self._ends.pop()()


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(tmp_path / "home")
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def device(kit: Kit) -> Device:
    """A fresh device with a closed window and no users."""
    return await kit.device()


@pytest.fixture
async def owner(kit: Kit, device: Device) -> Caller:
    return kit.known(device, "olga", "owner")


@pytest.fixture
async def guest(kit: Kit, device: Device, owner: Caller) -> Caller:
    return kit.known(device, "gustav", "guest")
