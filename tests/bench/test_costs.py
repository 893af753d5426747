"""Costs of sessions, requests and decisions, as printed by `make bench`; none is a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import TYPE_CHECKING, cast

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code

from iam.access import Access
from iam.model import Key, State, User
from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.identity import Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.datagram import Datagram
from tests.kit.internals import deliver, half_open
from tests.kit.ports import free_ports
from tests.kit.serve import Echo

if TYPE_CHECKING:
    from tests.kit.serve import Serve
    from tests.kit.table import Table

pytestmark = pytest.mark.bench
HOST = "127.0.0.1"


async def each(work: Callable[[], Awaitable[object]], times: int, rounds: int = 5) -> float:
    """Seconds for one call: the median of several rounds."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            await work()
        taken.append((time.perf_counter() - begin) / times)
    return median(taken)


def post(payload: bytes) -> aiocoap.Message:
    return aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=payload)


async def test_the_cost_of_full_and_resumed_handshakes(
    serve: Serve, table: Table, roomy: Limits
) -> None:
    served = await serve(limits=roomy)
    pinned = served.identity.fingerprint
    async with CoapsClient(Identity.create(), limits=roomy) as client:

        async def shake(*, resumed: bool) -> None:
            # Only a session with a pinned key can be resumed.
            connection = await client.connect(served.address, pinned=pinned if resumed else None)
            assert connection.resumed is resumed
            await connection.close()

        full = await each(lambda: shake(resumed=False), 40)
        again = await each(lambda: shake(resumed=True), 40)
    table.add("handshake, full, both sides", full)
    table.add("handshake, resumed", again, f"{again / full:.2f} × full")


async def test_the_cost_of_a_hello_without_a_cookie(
    serve: Serve, table: Table, roomy: Limits
) -> None:
    """The cost of a ClientHello without a cookie, compared with that of a full handshake."""
    served = await serve(limits=roomy)
    session = DtlsSession.client(
        ClientContext(Identity.create()), mtu=1200, pinned=None, resume=None
    )
    [hello] = session.take_datagrams()
    source = Address(HOST, 9)  # the discard port receives the answers
    datagram = Datagram(hello, source, HOST, 1, 255)
    garbage = Datagram(b"\x16" + hello[1:40], source, HOST, 1, 255)
    sealed = b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x10" + bytes(16)
    sessionless = Datagram(sealed, source, HOST, 1, 255)
    assert records.split_untrusted(hello)

    async def feed(one: Datagram) -> None:
        deliver(served.server, one)

    gate = await each(lambda: feed(datagram), 500)
    unparseable = await each(lambda: feed(garbage), 2000)
    stray = await each(lambda: feed(sessionless), 2000)
    assert not half_open(served.server)
    async with CoapsClient(Identity.create(), limits=roomy) as client:

        async def shake() -> None:
            await (await client.connect(served.address, pinned=None)).close()

        full = await each(shake, 40)
    table.add("ClientHello without a cookie", gate, f"{gate / full:.3f} × full handshake")
    table.add("datagram that does not parse", unparseable, f"{unparseable / full:.4f} ×")
    table.add("record without a session", stray, f"{stray / full:.4f} ×")


async def test_the_cost_of_a_request(serve: Serve, table: Table) -> None:
    """One small POST and its answer: over DTLS, aiocoap on plain UDP, and UDP alone."""
    served = await serve()
    async with CoapsClient(Identity.create()) as client:
        connection = await client.connect(served.address, pinned=None)
        secured = await each(lambda: connection.request(post(b"x" * 32)), 300)
        large = await each(lambda: connection.request(post(b"x" * 8192)), 20)

        async def together() -> None:
            await asyncio.gather(*(connection.request(post(b"x" * 32)) for _ in range(20)))

        parallel = await each(together, 15) / 20

    site = aiocoap.resource.Site()
    site.add_resource(("echo",), Echo())
    port = next(free_ports(HOST))
    server = await aiocoap.Context.create_server_context(
        site, bind=(HOST, port), transports=["simplesocketserver"]
    )
    plain_client = await aiocoap.Context.create_client_context(transports=["simple6"])

    async def plain_request() -> None:
        uri = f"coap://{HOST}:{port}/echo"
        message = aiocoap.Message(code=Code.POST, uri=uri, payload=b"x" * 32)
        async with asyncio.timeout(10):
            assert (await plain_client.request(message).response).payload == b"x" * 32

    plain = await each(plain_request, 300)
    await plain_client.shutdown()
    await server.shutdown()
    bare = await plain_udp()
    table.add("request over DTLS", secured)
    table.add("request over DTLS, 20 at a time", parallel, f"{parallel / secured:.2f} × one by one")
    table.add("request over DTLS, 8 KiB in blocks", large, f"{large / secured:.1f} × a small one")
    table.add("request, aiocoap on plain UDP", plain, f"DTLS is {secured / plain:.2f} × that")
    table.add("plain UDP echo", bare, f"DTLS is {secured / bare:.1f} × that")


