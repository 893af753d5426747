"""An ended session is freed at once: no reference cycle leads through it.

The garbage collector is off in these tests, as between its rare runs over everything.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.dtls.context import ClientContext
from peer.dtls.records import split_untrusted
from peer.dtls.session import DtlsSession, SessionState
from peer.errors import PinMismatch
from peer.identity import Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.coaps import CoapsLayer
from peer.net.datagram import Datagram
from peer.net.endpoint import Endpoint
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import TABLE
from tests.kit.internals import half_open
from tests.kit.serve import PATIENT
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peer.net.datagram import Net
    from tests.kit.serve import Serve, Served

ROOMY = replace(
    PATIENT, handshake_burst=10_000, handshakes_per_second=10_000, handshake_port_share=1
)
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


class NoSocket:
    """A socket whose datagrams the test carries."""

    local_address = Address("127.0.0.1", 5684)

    def __init__(self, on_datagram: Callable[[Datagram], None]) -> None:
        self.receive = on_datagram
        self.sent: list[bytes] = []

    def send(self, data: bytes, _to: Address, **_: object) -> bool:
        self.sent.append(data)
        return True

    def close(self) -> None:
        self.sent.clear()


class NoNet:
    """Opens one socket of that kind."""

    def bind(
        self, _host: str, _port: int, *, on_datagram: Callable[[Datagram], None], **_: object
    ) -> NoSocket:
        self.socket = NoSocket(on_datagram)
        return self.socket


def handshake(socket: NoSocket, context: ClientContext, port: int) -> None:
    """Open a session, of which only the device keeps anything."""
    session = DtlsSession.client(context, mtu=1200, pinned=None)
    while session.state is SessionState.HANDSHAKING:
        for data in session.take_datagrams():
            socket.receive(Datagram(data, Address("127.0.0.1", port), "127.0.0.1", 1, 255))
        answers, socket.sent = socket.sent, []
        for data in answers:
            session.receive_untrusted(split_untrusted(data))
    assert session.state is SessionState.ESTABLISHED


async def test_an_idle_session_takes_less_than_2600_bytes_beside_openssl() -> None:
    """Without what is bounded in all: rates by address, and timers that asyncio cleans up."""
    net, counters = NoNet(), Counter[str]()
    limits = Limits(handshake_burst=10_000, handshakes_per_second=10_000, sessions_per_key=100)
    layer = CoapsLayer(site=None, limits=limits, counters=counters)
    endpoint = Endpoint(
        Identity.create(),
        upper=layer,
        locality=Locality(mode=LocalMode.COMPAT, allow_loopback=True, table=lambda: TABLE),
        limits=limits,
        priority=lambda _key: SessionPriority.HIGH,
        counters=counters,
        pairing=False,
        net=cast("Net", net),
    )
    endpoint.bind([("127.0.0.1", 0)])
    context = ClientContext(Identity.create())
    for port in range(1000, 1020):
        handshake(net.socket, context, port)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for port in range(2000, 2000 + SESSIONS):
            handshake(net.socket, context, port)
        gc.collect()
        grown = tracemalloc.take_snapshot().compare_to(before, "filename")
    finally:
        tracemalloc.stop()
    bounded = ("/asyncio/", "net/rate.py", "token_bucket.py", "bounded_dict.py", "/tests/")
    sizes = {
        one.traceback[0].filename: one.size_diff
        for one in grown
        if not any(part in one.traceback[0].filename for part in bounded)
    }
    assert len(endpoint.associations()) == 20 + SESSIONS
    assert 1000 < sum(sizes.values()) / SESSIONS < 2600, sizes
    endpoint.close()
    await layer.close()
