"""/tunnels and the streams of a device: who reaches which service, and when that ends."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_app.errors import ConfigError
from device_app.resources import tunnel_service
from device_app.settings import config
from device_app.settings.tunnel import TunnelOptions
from device_app.terminal.render_status import status_lines
from iam.access import Access
from iam.builtin import POLICIES, ROLES
from iam.policy import Effect, Policy, Role, Statement
from peer.net.address import connect_failure
from peer.remote.limits import DEFAULT_REMOTE_LIMITS
from peer.remote.stream_copy import Pair
from peer.remote.streams import ClientStreams
from peer.remote.streams_header import StreamHeader, StreamOutcome
from tests.kit.device import Caller, Device, Kit
from tests.kit.internals import endpoint_of
from tests.kit.tcp import TcpService, tcp_service
from tests.kit.waiting import TIMEOUT_SECONDS, skip_time, stop_time, until


def without(actions: str) -> Access:
    """The built-in rules, and one that denies these actions to every role."""
    denial = Policy("none", (Statement(Effect.DENY, (actions,)),))
    roles = [Role(one.id, one.rank, (*one.policies, "none")) for one in ROLES]
    return Access(roles, [*POLICIES, denial])


WITHOUT_TUNNELS, WITHOUT_REMOTE = without("Tunnel:*"), without("Remote:*")
ONE_SERVICE = """
[[policy]]
id = "ssh-only"
[[policy.statement]]
effect = "Allow"
actions = ["Tunnel:Connect"]
conditions = [{ StringEquals = { "Tunnel:Service" = ["ssh"] } }]
[[role]]
id = "helper"
rank = 15
policies = ["core-unpaired", "core-guest", "ssh-only"]
"""


@pytest.fixture
async def service() -> AsyncIterator[TcpService]:
    async with tcp_service() as started:
        yield started


@pytest.fixture
async def down() -> AsyncIterator[TcpService]:
    """A service that refuses connections."""
    made = TcpService()
    yield made
    await made.close()


@dataclass
class Home:
    """A device with two services that answer, `ssh` and `web`, and one that does not, `down`."""

    kit: Kit
    device: Device
    service: TcpService


@pytest.fixture
async def home(
    kit: Kit, service: TcpService, down: TcpService, monkeypatch: pytest.MonkeyPatch
) -> Home:
    # A connection that was dialled for a request is there for its stream, however late it comes.
    monkeypatch.setattr(tunnel_service, "TUNNEL_SPARE_SECONDS", TIMEOUT_SECONDS)
    services = {
        "ssh": service.address,
        "web": service.address,
        "down": down.address,
    }
    device = await kit.device(tunnel=TunnelOptions(services=services))
    return Home(kit, device, service)


@pytest.fixture
def anna(home: Home) -> Caller:
    """A user of the device."""
    return home.kit.known(home.device, "anna", "user")


class Streams:
    """The streams of a caller's session, and what the device says first on each."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.association = caller.connections[False].association
        self.client = ClientStreams(self.association)

    async def send(self, header: bytes) -> tuple[StreamOutcome, Pair]:
        reader, writer = await self.client.open()
        writer.write(header)
        outcome = StreamOutcome.parse_untrusted(await reader.read(1))
        return outcome, (reader, writer)

    def header(self, tunnel: bytes) -> bytes:
        return StreamHeader.create(self.association.session.exporter, tunnel).encode()

    async def connect(self, tunnel: bytes) -> tuple[StreamOutcome, Pair]:
        return await self.send(self.header(tunnel))


def sessions_with_streams(device: Device) -> int:
    associations = endpoint_of(device.app.server).associations()
    return sum(one.has_open_streams for one in associations)


async def tunnel_of(caller: Caller, service: str) -> bytes:
    answer = await caller.ask("POST", "/tunnels", {"service": service})
    assert (answer.code, answer.body["service"]) == ("2.01", service), answer
    return bytes(answer.body["id"])


