"""Small CoAP servers on loopback, and their resources."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import aiocoap
import aiocoap.resource

from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import Admit, BodyBytes, GuardedSite, admit_none
from tests.kit.internals import endpoint_of

HOST = "127.0.0.1"
PATIENT = Limits(ack_timeout_seconds=600.0, handshake_attempts=1)
"""For both ends of a path that loses nothing: whatever the machine does, nothing is sent again."""


class Echo(aiocoap.resource.Resource):
    """GET returns the client's key; POST returns the body, counts it and, if wanted, keeps it."""

    def __init__(self, *, keeps_bodies: bool = True) -> None:
        super().__init__()
        self.served = 0
        self.bodies: list[bytes] = []
        self._keeps_bodies = keeps_bodies

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=peer_of(request).fingerprint.hex.encode())

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.served += 1
        if self._keeps_bodies:
            self.bodies.append(request.payload)
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


class WhoAmI(aiocoap.resource.Resource):
    """GET returns the server's view of the client."""

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        peer = peer_of(request)
        known = {
            "fingerprint": peer.fingerprint.hex,
            "local": peer.is_local,
            "rule": peer.verdict.rule,
            "hop_limit": peer.verdict.hop_limit,
        }
        return aiocoap.Message(payload=json.dumps(known).encode())


class Late(aiocoap.resource.Resource):
    """GET is answered when the test sets `due`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.due = asyncio.Event()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.asked += 1
        await self.due.wait()
        return aiocoap.Message(payload=b"better late")


class Value(aiocoap.resource.ObservableResource):
    """An observable number; `watchers` receives each new number of observations."""

    def __init__(self, text: str = "{}") -> None:
        super().__init__()
        self.value = 0
        self.watchers: asyncio.Queue[int] = asyncio.Queue()
        self._text = text

    def set(self, value: int) -> None:
        self.value = value
        self.updated_state()

    def update_observation_count(self, newcount: int) -> None:
        self.watchers.put_nowait(newcount)

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=self._text.format(self.value).encode())


@dataclass
class Served:
    """A running server and its resources."""

    server: CoapsServer
    identity: Identity
    echo: Echo
    late: Late
    value: Value
    priorities: dict[Fingerprint, SessionPriority] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return Address(HOST, self.server.port)

    @property
    def authority(self) -> str:
        return f"{HOST}:{self.server.port}"

    def uri(self, path: str) -> str:
        return f"coaps://{self.authority}{path}"

    def count(self, kind: str) -> int:
        return self.server.counters[kind]

    def exporters(self) -> list[bytes]:
        """The exporter value of each session, which is available without a request."""
        associations = endpoint_of(self.server).associations()
        return [association.session.exporter for association in associations]


Serve = Callable[..., Awaitable[Served]]


def allow(*_args: object) -> None:
    """An `authorise` that refuses no request."""


def admit_all(*_args: object) -> bool:
    """An `admit` that is certain about every request."""
    return True


class Servers:
    """Starts servers, and closes them."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._running: list[Served] = []

    async def start(
        self,
        *,
        mode: LocalMode = LocalMode.STRICT,
        limits: Limits = DEFAULT_LIMITS,
        authorise: Any = allow,
        admit: Admit = admit_none,
        keeps_bodies: bool = True,
        body_bytes: BodyBytes | None = None,
        value_text: str = "{}",
        host: str = HOST,
        locality: Locality | None = None,
        more: Mapping[tuple[str, ...], aiocoap.resource.Resource] = MappingProxyType({}),
        same_for_all: bool = False,
        **options: Any,
    ) -> Served:
        """Start a server with /echo, /late, /value, /who and `more`."""
        echo, late, value = Echo(keeps_bodies=keeps_bodies), Late(), Value(value_text)
        site = GuardedSite(authorise=authorise, limits=limits, admit=admit, body_bytes=body_bytes)
        for path, resource in more.items():
            site.add(path, resource)
        site.add(("echo",), echo)
        site.add(("late",), late)
        site.add(("value",), value, is_same_for_all=same_for_all)
        site.add(("who",), WhoAmI())
        priorities: dict[Fingerprint, SessionPriority] = {}
        server = await CoapsServer.start(
            site,
            identity=self._identity,
            listen=[(host, 0)],
            locality=locality or Locality(mode=mode, allow_loopback=True),
            limits=limits,
            priority=lambda key: priorities.get(key, SessionPriority.NORMAL),
            **options,
        )
        served = Served(server, self._identity, echo, late, value, priorities)
        self._running.append(served)
        return served

    async def close(self) -> None:
        for served in self._running:
            await served.server.close()
