"""A client waits longer for a session if the first answer shows that the path is slow."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from peer.errors import TimedOut
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.client import CoapsClient
from peer.testing import Proxy
from tests.kit.waiting import skip_time, until

ROUND_TRIP_SECONDS = 7.0
LIMITS = replace(DEFAULT_LIMITS, handshake_attempts=1)  # the proxy injects into one handshake


class SlowPath:
    """A path whose datagrams to the client arrive when the test says so."""

    def __init__(self) -> None:
        self.proxy: Any = None
        self._held: list[bytes] = []

    def hold(self, datagram: bytes) -> None:
        self._held.append(datagram)

    async def deliver(self, *, after: float) -> None:
        """Deliver the next flight of the device with a delay of `after` seconds."""
        await until(lambda: self._held)
        skip_time(after)
        for datagram in self._held:
            self.proxy.inject_to_client(datagram)
        self._held.clear()


def has_cookie(datagram: bytes) -> bool:
    """Whether it is the second ClientHello, with message_seq 1 (RFC 6347 §4.2.2)."""
    return datagram[13] == 1 and datagram[17:19] == b"\0\1"


@pytest.fixture
async def path(serve: Any) -> AsyncIterator[SlowPath]:
    slow = SlowPath()
    served = await serve()
    slow.proxy = await Proxy.start(served.address, to_client=slow.hold)
    yield slow
    slow.proxy.close()


@pytest.fixture
async def connecting(path: SlowPath, client: Identity) -> AsyncIterator["asyncio.Task[Any]"]:
    async with CoapsClient(client, limits=LIMITS) as caller:
        yield asyncio.create_task(caller.connect(path.proxy.address, pinned=None))


async def test_a_handshake_over_a_path_of_seconds_completes(
    path: SlowPath, connecting: "asyncio.Task[Any]"
) -> None:
    for _ in range(3):  # HelloVerifyRequest, ServerHello to ServerHelloDone, Finished
        await path.deliver(after=ROUND_TRIP_SECONDS)
    connection = await connecting
    assert connection.is_open
    await connection.close()


async def test_a_device_that_answers_quickly_and_falls_silent_is_not_waited_for(
    path: SlowPath, connecting: "asyncio.Task[Any]"
) -> None:
    await path.deliver(after=0.0)
    await until(lambda: any(map(has_cookie, path.proxy.towards_device())))  # the path was measured
    skip_time(LIMITS.connect_seconds)
    with pytest.raises(TimedOut, match=f"within {LIMITS.connect_seconds:.0f} s"):
        await connecting