async def test_a_user_sees_and_reaches_the_services(home: Home, anna: Caller) -> None:
    assert (await anna.ask("GET", "/tunnels")).body == {"services": ["down", "ssh", "web"]}
    tunnel = await tunnel_of(anna, "ssh")
    outcome, (reader, writer) = await Streams(anna).connect(tunnel)
    assert outcome is StreamOutcome.OPEN
    far_reader, far_writer = await home.service.accepted.get()
    writer.write(b"question")
    assert await far_reader.readexactly(8) == b"question"
    far_writer.write(b"answer")
    far_writer.write_eof()
    assert await reader.read() == b"answer"
    writer.write(b"more")
    writer.write_eof()
    assert await far_reader.read() == b"more"


async def test_one_dial_serves_the_request_and_the_first_stream(home: Home, anna: Caller) -> None:
    streams_tunnel = await tunnel_of(anna, "ssh")
    _, (_, writer) = await Streams(anna).connect(streams_tunnel)
    await home.service.accepted.get()
    assert home.service.accepted.empty()
    writer.close()


async def test_the_same_service_has_one_tunnel_in_a_session(anna: Caller) -> None:
    assert await tunnel_of(anna, "ssh") == await tunnel_of(anna, "ssh")
    assert await tunnel_of(anna, "ssh") != await tunnel_of(anna, "web")


@pytest.mark.parametrize(
    ("role", "name", "code", "reason"),
    [
        ("guest", "ssh", "4.03", "denied"),
        ("guest", "none", "4.03", "denied"),
        ("user", "none", "4.04", "not-found"),
        ("user", "down", "5.02", "service-down"),
    ],
)
async def test_a_tunnel_is_refused(
    home: Home, role: str, name: str, code: str, reason: str
) -> None:
    caller = home.kit.known(home.device, "tom", role)
    answer = await caller.ask("POST", "/tunnels", {"service": name})
    assert (answer.code, answer.reason) == (code, reason)


async def test_a_client_does_not_learn_the_address_of_a_service(home: Home) -> None:
    """asyncio puts the address into the text of its errors."""
    caller = home.kit.known(home.device, "tom", "user")
    answer = await caller.ask("POST", "/tunnels", {"service": "down"})
    assert "does not answer on the device: Connection refused" in answer.text
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.7', 80)"), "Connection refused"),
        (
            OSError("Multiple exceptions: ('fd00::7', 80), ('10.0.0.7', 80)"),
            "none of its addresses",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not"),
        (TimeoutError(), "no answer"),
    ],
)
def test_the_text_of_a_failed_connection_has_no_address(error: OSError, text: str) -> None:
    assert connect_failure(error).startswith(text)


@pytest.mark.parametrize("body", [{}, {"service": ""}, {"service": 1}, {"service": "x" * 65}])
async def test_a_malformed_request_is_refused(anna: Caller, body: object) -> None:
    assert (await anna.ask("POST", "/tunnels", body)).code == "4.00"


async def test_a_policy_can_allow_a_single_service(kit: Kit, service: TcpService) -> None:
    kit.policy(ONE_SERVICE)
    services = {"ssh": service.address, "web": service.address}
    device = await kit.device(tunnel=TunnelOptions(services=services))
    tom = kit.known(device, "tom", "helper")
    assert (await tom.ask("POST", "/tunnels", {"service": "web"})).code == "4.03"
    assert await tunnel_of(tom, "ssh")


async def test_a_device_without_services_has_no_tunnels(kit: Kit) -> None:
    device = await kit.device()
    anna = kit.known(device, "anna", "user")
    assert (await anna.ask("GET", "/tunnels")).code == "4.04"


async def test_without_the_extra_the_device_says_what_to_install(
    kit: Kit,
    service: TcpService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find(name) if name != "aioquic" else None
    )
    device = await kit.device(tunnel=TunnelOptions(services={"ssh": service.address}))
    anna = kit.known(device, "anna", "user")
    assert (await anna.ask("GET", "/tunnels")).code == "4.04"
    trouble = device.app.status()["tunnels"]["trouble"]
    assert "pip install 'handfast[tunnel]'" in trouble
    assert trouble in caplog.text
    assert device.app.device_status.problems() == [trouble]
    assert f"problem      {trouble}" in status_lines(device.app.status())


