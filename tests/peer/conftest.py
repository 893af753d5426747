"""Fixtures of the tests of `peer`: keys, a CoAP server on loopback, and a client for it."""

from collections.abc import AsyncIterator

import pytest

from peer.identity import Identity
from peer.limits import Limits
from peer.net.client import CoapsClient
from tests.kit.serve import Serve, Servers


@pytest.fixture(scope="session")
def device() -> Identity:
    return Identity.create()


@pytest.fixture(scope="session")
def client() -> Identity:
    return Identity.create()


@pytest.fixture
async def serve(device: Identity) -> AsyncIterator[Serve]:
    """Start a server with `await serve(limits=…, authorise=…, pairing=…)`."""
    servers = Servers(device)
    yield servers.start
    await servers.close()


@pytest.fixture
async def caller(client: Identity) -> AsyncIterator[CoapsClient]:
    """A client that is closed with the test; it retransmits earlier than by default."""
    async with CoapsClient(client, limits=Limits(ack_timeout_seconds=0.2)) as one:
        yield one
