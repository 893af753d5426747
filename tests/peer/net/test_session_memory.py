"""An ended session is freed at once: no reference cycle leads through it.

The garbage collector is off in these tests, as between its rare runs over everything.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import PinMismatch
from peer.identity import Identity
from peer.limits import Limits
from peer.net.client import CoapsClient
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import TABLE
from tests.kit.internals import half_open
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.serve import Serve, Served

ROOMY = Limits(handshake_burst=10_000, handshakes_per_second=10_000, handshake_port_share=1)
SESSIONS = 20
OF_A_SESSION = (
    "Association",
    "ClientLink",
    "CoapsConnection",
    "CoapsRemote",
    "Connection",
    "DtlsSession",
    "Fingerprint",
    "Future",
    "PeerAddress",
    "ServerSession",
    "Task",
    "UdpSocket",
    "cell",
    "function",
    "method",
)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def serve_without_kernel_tables(serve: Serve) -> Served:
    """Start a server that reads no tables of the kernel, whose parser leaves cycles."""
    locality = Locality(mode=LocalMode.COMPAT, allow_loopback=True, table=lambda: TABLE)
    return await serve(limits=ROOMY, locality=locality)


def objects() -> Counter[str]:
    """The number of objects of each type that the collector knows."""
    return Counter(type(one).__name__ for one in gc.get_objects())


async def open_and_close(client: CoapsClient, served: Served, *, asks: bool) -> None:
    """Open some sessions at the same time, and close them."""
    opened = [await client.connect(served.address, pinned=None) for _ in range(4)]
    for connection in opened:
        if asks:
            message = aiocoap.Message(code=Code.GET, uri_path=("echo",))
            assert (await connection.request(message)).code is Code.CONTENT
    for connection in opened:
        await connection.close()
    await until(lambda: not served.server.sessions())
    await asyncio.sleep(0)


@pytest.mark.usefixtures("no_collection")
async def test_sessions_that_have_ended_leave_no_object(serve: Serve) -> None:
    served = await serve_without_kernel_tables(serve)
    async with CoapsClient(Identity.create(), limits=ROOMY) as client:
        await open_and_close(client, served, asks=False)
        before = objects()
        for _ in range(SESSIONS // 4):
            await open_and_close(client, served, asks=False)
        more = objects() - before
        grown = {kind: more[kind] for kind in OF_A_SESSION if more[kind] >= SESSIONS // 4}
        assert not grown


@pytest.mark.usefixtures("no_collection")
async def test_a_request_that_refers_to_an_ended_session_keeps_nothing_of_openssl(
    serve: Serve,
) -> None:
    """aiocoap leaves a cycle for each request, through its sender."""
    served = await serve_without_kernel_tables(serve)
    async with CoapsClient(Identity.create(), limits=ROOMY) as client:
        await open_and_close(client, served, asks=True)
        before = objects()["Connection"]
        for _ in range(SESSIONS // 4):
            await open_and_close(client, served, asks=True)
        assert objects()["Connection"] == before


@pytest.mark.usefixtures("no_collection")
async def test_a_handshake_that_fails_keeps_nothing_of_openssl(serve: Serve) -> None:
    served = await serve_without_kernel_tables(serve)
    async with CoapsClient(Identity.create(), limits=ROOMY) as client:
        numbers = []
        for _ in range(5):
            with pytest.raises(PinMismatch):
                await client.connect(served.address, pinned=Identity.create().fingerprint)
            await until(lambda: not half_open(served.server))
            numbers.append(objects()["Connection"])
        assert numbers[-1] == numbers[0]