async def test_the_status_names_the_services(home: Home) -> None:
    assert home.device.app.status()["tunnels"] == {
        "services": ["down", "ssh", "web"],
        "trouble": "",
    }
    assert "tunnels      down, ssh, web" in status_lines(home.device.app.status())


# -- hostile --------------------------------------------------------------------------------------


async def test_the_token_of_another_session_is_refused(home: Home, anna: Caller) -> None:
    tom = home.kit.known(home.device, "tom", "user")
    of_anna, of_tom = await tunnel_of(anna, "ssh"), await tunnel_of(tom, "ssh")
    theft = Streams(tom)
    stolen = Streams(anna).header(of_anna)
    own_id_with_stolen_token = of_tom + stolen[8:]
    for header in (stolen, own_id_with_stolen_token, of_anna + theft.header(of_tom)[8:]):
        outcome, (_, writer) = await theft.send(header)
        assert outcome is StreamOutcome.UNKNOWN
        writer.close()
    outcome, (_, writer) = await theft.send(theft.header(of_tom))
    assert outcome is StreamOutcome.OPEN
    writer.close()


async def test_the_right_is_decided_again_for_each_stream(home: Home, anna: Caller) -> None:
    tunnel = await tunnel_of(anna, "ssh")
    streams = Streams(anna)
    home.device.app.access.authority.adopt(WITHOUT_TUNNELS)
    outcome, (_, writer) = await streams.connect(tunnel)
    assert outcome is StreamOutcome.DENIED
    writer.close()
    (event,) = home.device.events("denied")
    assert (event.user, event.action) == ("anna", "Tunnel:Connect")


async def test_the_right_to_be_on_a_path_is_decided_again_for_each_stream(
    home: Home, anna: Caller
) -> None:
    await anna.connect_over(home.device)
    tunnel = await tunnel_of(anna, "ssh")
    streams = Streams(anna)
    home.device.app.access.authority.adopt(WITHOUT_REMOTE)
    outcome, (_, writer) = await streams.connect(tunnel)
    assert outcome is StreamOutcome.DENIED
    writer.close()
    (event,) = home.device.events("denied")
    assert (event.user, event.action) == ("anna", "Remote:Connect")


async def test_a_revocation_ends_a_transfer_at_both_ends(home: Home, anna: Caller) -> None:
    """Session, QUIC and sockets end together: no timer of any of them fires meanwhile."""
    tunnel = await tunnel_of(anna, "ssh")
    outcome, (reader, writer) = await Streams(anna).connect(tunnel)
    assert outcome is StreamOutcome.OPEN
    far_reader, far_writer = await home.service.accepted.get()
    writer.write(b"x" * 2_000_000)
    await far_reader.readexactly(100_000)
    stop_time()
    home.device.app.access.registry.remove_user(None, "anna")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await far_reader.readexactly(3_000_000)
    assert far_writer.is_closing() or far_reader.at_eof()


async def test_a_stream_of_a_service_that_has_gone_is_refused(home: Home, anna: Caller) -> None:
    tunnel = await tunnel_of(anna, "ssh")
    streams = Streams(anna)
    await home.service.close()
    for _ in range(2):  # the first one has the spare connection, which has ended
        outcome, (_, writer) = await streams.connect(tunnel)
        writer.close()
    assert outcome is StreamOutcome.REFUSED


async def test_a_session_has_at_most_eight_tunnels(kit: Kit, service: TcpService) -> None:
    most = DEFAULT_REMOTE_LIMITS.tunnels_per_session
    services = {f"s{number}": service.address for number in range(most + 1)}
    device = await kit.device(tunnel=TunnelOptions(services=services))
    anna = kit.known(device, "anna", "user")
    for number in range(most):
        await tunnel_of(anna, f"s{number}")
    answer = await anna.ask("POST", "/tunnels", {"service": f"s{most}"})
    assert (answer.code, answer.reason) == ("4.29", "too-many")
    assert await tunnel_of(anna, "s0")


