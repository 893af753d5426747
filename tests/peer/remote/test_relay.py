"""Allocations at coturn, over UDP, TCP and TLS, and with servers that fail or misbehave."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aioice import Connection, stun
from aioice.ice import StunProtocol

from peer.remote.errors import CarrierError, ServerFailure
from peer.remote.ice import IceServers
from peer.remote.limits import CHANNEL_REFRESH_SECONDS, DEFAULT_ICE_LIMITS, IceLimits
from peer.remote.relay import Allocation, allocate
from peer.remote.settings import Server
from peer.remote.stun_probe import NatKind, probe_network, probe_relay
from peer.secret import Secret
from tests.kit.carriers import LOOPBACK, CarrierEnd, closing, connect
from tests.kit.false_brokers import false_broker
from tests.kit.relays import RunningRelay, coturn
from tests.kit.server_process import free_port
from tests.kit.stun_servers import stun_servers
from tests.kit.waiting import skip_time, until

pytestmark = pytest.mark.needs_tool("turnserver")

NEVER = 3600.0
SILENT = f"{LOOPBACK}:9"  # where no STUN server answers
QUICK = replace(DEFAULT_ICE_LIMITS, allocate_seconds=30.0, close_seconds=0.05)


@contextmanager
def frozen(relay: RunningRelay) -> Iterator[None]:
    """The relay keeps its sockets, and reads nothing."""
    os.kill(relay.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(relay.process.pid, signal.SIGCONT)


@asynccontextmanager
async def allocation(*servers: Server, limits: IceLimits = QUICK) -> AsyncIterator[Allocation]:
    ice = Connection(True)
    made = await allocate(servers, partial(StunProtocol, ice), limits)
    try:
        yield made
    finally:
        await made.release()


async def failure(*servers: Server, limits: IceLimits = DEFAULT_ICE_LIMITS) -> CarrierError:
    end = CarrierEnd.create(
        controlling=True, relay_only=True, servers=IceServers(turn=servers), limits=limits
    )
    async with closing(end):
        with pytest.raises(CarrierError) as caught:
            await end.carrier.gather()
    return caught.value


@pytest.mark.parametrize("both", [False, True], ids=["one side", "both sides"])
@pytest.mark.parametrize("way", ["udp", "tcp", "over_tls"])
async def test_two_sides_connect_through_a_relay(relay: RunningRelay, way: str, both: bool) -> None:
    server: Server = getattr(relay, way)()
    servers = IceServers((relay.stun,), (server,))
    client = CarrierEnd.create(controlling=True, relay_only=True, servers=servers)
    device = CarrierEnd.create(controlling=False, relay_only=both, servers=servers)
    async with closing(client, device):
        [offer, _] = await connect(client, device)
        assert [one.split()[7] for one in offer.candidates] == ["relay"]
        assert offer.candidates[0].endswith("raddr 0.0.0.0 rport 9")
        assert client.carrier.kind_in_use == device.carrier.kind_in_use == "relay"
        for number in range(50):
            assert client.carrier.send(b"\x80%d" % number)
        for number in range(50):
            assert await device.received.get() == b"\x80%d" % number


async def test_the_relay_over_tls_is_used_if_udp_does_not_answer(relay: RunningRelay) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        dead = Server(f"turn:{LOOPBACK}:{silent.getsockname()[1]}", "home", Secret("x"))
        limits = replace(QUICK, next_relay_seconds=0.01, allocate_seconds=NEVER)
        async with allocation(relay.over_tls(), dead, limits=limits):
            assert silent.recv(100)  # it was asked first


async def test_a_relay_that_answers_in_time_is_the_only_one_that_is_asked(
    relay: RunningRelay,
) -> None:
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        unused.listen()
        unused.setblocking(False)
        other = Server(
            f"turns:{LOOPBACK}:{unused.getsockname()[1]}", "home", Secret("x"), b"1" * 32
        )
        limits = replace(QUICK, next_relay_seconds=NEVER)
        async with allocation(other, relay.udp(), limits=limits):
            with pytest.raises(BlockingIOError):
                unused.accept()


async def test_the_relay_over_tls_is_asked_first_where_udp_is_known_to_be_blocked(
    relay: RunningRelay,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        silent.setblocking(False)
        dead = Server(f"turn:{LOOPBACK}:{silent.getsockname()[1]}", "home", Secret("x"))
        servers = IceServers(turn=(dead, relay.over_tls()), has_udp=False)
        limits = replace(QUICK, next_relay_seconds=NEVER)
        end = CarrierEnd.create(controlling=True, relay_only=True, servers=servers, limits=limits)
        async with closing(end):
            await end.carrier.gather()
            with pytest.raises(BlockingIOError):
                silent.recv(100)


async def test_a_relay_that_refuses_makes_room_for_the_next_at_once(relay: RunningRelay) -> None:
    limits = replace(QUICK, next_relay_seconds=NEVER)
    async with allocation(relay.udp("stranger"), relay.tcp(), limits=limits):
        pass


@pytest.mark.parametrize("way", ["udp", "tcp", "over_tls"])
async def test_an_unknown_account_is_refused(relay: RunningRelay, way: str) -> None:
    error = await failure(getattr(relay, way)("stranger"))
    assert error.reason is ServerFailure.REFUSED
    assert "stranger" not in str(error)


async def test_another_key_than_the_pinned_one_is_refused(relay: RunningRelay) -> None:
    error = await failure(relay.over_tls(pin=b"\x01" * 32))
    assert error.reason is ServerFailure.PIN_MISMATCH


async def test_a_relay_with_another_key_receives_no_byte_after_tls(tmp_path: Path) -> None:
    async def record(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            host.received += data

    async with false_broker(tmp_path, record) as host:
        server = Server(f"turns:{LOOPBACK}:{host.port}", "home", Secret("a password"), b"\x01" * 32)
        assert (await failure(server)).reason is ServerFailure.PIN_MISMATCH
        await until(lambda: host.ended == host.connections)
    assert host.received == b""


async def test_without_a_pin_a_trusted_certificate_is_required(relay: RunningRelay) -> None:
    assert (await failure(relay.over_tls(pin=b""))).reason is ServerFailure.TLS_FAILED


async def test_a_relay_that_is_not_there_is_unreachable(relay: RunningRelay) -> None:
    gone = Server(f"turn:{LOOPBACK}:{free_port(LOOPBACK)}?transport=tcp", "home", Secret("x"))
    assert (await failure(gone)).reason is ServerFailure.UNREACHABLE
    limits = replace(QUICK, allocate_seconds=0.05)
    with frozen(relay):
        assert (await failure(relay.udp(), limits=limits)).reason is ServerFailure.UNREACHABLE


async def test_without_a_relay_there_is_no_candidate() -> None:
    assert (await failure()).reason is ServerFailure.NO_CANDIDATE


@pytest.mark.parametrize("way", ["udp", "tcp", "over_tls"])
async def test_a_relay_that_is_dead_does_not_delay_the_end(relay: RunningRelay, way: str) -> None:
    """aioice repeats its farewell for 40 seconds, and TLS waits for another 30."""
    servers = IceServers(turn=(getattr(relay, way)(),))
    end = CarrierEnd.create(controlling=True, relay_only=True, servers=servers, limits=QUICK)
    await end.carrier.gather()
    loop = asyncio.get_running_loop()
    with frozen(relay):
        start = loop.time()
        await end.carrier.close()
        assert loop.time() - start < 20.0


async def test_the_loss_of_a_relay_over_tcp_is_noticed_at_once(tmp_path: Path) -> None:
    with coturn(tmp_path) as relay:
        servers = IceServers(turn=(relay.tcp(),))
        client = CarrierEnd.create(controlling=True, relay_only=True, servers=servers, limits=QUICK)
        device = CarrierEnd.create(controlling=False)
        async with closing(client, device):
            await connect(client, device)
            relay.process.stop()
            await until(lambda: client.losses)
            assert not client.carrier.send(b"\x80")
        assert client.losses == 1


async def test_datagrams_that_a_slow_relay_does_not_take_are_dropped(relay: RunningRelay) -> None:
    limits = replace(QUICK, relay_buffer_bytes=10_000)
    servers = IceServers(turn=(relay.tcp(),))
    client = CarrierEnd.create(controlling=True, relay_only=True, servers=servers, limits=limits)
    device = CarrierEnd.create(controlling=False)
    async with closing(client, device):
        await connect(client, device)
        with frozen(relay):
            taken = 0
            while client.carrier.send(b"\x80" + bytes(1199)):
                taken += 1
                assert taken < 100_000
            await asyncio.sleep(0)


async def test_datagrams_that_wait_for_a_channel_are_bounded(relay: RunningRelay) -> None:
    async with allocation(relay.udp(), limits=replace(QUICK, relay_sends=3)) as made:
        with frozen(relay):
            sent = [made.send(b"\x80", (LOOPBACK, 50000 + number)) for number in range(5)]
            await asyncio.sleep(0)
        assert sent == [True, True, True, False, False]


async def test_malformed_answers_of_a_relay_leave_no_trace(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aioice raises `struct.error` for them, and asyncio would log each with its traceback."""
    body = b"\x00\x0d\x00\x01\x00\x00\x00\x00"  # LIFETIME of one byte
    sent: list[bytes] = []

    class FalseRelay(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.socket = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            answer = b"\x01\x03" + len(body).to_bytes(2) + data[4:20] + body
            self.socket.sendto(answer, addr)
            sent.append(answer)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(FalseRelay, local_addr=(LOOPBACK, 0))
    server = Server(f"turn:{LOOPBACK}:{transport.get_extra_info('sockname')[1]}", "home")
    monkeypatch.setattr(stun, "RETRY_RTO", 0.05)
    limits = replace(QUICK, allocate_seconds=NEVER)
    failing = asyncio.create_task(failure(server, limits=limits))
    await until(lambda: len(sent) > 1)
    skip_time(NEVER)
    error = await failing
    transport.close()
    assert error.reason is ServerFailure.UNREACHABLE
    assert sent
    assert [one for one in caplog.records if one.name == "asyncio"] == []


def test_a_channel_is_refreshed_before_a_permission_ends() -> None:
    """RFC 8656 §9: five minutes."""
    assert CHANNEL_REFRESH_SECONDS < 300


# -- probes ---------------------------------------------------------------------------------------


async def test_a_probe_finds_the_public_address_and_the_kind_of_nat(relay: RunningRelay) -> None:
    second = f"{LOOPBACK}:{relay.tls_port}"  # coturn answers STUN on it, too
    limits = replace(DEFAULT_ICE_LIMITS, gather_seconds=NEVER)
    probe = await probe_network((relay.stun, second), limits=limits)
    assert probe.has_udp
    assert probe.public_address is not None
    assert probe.public_address.host == LOOPBACK
    assert (probe.nat, probe.answered) == (NatKind.NONE, (relay.stun, second))


@pytest.mark.parametrize(
    ("mappings", "kind", "silent", "seconds"),
    [
        ((("192.0.2.7", 4000), ("192.0.2.7", 4000)), NatKind.CONE, (), NEVER),
        ((("192.0.2.7", 4000), ("192.0.2.7", 4001)), NatKind.SYMMETRIC, (), NEVER),
        ((("192.0.2.7", 4000),), NatKind.UNKNOWN, (SILENT,), 3.0),  # time for an answer
        ((), NatKind.UNKNOWN, (SILENT,), 0.1),
    ],
)
async def test_two_mappings_tell_the_kind_of_nat(
    mappings: tuple[tuple[str, int], ...], kind: NatKind, silent: tuple[str, ...], seconds: float
) -> None:
    async with stun_servers(*mappings) as servers:
        probe = await probe_network(
            (*servers, *silent, "no-such-host.invalid:3478"),
            limits=replace(DEFAULT_ICE_LIMITS, gather_seconds=seconds),
        )
    assert probe.nat is kind
    assert probe.answered == tuple(servers)
    assert probe.has_udp is bool(mappings)


async def test_an_answer_that_was_there_at_the_deadline_counts() -> None:
    """As on a board that was too busy to read it: else it would take UDP for blocked."""
    mapping = ("192.0.2.7", 4000)
    async with stun_servers(mapping, on_answer=lambda: skip_time(NEVER)) as servers:
        probe = await probe_network(servers, limits=replace(DEFAULT_ICE_LIMITS, gather_seconds=60))
    assert probe.has_udp


@pytest.mark.parametrize("way", ["udp", "tcp", "over_tls"])
async def test_a_datagram_through_the_relay(relay: RunningRelay, way: str) -> None:
    probe = await probe_relay(getattr(relay, way)())
    assert probe.address.host == LOOPBACK
    assert probe.allocate_seconds > 0 < probe.datagram_seconds


async def test_a_relay_that_allocates_and_relays_nothing_is_found(tmp_path: Path) -> None:
    limits = replace(QUICK, allocate_seconds=4.0)
    with (
        coturn(tmp_path, more=f"denied-peer-ip={LOOPBACK}\n") as relay,
        pytest.raises(CarrierError, match="relays nothing") as caught,
    ):
        await probe_relay(relay.udp(), limits=limits)
    assert caught.value.reason is ServerFailure.NO_PATH
    assert caught.value.advice


async def test_the_probe_of_a_relay_says_why_it_fails(relay: RunningRelay) -> None:
    with pytest.raises(CarrierError) as caught:
        await probe_relay(relay.udp("stranger"))
    assert caught.value.reason is ServerFailure.REFUSED
