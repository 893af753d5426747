"""A small server on loopback, and a table that is printed when all is measured.

Measurements are ratios between things measured in the same run on the same machine. They never
fail for being slow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiocoap
import aiocoap.resource
import pytest

from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.onlink import Locality, LocalMode
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite

HOST = "127.0.0.1"
ROOMY = Limits(
    handshake_burst=100_000, handshakes_per_second=100_000, half_open=1000, sessions=1000
)


@pytest.fixture
def roomy() -> Limits:
    """No rate and no bound that a measurement would meet."""
    return ROOMY


@pytest.fixture
def echo() -> type[aiocoap.resource.Resource]:
    """The resource that is served, for other servers."""
    return Echo


class Echo(aiocoap.resource.Resource):
    """Gives back the body, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.served += 1
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


@dataclass
class Served:
    """A running server."""

    server: CoapsServer
    identity: Identity
    echo: Echo

    @property
    def address(self) -> Address:
        return Address(HOST, self.server.port)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers that refuse no one: `await serve(limits=…)`."""
    running: list[Served] = []

    async def start(*, limits: Limits = DEFAULT_LIMITS, **options: Any) -> Served:
        identity, echo = Identity.create(), Echo()
        site = GuardedSite(authorise=lambda *_: None, limits=limits)
        site.add(("echo",), echo)
        server = await CoapsServer.start(
            site,
            identity=identity,
            listen=[(HOST, 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            limits=limits,
            priority=lambda _key: SessionPriority.NORMAL,
            **options,
        )
        running.append(Served(server, identity, echo))
        return running[-1]

    yield start
    for served in running:
        await served.server.close()


@dataclass
class Table:
    """Rows of what was measured: name, microseconds each, and how that compares."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def add(self, name: str, seconds: float, compared: str = "") -> None:
        self.rows.append((name, seconds * 1e6, compared))

    def lines(self) -> Iterator[str]:
        width = max(len(name) for name, _, _ in self.rows)
        for name, microseconds, compared in self.rows:
            yield f"{name:<{width}}  {microseconds:>12,.1f} µs  {compared}".rstrip()


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """One table for the whole run, printed at its end."""
    made = Table()
    yield made
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()
        for line in made.lines():
            print(line)
