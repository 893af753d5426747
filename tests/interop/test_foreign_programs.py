"""Each foreign program does what a client of handfast does (the table in docs/interop.md)."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from peer.net.address import Address
from tests.kit.daemon import HOST, Daemon
from tests.kit.daemon import run as handfast_device
from tests.kit.foreign_programs import ROWS, Capability, Exchange, Line, Row
from tests.kit.internals import endpoint_of
from tests.kit.interop import ForeignProgram, Keys, Run
from tests.kit.tunnels import Tunnel
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peer.dtls.session import DtlsSession
    from tests.kit.serve import Serve, Served

BODY = bytes(number * 7 % 251 for number in range(20_000))
STATE = "0123456789abcdef" * 128  # 2 KB


def marks(row: Row) -> list[pytest.MarkDecorator]:
    """The marks of a row: the programs that it needs."""
    tools = pytest.mark.needs_tool(*row.tools)
    return [tools] if row.is_in_ci else [tools, pytest.mark.toolchain]


def rows(capability: Capability) -> pytest.MarkDecorator:
    """Run a test with each row that has the capability."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, marks=marks(row), id=row.name)
            for row in ROWS
            if capability not in row.lacks
        ],
    )


class Client:
    """A row's programs with one key."""

    def __init__(self, row: Row, run: Run, keys: Keys, folder: Path, running: ExitStack) -> None:
        self._row = row
        self._run = run
        self._keys = keys
        self._folder = folder
        self._running = running
        self._base = ""
        self._tunnel: Tunnel | None = None

    async def connect(self, server: Address, **how: bool) -> None:
        """Choose the server of the next requests, and start a tunnel to it if the row needs one."""
        line = Line(server, self._keys, self._folder, **how)
        connect = self._row.connect
        self._base, self._tunnel = await asyncio.to_thread(connect, line, self._running)

    async def connect_again(self, served: Served) -> None:
        """End the session, and wait until the program has opened another one."""
        assert self._tunnel is not None
        (first,) = endpoint_of(served.server).associations()
        first.close()
        self._tunnel.end_input()
        await until(lambda: bool(endpoint_of(served.server).associations()))

    async def request(self, method: str, path: str, **options: Any) -> ForeignProgram:
        exchange = Exchange(method, self._base + path, **options)
        return await self._run(*self._row.request(exchange, self._keys))

    async def post(self, path: str, body: bytes, block: int) -> bytes:
        """Send a body; return the body of the response."""
        sent, back = self._folder / "sent", self._folder / "back"
        sent.write_bytes(body)
        program = await self.request("post", path, body=sent, out=back, block=block)
        output = await program.end()
        assert back.exists(), output
        return back.read_bytes()


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """The tunnels of a test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client(row: Row, run: Run, theirs: Keys, tmp_path: Path, running: ExitStack) -> Client:
    return Client(row, run, theirs, tmp_path, running)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A real daemon with an owner. `--local compat`: stock programs send the usual hop limit."""
    home = tmp_path_factory.mktemp("device")

    async def started() -> Daemon:
        assert (await handfast_device(home, "init", "--name", "kitchen")).code == 0
        daemon = await Daemon.start(home, "--local", "compat")
        await daemon.json("users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
        return daemon

    daemon = asyncio.run(started())
    yield daemon
    asyncio.run(daemon.end())


def sessions_of(served: Served) -> list[DtlsSession]:
    return [one.session for one in endpoint_of(served.server).associations()]


async def echoed(client: Client, served: Served, body: bytes, *, block: int = 1024) -> None:
    """Send a body and check that the server received it and that it came back."""
    assert await client.post("/echo", body, block) == body
    assert served.echo.bodies[-1] == body


async def waiting_id(device: Daemon) -> str:
    """Wait until a client asks to pair; return its ID for `accept`."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (pending := (await device.json("pending"))["pending"]):
            pass
    return str(pending[0]["id"])


@rows(Capability.PAIR)
async def test_a_foreign_program_pairs_and_reads_hello(
    device: Daemon, client: Client, row: Row
) -> None:
    name = f"client-{ROWS.index(row)}"
    window = (await device.json("open", "--no-wait"))["window"]
    await client.connect(Address(HOST, window["port"]))
    pairing = await client.request("post", f"/pair?name={name}")
    await device.json("accept", await waiting_id(device))
    assert f"paired as {name} with role guest" in await pairing.end()
    await client.connect(Address(HOST, device.port(pairing=False)))
    hello = await client.request("get", "/hello")
    assert f"Hello {name}, you are guest of kitchen" in await hello.end()


@rows(Capability.BLOCKS)
async def test_a_foreign_program_sends_and_receives_20_kb_in_blocks(
    serve: Serve, client: Client
) -> None:
    served = await serve()
    await client.connect(served.address)
    await echoed(client, served, BODY)


@rows(Capability.OBSERVE)
async def test_a_foreign_program_observes_2_kb(serve: Serve, client: Client) -> None:
    served = await serve(value_text=f"value {{0}};{STATE};end {{0}};")
    await client.connect(served.address)
    observing = await client.request("get", "/value", seconds=600)
    await observing.until("value 0;", STATE, "end 0;")
    for number in (1, 2, 3):
        served.value.set(number)
        await observing.until(f"value {number};{STATE};end {number};")


@rows(Capability.RESUME)
async def test_a_foreign_program_resumes_a_session(serve: Serve, client: Client, row: Row) -> None:
    served = await serve()
    await client.connect(served.address, resume=True)
    if row.connects_again:
        await echoed(client, served, b"before resumption")
        await client.connect_again(served)
    await echoed(client, served, b"after resumption")
    assert sessions_of(served)[-1].resumed


@rows(Capability.FRAGMENT)
async def test_a_foreign_program_limits_records_to_512_bytes(serve: Serve, client: Client) -> None:
    served = await serve()
    await client.connect(served.address, fragment=True)
    await echoed(client, served, BODY[:3000], block=256)
    assert [session.record_bytes for session in sessions_of(served)] == [512]
