"""Our client against libcoap's example server, built on OpenSSL and on GnuTLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import PinMismatch, Unreachable
from peer.identity import Fingerprint
from peer.net.address import Address
from tests.kit.interop import HOST
from tests.kit.ports import two_free_ports
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peer.net.client import CoapsClient
    from peer.net.connection import CoapsConnection
    from tests.kit.interop import ForeignProgram, Keys, Run

SECONDS = 30.0
BIG = bytes(number * 7 % 251 for number in range(5000))


class ForeignServer:
    """A running coap-server: its process and its DTLS address."""

    def __init__(self, program: ForeignProgram, address: Address) -> None:
        self.program = program
        self.address = address


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-server-openssl", "coap-server-gnutls")
    ]
)
async def foreign_server(request: pytest.FixtureRequest, run: Run, theirs: Keys) -> ForeignServer:
    """Start the server, which serves CoAP on one port and CoAP over DTLS on the next."""
    port = two_free_ports(HOST)
    options = ("-A", HOST, "-p", port, "-d", 10, "-v", 7)
    program = await run(request.param, *options, *theirs.coap)
    dtls = Address(HOST, port + 1)
    await program.until(f"created DTLS endpoint {dtls}")
    return ForeignServer(program, dtls)


@pytest.fixture
async def connection(
    foreign_server: ForeignServer, caller: CoapsClient, theirs: Keys
) -> AsyncIterator[CoapsConnection]:
    one = await caller.connect(foreign_server.address, pinned=theirs.fingerprint)
    yield one
    await one.close()


async def ask(
    connection: CoapsConnection, path: str, code: Code = Code.GET, **options: Any
) -> aiocoap.Message:
    uri_path = path.removeprefix("/").split("/") if path != "/" else ()
    message = aiocoap.Message(code=code, uri_path=uri_path, **options)
    return await connection.request(message, timeout=SECONDS)


async def test_our_client_reads_resources_and_error_codes(
    connection: CoapsConnection, theirs: Keys
) -> None:
    assert connection.peer.fingerprint == theirs.fingerprint
    assert connection.peer.extended_master_secret
    root = await ask(connection, "/")
    assert (root.code, root.payload[:21]) == (Code.CONTENT, b"This is a test server")
    ticks = await ask(connection, "/time", uri_query=["ticks"])
    assert (ticks.code, ticks.payload.isdigit()) == (Code.CONTENT, True)
    assert (await ask(connection, "/nothing")).code == Code.NOT_FOUND
    assert (await ask(connection, "/", Code.DELETE)).code == Code.METHOD_NOT_ALLOWED


async def test_our_client_lists_the_resources(connection: CoapsConnection) -> None:
    listed = await ask(connection, "/.well-known/core")
    assert listed.opt.content_format == 40
    assert b"</time>" in listed.payload
    assert b"obs" in listed.payload


@pytest.mark.parametrize("path", ["/example_data", "/made/just/now"])
async def test_our_client_writes_and_reads_in_blocks(
    connection: CoapsConnection, path: str
) -> None:
    written = await ask(connection, path, Code.PUT, payload=BIG)
    assert written.code in (Code.CREATED, Code.CHANGED)
    read = await ask(connection, path)
    assert read.payload == BIG
    again = await ask(connection, path, Code.PUT, payload=BIG[::-1])
    assert again.code is Code.CHANGED
    assert (await ask(connection, path)).payload == BIG[::-1]


async def test_our_client_waits_for_a_separate_response(connection: CoapsConnection) -> None:
    answer = await ask(connection, "/async", uri_query=["1"])
    assert (answer.code, answer.payload) == (Code.CONTENT, b"done")
    assert answer.mtype is aiocoap.CON  # separate, not piggybacked on the acknowledgement


async def test_our_client_observes_and_stops(
    connection: CoapsConnection, foreign_server: ForeignServer
) -> None:
    seen: list[int] = []
    message = aiocoap.Message(code=Code.GET, uri_path=["time"], uri_query=["ticks"])
    async for reading in connection.observe(message):
        seen.append(int(reading.payload))
        if len(seen) == 3:
            break
    assert sorted(seen) == seen
    # The session is still usable.
    assert (await ask(connection, "/")).code is Code.CONTENT
    await foreign_server.program.until("Observe:0")


async def test_our_client_sends_no_request_to_a_server_with_another_key(
    foreign_server: ForeignServer, caller: CoapsClient, theirs: Keys
) -> None:
    expected = Fingerprint.parse("ab" * 32)
    with pytest.raises(PinMismatch) as caught:
        await caller.connect(foreign_server.address, pinned=expected)
    assert caught.value.expected == expected.hex
    assert caught.value.actual == theirs.fingerprint.hex
    # The client sends alert 48 (unknown_ca).
    output = await foreign_server.program.until(
        "unknown" if "openssl" in foreign_server.program.name else "'48'"
    )
    assert "lert" in output
    assert "c:GET" not in output


async def test_our_client_resumes_a_session_if_the_server_issues_tickets(
    foreign_server: ForeignServer, caller: CoapsClient, theirs: Keys
) -> None:
    first = await caller.connect(foreign_server.address, pinned=theirs.fingerprint)
    await ask(first, "/")
    await first.close()
    second = await caller.connect(foreign_server.address, pinned=theirs.fingerprint)
    assert second.resumed is ("openssl" in foreign_server.program.name)  # no tickets on GnuTLS
    assert second.peer.fingerprint == theirs.fingerprint
    assert second.peer.exporter != first.peer.exporter
    assert (await ask(second, "/")).code is Code.CONTENT


async def test_a_close_notify_ends_the_connection(
    connection: CoapsConnection, foreign_server: ForeignServer
) -> None:
    message = aiocoap.Message(code=Code.GET, uri_path=["time"])
    codes = []
    async for reading in connection.observe(message):
        codes.append(reading.code)
        foreign_server.program.interrupt()  # the server sends 4.04 to its observers
    assert codes[0] is Code.CONTENT
    assert codes[-1] is Code.NOT_FOUND
    await foreign_server.program.end()
    await until(lambda: not connection.is_open)
    with pytest.raises(Unreachable):  # a lost server would be TimedOut
        await ask(connection, "/")