class Gate(aiocoap.resource.Resource):
    """Answers when the gate opens."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number
        self.all_begun, self.is_open = asyncio.Event(), asyncio.Event()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.left -= 1
        if not self.left:
            self.all_begun.set()
        await self.is_open.wait()
        return aiocoap.Message(payload=b"done")


async def test_the_time_until_slow_requests_in_parallel_have_begun(
    serve: Serve, table: Table
) -> None:
    """A client sends each one when the one before is acknowledged (NSTART, RFC 7252 §4.7)."""
    number = Limits().requests_per_session
    taken = []
    for _ in range(5):
        gate = Gate(number)
        served = await serve(more={("gate",): gate})
        async with CoapsClient(Identity.create()) as client:
            connection = await client.connect(served.address, pinned=None)
            begin = time.perf_counter()
            await connection.request(post(b"x"))
            single = time.perf_counter() - begin
            begin = time.perf_counter()
            work = [
                asyncio.ensure_future(
                    connection.request(aiocoap.Message(code=Code.GET, uri_path=("gate",)))
                )
                for _ in range(number)
            ]
            await gate.all_begun.wait()
            taken.append((time.perf_counter() - begin, single))
            gate.is_open.set()
            await asyncio.gather(*work)
    begun, single = map(median, zip(*taken, strict=True))
    table.add(
        f"{number} slow requests in parallel, all begun", begun, f"{begun / single:.0f} × one"
    )


async def plain_udp() -> float:
    """Seconds for one datagram and its echo between two asyncio endpoints."""
    loop = asyncio.get_running_loop()
    received = asyncio.Event()

    class EchoServer(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data, addr)

    class EchoClient(asyncio.DatagramProtocol):
        def datagram_received(self, _data: bytes, _addr: object) -> None:
            received.set()

    server, _ = await loop.create_datagram_endpoint(EchoServer, local_addr=(HOST, 0))
    client, _ = await loop.create_datagram_endpoint(
        EchoClient, remote_addr=server.get_extra_info("sockname")
    )

    async def echo() -> None:
        received.clear()
        client.sendto(b"x" * 60)
        await received.wait()

    async with asyncio.timeout(60):
        taken = await each(echo, 500)
    client.close()
    server.close()
    return taken


async def test_the_cost_of_a_decision(table: Table) -> None:
    """Identify a key and decide about one action, with few users and with the maximum."""
    access = Access()
    costs = {}
    for count in (10, 250):
        keys = [f"{number:064x}" for number in range(count)]
        state = State.of(
            User(f"user{number}", "guest", (Key(key),)) for number, key in enumerate(keys)
        )

        async def decide(state: State = state, keys: list[str] = keys) -> None:
            for key in keys[:10]:
                access.decide(access.subject(state, key, 0.0), "Hello:Get")

        costs[count] = await each(decide, 200) / 10
    unknown = await each(decide_about_unknown_key(access), 500)
    table.add("decision, 10 users", costs[10])
    table.add("decision, 250 users", costs[250], f"{costs[250] / costs[10]:.2f} × with 10")
    table.add("decision about an unknown key", unknown, f"{unknown / costs[10]:.2f} ×")


def decide_about_unknown_key(access: Access) -> Callable[[], Awaitable[None]]:
    state = State.of(())

    async def ask() -> None:
        access.decide(access.subject(state, "ab" * 32, 0.0), "Hello:Get")

    return ask
