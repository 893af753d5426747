"""A device and callers that record the body of each message they exchange.

`Seen` validates each body against its rule of `docs/handfast.cddl` and keeps it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiocoap
from aiocoap.numbers.codes import Code

from device_app.app import App
from device_app.settings.config import Settings
from peer import cbor
from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.pairing.binding import Channel
from peer.pairing.compare import CompareClient
from peer.pairing.sides import Terms, bytes_field
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.documents import Cddl

HOST = "127.0.0.1"
CBOR, PROBLEM = 60, 257
SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    public=("home.example:5684",),
    advertise=False,
    allow_loopback=True,
)
#: A role with permissions from other networks, so that `conditional` and `conditions` occur.
POLICY = """
[[policy]]
id = "elsewhere"

[[policy.statement]]
effect = "Allow"
actions = ["Lamp:*", "Iam:ListUsers"]
conditions = [{ Bool = { "Connection:IsLocal" = ["false"] } }]

[[role]]
id = "visitor"
rank = 12
policies = ["core-unpaired", "core-guest", "elsewhere"]
"""
#: Parts of a token, which are not the body of any message.
TOKEN = {"invite-token", "invite-header", "invite-claims"}


@dataclass
class Seen:
    """Every body that was sent or received, by its rule."""

    cddl: Cddl
    bodies: dict[str, list[bytes]] = field(default_factory=dict)

    def note(self, rule: str, data: bytes) -> Any:
        self.cddl.validate(rule, data)
        self.bodies.setdefault(rule, []).append(data)
        return cbor.decode_untrusted(data)


class Caller:
    """A client key. `sends` and `gets` name the rules of a request's and an answer's body."""

    def __init__(self, app: App, seen: Seen) -> None:
        self.identity = Identity.create()
        self.client = CoapsClient(self.identity)
        self._app = app
        self._seen = seen
        self._open: dict[int, CoapsConnection] = {}

    async def connection(self, *, pairing: bool) -> CoapsConnection:
        port = self._app.pairing.port.number if pairing else self._app.server.port
        held = self._open.get(port)
        if held is None or not held.is_open:
            held = await self.client.connect(
                Address(HOST, port), pinned=None, timeout=TIMEOUT_SECONDS
            )
            self._open[port] = held
        return held

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        code: str,
        sends: str = "",
        gets: str = "",
        raw: bytes | None = None,
    ) -> Any:
        """Send one request; return the decoded body of its answer."""
        path, _, queries = path.partition("?")
        message = aiocoap.Message(code=getattr(Code, method), uri_path=path.strip("/").split("/"))
        message.opt.uri_query = queries.split("&") if queries else ()
        if body is not None or raw is not None:
            message.payload = cbor.encode(body) if raw is None else raw
            message.opt.content_format = CBOR
        if sends:
            self._seen.note(sends, message.payload)
        connection = await self.connection(pairing=path.startswith("/pair"))
        answer = await connection.request(message, timeout=TIMEOUT_SECONDS)
        assert answer.code.dotted == code, (method, path, answer.payload)
        return self._read(answer, gets)

    def _read(self, answer: aiocoap.Message, gets: str) -> Any:
        rule = "problem" if answer.opt.content_format == PROBLEM else gets
        assert bool(rule) == (answer.opt.content_format in {CBOR, PROBLEM}), answer
        return self._seen.note(rule, answer.payload) if rule else answer.payload

    async def observe(self, path: str, gets: str, *, count: int) -> list[Any]:
        found = []
        connection = await self.connection(pairing=path.startswith("/pair"))
        message = aiocoap.Message(code=Code.GET, uri_path=path.strip("/").split("/"))
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            aclosing(connection.observe(message)) as answers,
        ):
            async for answer in answers:
                found.append(self._read(answer, gets))
                if len(found) == count:
                    break
        return found

    async def start(self, name: str, **more: object) -> Any:
        body = {"method": "compare", "name": name, **more}
        return await self.ask(
            "POST", "/pair", body, sends="pair-start", code="2.01", gets="pair-started"
        )

    async def tag(self, started: Any) -> bytes:
        peer = (await self.connection(pairing=True)).peer
        own = self.identity.fingerprint
        channel = Channel(peer.exporter, own, peer.fingerprint, started["window"])
        client = CompareClient()
        client.begin()
        client.started_untrusted(Terms(channel, started["role"], "anna", started["id"]), {})
        return bytes_field(client.confirm(), "confirm")

    async def confirm(self, started: Any, *, code: str = "2.04", spoil: bool = False) -> Any:
        tag = await self.tag(started)
        body = {"confirm": bytes(32) if spoil else tag}
        path = f"/pair/{started['id']}"
        return await self.ask(
            "POST", path, body, sends="pair-confirm", code=code, gets="pair-confirmed"
        )

    async def pair(self, name: str) -> Any:
        await self._app.pairing.open()
        started = await self.start(name)
        self._app.pairing.ceremonies.decide(started["id"], accept=True)
        return await self.confirm(started)

    async def close(self) -> None:
        await self.client.close()


class Kit:
    """A device in this process, and callers."""

    def __init__(self, app: App, seen: Seen) -> None:
        self.app = app
        self.seen = seen
        self.callers: list[Caller] = []

    def caller(self) -> Caller:
        self.callers.append(Caller(self.app, self.seen))
        return self.callers[-1]
