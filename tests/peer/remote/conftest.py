"""Fixtures of the tests of `peer.remote`: an agent and routes to it in memory, real servers."""

from collections.abc import AsyncIterator

import pytest

from tests.kit.remote_pair import RemotePair
from tests.kit.remote_servers import broker, relay

__all__ = ["broker", "pair", "relay"]


@pytest.fixture
async def pair() -> AsyncIterator[RemotePair]:
    made = await RemotePair.start()
    yield made
    await made.close()
