"""Fixtures of the tests of `peer`: keys, a CoAP server on loopback, and a client for it."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from peer.identity import Identity
from peer.net.client import CoapsClient
from tests.kit.serve import PATIENT, Serve, Servers


@pytest.fixture(scope="session")
def device() -> Identity:
    return Identity.create()


@pytest.fixture(scope="session")
def client() -> Identity:
    return Identity.create()


@pytest.fixture
async def serve(device: Identity) -> AsyncIterator[Serve]:
    """Start a server with `await serve(limits=…, authorise=…, pairing=…)`.

    By default it repeats no message.
    """
    servers = Servers(device)
    yield partial(servers.start, limits=PATIENT)
    await servers.close()


@pytest.fixture
async def caller(client: Identity) -> AsyncIterator[CoapsClient]:
    """A client that is closed with the test; it repeats no message."""
    async with CoapsClient(client, limits=PATIENT) as one:
        yield one
