"""Fixtures of the measurements: a small server on loopback, and one table of results.

Results are ratios of things measured in the same run on the same machine. No measurement fails
because it is slow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from peer.identity import Identity
from peer.limits import Limits
from tests.kit.serve import Serve, Servers
from tests.kit.table import Table


@pytest.fixture
def roomy() -> Limits:
    """Limits that no measurement reaches."""
    return Limits(
        handshake_burst=100_000, handshakes_per_second=100_000, half_open=1000, sessions=1000
    )


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that refuses no client: `await serve(limits=…)`."""
    servers = Servers(Identity.create())
    yield partial(servers.start, keeps_bodies=False)
    await servers.close()


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """One table for the whole run, which is printed at its end."""
    made = Table()
    yield made
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()
        for line in made.lines():
            print(line)
