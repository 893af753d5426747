"""libcoap's command-line client pairs with the real daemon: one `POST /pair` without a body."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.kit.interop import ForeignProgram, Keys, Run

    Start = Callable[..., Awaitable["Daemon"]]

SECONDS = 60  # -B: the timeout of the client
ROOT = Path(__file__).parents[2]


class Daemon:
    """`handfast-device run` as a process, and the other verbs of that command."""

    def __init__(self, run: Run, home: Path) -> None:
        self._run = run
        self._home = home
        self._port = 0
        self._pairing_port = 0

    async def _start(self, *args: str) -> ForeignProgram:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HANDFAST")}
        env = kept | {"PYTHONPATH": str(ROOT), "HANDFAST_INTERFACES": "127.0.0.1"}
        command = (sys.executable, "-m", "device_app", "--home", self._home)
        return await self._run(*command, *args, env=env)

    async def start(self, *, local: str) -> ForeignProgram:
        await self.ask("init", "--name", "kitchen")
        ports = ("--port", "0", "--pairing-port", "0", "--listen", "127.0.0.1")
        daemon = await self._start("run", *ports, "--allow-loopback", "--local", local)
        await daemon.until("ready")
        self._port = (await self.ask("status"))["port"]
        return daemon

    async def ask(self, *args: str) -> Any:
        program = await self._start(*args, "--json")
        output = await program.end()
        assert program.code == 0, output
        return json.loads(output.splitlines()[-1])

    async def answer(self, verb: str) -> None:
        """Run `accept` or `refuse` for the client that waits."""
        await self.ask(verb, (await self.waiting())["id"])

    async def waiting(self) -> dict[str, Any]:
        """Wait for a client that waits for a decision."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (pending := (await self.ask("pending"))["pending"]):
                pass
        (found,) = pending
        return dict(found)

    async def open(self) -> None:
        self._pairing_port = (await self.ask("open", "--no-wait"))["window"]["port"]

    def uri(self, path: str, *, pairing: bool = False) -> str:
        return f"coaps://127.0.0.1:{self._pairing_port if pairing else self._port}{path}"


@pytest.fixture
async def start(run: Run, tmp_path: Path) -> Start:
    async def started(*, local: str = "compat") -> Daemon:
        daemon = Daemon(run, tmp_path / "home")
        await daemon.start(local=local)
        return daemon

    return started


class StockClient:
    """The foreign client with its key pair."""

    def __init__(self, run: Run, name: str, keys: Keys) -> None:
        self._run = run
        self.name = name
        self.keys = keys

    async def get(self, uri: str, *options: object) -> str:
        got = await self._run(self.name, *self.keys.coap, "-B", SECONDS, *options, uri)
        return (await got.end()).strip()

    async def request_pairing(self, daemon: Daemon, query: str = "") -> ForeignProgram:
        """Send `POST /pair` and wait until the device has acknowledged it."""
        options = ("-v", 7, "-m", "post", "-B", SECONDS)
        uri = daemon.uri(f"/pair{query}", pairing=True)
        pairing = await self._run(self.name, *self.keys.coap, *options, uri)
        await pairing.until("t:ACK c:0.00")
        return pairing

    async def without_certificate(self, uri: str) -> str:
        refused = await self._run(self.name, "-n", "-B", SECONDS, uri)
        return await refused.end()


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-client-openssl", "coap-client-gnutls")
    ]
)
def stock(request: pytest.FixtureRequest, run: Run, theirs: Keys) -> StockClient:
    return StockClient(run, request.param, theirs)


async def test_an_accepted_client_reads_hello(start: Start, stock: StockClient) -> None:
    daemon = await start()
    before = await stock.get(daemon.uri("/hello"))
    assert before.startswith("4.03")
    assert "this device does not know your key" in before
    assert "handfast-device open" in before  # the advice

    await daemon.open()
    pairing = await stock.request_pairing(daemon)
    asked = await daemon.waiting()
    assert asked["fingerprint"] == stock.keys.fingerprint.hex
    await daemon.answer("accept")
    name = "client-" + stock.keys.fingerprint.device_id.lower()
    await pairing.until("c:2.04", f"paired as {name} with role owner")

    hello = await stock.get(daemon.uri("/hello"))
    assert hello.startswith(f"Hello {name}, you are owner of kitchen")
    (user,) = (await daemon.ask("users", "list"))["users"]
    assert [key["fingerprint"] for key in user["keys"]] == [stock.keys.fingerprint.hex]


async def test_a_paired_client_can_pair_again_without_confirmation(
    start: Start, stock: StockClient
) -> None:
    daemon = await start()
    await daemon.open()
    pairing = await stock.request_pairing(daemon, "?name=radio")
    await daemon.answer("accept")
    await pairing.until("paired as radio with role owner")
    await pairing.end()
    await daemon.open()
    again = await stock.get(daemon.uri("/pair?name=radio", pairing=True), "-m", "post")
    assert again == "paired as radio with role owner"
    other = await stock.get(daemon.uri("/pair?name=television", pairing=True), "-m", "post")
    assert other.startswith("4.09")
    assert [user["name"] for user in (await daemon.ask("users", "list"))["users"]] == ["radio"]


async def test_a_refused_client_gets_an_error_and_is_not_stored(
    start: Start, stock: StockClient
) -> None:
    daemon = await start()
    await daemon.open()
    pairing = await stock.request_pairing(daemon)
    await daemon.answer("refuse")
    assert "the device's user refused" in await pairing.end()
    assert "c:4.03" in pairing.output
    assert (await daemon.ask("users", "list"))["users"] == []
    assert (await stock.get(daemon.uri("/hello"))).startswith("4.03")


async def test_strict_mode_refuses_the_hop_limit_of_the_client(
    start: Start, stock: StockClient
) -> None:
    daemon = await start(local="strict")
    await daemon.open()
    answer = await stock.get(daemon.uri("/pair", pairing=True), "-m", "post")
    assert answer.startswith("4.03")
    assert "pairing is for direct neighbours only" in answer
    assert "--local compat" in answer
    assert (await daemon.ask("pending"))["pending"] == []


async def test_a_client_without_a_certificate_is_refused_on_both_ports(
    start: Start, stock: StockClient
) -> None:
    daemon = await start()
    await daemon.open()
    for uri in (daemon.uri("/hello"), daemon.uri("/pair", pairing=True)):
        assert "andshake fail" in await stock.without_certificate(uri)
    counters = (await daemon.ask("status"))["counters"]
    assert counters["regular"]["handshakes-without-certificate"] == 1
    assert counters["pairing"]["handshakes-without-certificate"] == 1


async def test_a_client_revoked_while_it_observes_is_disconnected(
    start: Start, stock: StockClient, run: Run
) -> None:
    daemon = await start()
    await daemon.ask("users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
    await daemon.open()
    pairing = await stock.request_pairing(daemon, "?name=radio")
    await daemon.answer("accept")
    await pairing.until("paired as radio with role guest")
    options = ("-v", 7, "-s", 600)
    observing = await run(stock.name, *stock.keys.coap, *options, daemon.uri("/board/load"))
    await observing.until("c:2.05", "Observe:")
    await daemon.ask("users", "remove", "radio")
    await observing.until("session disconnected")
    observing.interrupt()
    assert (await stock.get(daemon.uri("/board/load"))).startswith("4.03")
