"""Keys, and a small CoAP server on loopback, for everything that needs a session."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiocoap
import aiocoap.resource
import pytest

from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.onlink import Locality, LocalMode
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite


@pytest.fixture(scope="session")
def device() -> Identity:
    return Identity.create()


@pytest.fixture(scope="session")
def client() -> Identity:
    return Identity.create()


class Echo(aiocoap.resource.Resource):
    """GET tells who asks; POST gives back the body and counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=peer_of(request).fingerprint.hex.encode())

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.bodies.append(request.payload)
        return aiocoap.Message(payload=request.payload)


class Value(aiocoap.resource.ObservableResource):
    """A number that can be observed."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def set(self, value: int) -> None:
        self.value = value
        self.updated_state()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=str(self.value).encode())


@dataclass
class Served:
    """A running server with what its tests look at."""

    server: CoapsServer
    identity: Identity
    echo: Echo
    value: Value
    priorities: dict[Fingerprint, SessionPriority] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server.port)


Serve = Callable[..., Awaitable[Served]]


def allow(*_args: object) -> None:
    """An `authorise` that refuses no one."""


@pytest.fixture
async def serve(device: Identity) -> AsyncIterator[Serve]:
    """Starts servers: `await serve(limits=…, authorise=…, pairing=…)`."""
    running: list[Served] = []

    async def start(
        *, limits: Limits = DEFAULT_LIMITS, authorise: Any = allow, **options: Any
    ) -> Served:
        site = GuardedSite(authorise=authorise, limits=limits)
        echo, value = Echo(), Value()
        site.add(("echo",), echo)
        site.add(("value",), value)
        priorities: dict[Fingerprint, SessionPriority] = {}
        server = await CoapsServer.start(
            site,
            identity=device,
            listen=[("127.0.0.1", 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            limits=limits,
            priority=lambda key: priorities.get(key, SessionPriority.NORMAL),
            **options,
        )
        running.append(Served(server, device, echo, value, priorities))
        return running[-1]

    yield start
    for served in running:
        await served.server.close()


@pytest.fixture
async def caller(client: Identity) -> AsyncIterator[CoapsClient]:
    """A client that closes itself, and repeats sooner than a patient one."""
    async with CoapsClient(client, limits=Limits(ack_timeout_seconds=0.2)) as one:
        yield one