async def test_a_session_has_32_streams_and_the_device_128(home: Home) -> None:
    limits = DEFAULT_REMOTE_LIMITS
    callers = [home.kit.known(home.device, f"user{number}", "user") for number in range(5)]
    held: list[Pair] = []
    outcomes: list[StreamOutcome] = []
    for caller in callers:
        tunnel = await tunnel_of(caller, "ssh")
        streams = Streams(caller)
        for _ in range(limits.streams_per_session if caller is not callers[-1] else 1):
            outcome, pair = await streams.connect(tunnel)
            held.append(pair)
            outcomes.append(outcome)
    assert outcomes == [StreamOutcome.OPEN] * limits.streams + [StreamOutcome.NO_ROOM]
    for _, writer in held:
        writer.close()


async def test_a_session_without_a_tunnel_reaches_no_quic(home: Home, anna: Caller) -> None:
    await anna.ask("GET", "/tunnels")
    association = anna.connections[False].association
    for data in (b"\x40" * 50, b"\xc0" * 1200):
        association.send_datagram(data)
    await until(lambda: home.device.counters().get("streams-not-armed") == 2)


async def test_a_stranger_reaches_no_quic(home: Home, anna: Caller) -> None:
    await tunnel_of(anna, "ssh")
    port = home.device.port(pairing=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\xc0" + os.urandom(1199), ("127.0.0.1", port))
    await until(lambda: home.device.counters().get("streams-not-armed") == 1)


async def test_the_pairing_port_has_no_tunnels(home: Home, anna: Caller) -> None:
    await home.device.open()
    answer = await anna.pair_ask("POST", "/tunnels", {"service": "ssh"})
    assert answer.code in ("4.03", "4.04")
    anna.connections[True].association.send_datagram(b"\xc0" * 1200)
    await until(lambda: home.device.counters("pairing").get("streams-not-armed") == 1)


async def test_an_unknown_key_learns_nothing_of_services(home: Home) -> None:
    stranger = home.kit.caller(home.device)
    for method, body in (("GET", None), ("POST", {"service": "ssh"})):
        answer = await stranger.ask(method, "/tunnels", body)
        assert (answer.code, answer.reason) == ("4.03", "not-paired")


async def test_a_stream_without_a_header_is_closed(anna: Caller) -> None:
    await tunnel_of(anna, "ssh")
    reader, writer = await Streams(anna).client.open()
    writer.write(b"short")
    writer.write_eof()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_a_stream_that_sends_no_header_in_time_is_reset(home: Home, anna: Caller) -> None:
    await tunnel_of(anna, "ssh")
    reader, writer = await Streams(anna).client.open()
    writer.write(b"short")
    await until(lambda: sessions_with_streams(home.device) == 1)
    skip_time(DEFAULT_REMOTE_LIMITS.stream_header_seconds + 1)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"127.0.0.1:22"', "table"),
        ('{ ssh = "127.0.0.1" }', "HOST:PORT"),
        ('{ ssh = "127.0.0.1:0" }', "HOST:PORT"),
        ("{ ssh = 22 }", "HOST:PORT"),
        ('{ "s:h" = "127.0.0.1:22" }', "name"),
        ('{ "" = "127.0.0.1:22" }', "name"),
    ],
)
def test_invalid_services_are_an_error(tmp_path: Path, value: str, words: str) -> None:
    file = tmp_path / "device.toml"
    file.write_text(f"[tunnel]\nservices = {value}\n")
    with pytest.raises(ConfigError, match=r"tunnel\.services") as caught:
        config.load([file])
    assert words in str(caught.value)


def test_services_are_read(tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    file.write_text('[tunnel.services]\nssh = "127.0.0.1:22"\nweb = "[::1]:80"\n')
    assert dict(config.load([file]).tunnel.services) == {"ssh": "127.0.0.1:22", "web": "[::1]:80"}
