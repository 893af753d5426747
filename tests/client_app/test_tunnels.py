"""Tunnels of the client: streams, local ports, and the loss of the session."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from client_app import sync
from client_app.client import Client
from client_app.commands.tunnel import port_of
from client_app.device import Device
from client_app.limits import OBSERVE_PING_SECONDS
from client_app.tunnels import services_untrusted, tunnel_untrusted
from device_app.access.bodies import UserPatch
from device_app.settings.tunnel import TunnelOptions
from peer import cbor
from peer.errors import (
    Denied,
    DeviceFailed,
    Malformed,
    PeerError,
    RequestFailed,
    Unreachable,
    UsageError,
)
from peer.net.association import Association
from peer.net.connection import CoapsConnection
from peer.remote.stream_copy import reset
from peer.remote.streams import StreamServer
from tests.kit.adverts import no_adverts
from tests.kit.internals import session_of
from tests.kit.shell import Shell
from tests.kit.tcp import TcpService
from tests.kit.threads import DeviceThread
from tests.kit.waiting import TIMEOUT_SECONDS, skip_time, until


@dataclass
class Home:
    """A device with the services `ssh` and `down`, and a client of it that is the user `anna`."""

    device: DeviceThread
    service: TcpService
    folder: Path


@pytest.fixture
def home_of_device(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    # The connection that the device makes when it gives a tunnel is that of the first stream.
    monkeypatch.setattr("device_app.resources.tunnel_service.TUNNEL_SPARE_SECONDS", TIMEOUT_SECONDS)
    service, down = TcpService(), TcpService()
    services = {"ssh": service.address, "down": down.address}
    device = DeviceThread(tmp_path / "device", tunnel=TunnelOptions(services=services))
    device.add_client(home, "anna", "user")
    yield Home(device, service, home)
    device.close()
    for one in (service, down):
        one.discard()


@asynccontextmanager
async def client_of(home: Home) -> AsyncIterator[Device]:
    async with Client(home=home.folder, look=no_adverts) as client:
        yield await client.connect("kitchen")


@pytest.fixture
async def kitchen(home_of_device: Home) -> AsyncIterator[Device]:
    await home_of_device.service.start()
    async with client_of(home_of_device) as device:
        yield device
    await home_of_device.service.close()


async def test_a_stream_is_a_connection_to_the_service(
    kitchen: Device, home_of_device: Home
) -> None:
    assert await kitchen.services() == ["down", "ssh"]
    reader, writer = await kitchen.stream("ssh")
    far_reader, far_writer = await home_of_device.service.accepted.get()
    writer.write(b"question")
    writer.write_eof()
    assert await far_reader.read() == b"question"
    far_writer.write(b"answer")
    far_writer.close()
    assert await reader.read() == b"answer"


@pytest.mark.parametrize(("service", "kind"), [("down", DeviceFailed), ("none", RequestFailed)])
async def test_a_stream_is_refused(kitchen: Device, service: str, kind: type[PeerError]) -> None:
    with pytest.raises(kind):
        await kitchen.stream(service)


async def test_a_guest_gets_no_stream(home_of_device: Home) -> None:
    guest = UserPatch(role="guest")
    home_of_device.device.do(lambda app: app.access.registry.set_user(None, "anna", guest))
    async with client_of(home_of_device) as device:
        with pytest.raises(Denied):
            await device.stream("ssh")


async def test_a_port_forwards_each_connection(kitchen: Device, home_of_device: Home) -> None:
    port = await kitchen.tunnel("ssh")
    for number in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        far_reader, far_writer = await home_of_device.service.accepted.get()
        writer.write(b"%d" % number)
        writer.write_eof()
        assert await far_reader.read() == b"%d" % number
        far_writer.write(b"done")
        far_writer.close()
        assert await reader.read() == b"done"
        writer.close()


async def test_a_reset_of_the_service_is_one_at_the_port(
    kitchen: Device, home_of_device: Home
) -> None:
    port = await kitchen.tunnel("ssh")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    far_reader, far_writer = await home_of_device.service.accepted.get()
    assert await far_reader.read(1) == b"x"
    reset(far_writer)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_a_port_connects_again_after_the_session_was_lost(
    kitchen: Device, home_of_device: Home
) -> None:
    port = await kitchen.tunnel("ssh")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"first")
    far_reader, _ = await home_of_device.service.accepted.get()
    assert await far_reader.readexactly(5) == b"first"
    home_of_device.device.do(lambda app: app.server.end_sessions(lambda _key: True))
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"again")
    far_reader, _ = await home_of_device.service.accepted.get()
    assert await far_reader.readexactly(5) == b"again"
    writer.close()


async def test_streams_end_when_the_device_has_gone_without_a_word(
    kitchen: Device, home_of_device: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the pings, a stream would wait for as long as QUIC waits for a silent peer."""
    reader, writer = await kitchen.stream("ssh")
    await home_of_device.service.accepted.get()

    async def unanswered(*_: object, timeout: float) -> bool:
        skip_time(timeout)
        return False

    monkeypatch.setattr(CoapsConnection, "ping", unanswered)
    ended = asyncio.ensure_future(reader.read())
    skip_time(OBSERVE_PING_SECONDS)
    with pytest.raises(ConnectionResetError):
        await ended
    writer.close()


async def test_a_stream_without_an_answer_is_tried_again_on_a_new_session(
    kitchen: Device, home_of_device: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device has lost the QUIC connection of the session, and answers pings."""
    first = await kitchen.stream("ssh")
    await home_of_device.service.accepted.get()
    deaf: list[Association] = []
    receive = StreamServer.receive_untrusted

    def lose(self: StreamServer, association: Association, data: bytes) -> None:
        if not deaf:
            deaf.append(association)
        if association is not deaf[0]:
            receive(self, association, data)

    monkeypatch.setattr(StreamServer, "receive_untrusted", lose)
    opening = asyncio.ensure_future(kitchen.stream("ssh"))
    await until(lambda: deaf)
    connection = session_of(kitchen).connection
    while connection.is_open:  # until it is given up: the next one has all the time it needs
        skip_time(1.0)
        await asyncio.sleep(0.01)
    for _, writer in (first, await opening):
        writer.close()


async def test_a_port_resets_connections_that_fail_and_says_why(
    kitchen: Device, home_of_device: Home
) -> None:
    notes: list[str] = []
    port = await kitchen.tunnel("ssh", on_note=notes.append)
    await home_of_device.service.close()
    for _ in range(2):  # the first one may get the connection of the first check, which has ended
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert any("does not answer" in note for note in notes)


async def test_closing_the_device_closes_its_ports(kitchen: Device) -> None:
    port = await kitchen.tunnel("ssh")
    await kitchen.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_in_use_is_an_error(kitchen: Device, home_of_device: Home) -> None:
    port = home_of_device.service.port
    with pytest.raises(PeerError) as caught:
        await kitchen.tunnel("ssh", port=port)
    assert str(caught.value) == f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert "another port" in caught.value.advice


@pytest.mark.parametrize(
    ("host", "why"),
    [("192.0.2.1", "Cannot assign requested address"), ("::g", "Name or service not known")],
)
async def test_an_address_of_another_machine_is_an_error(
    kitchen: Device, host: str, why: str
) -> None:
    with pytest.raises(PeerError) as caught:
        await kitchen.tunnel("ssh", host=host)
    assert str(caught.value) == f"cannot listen on {host}: {why}"
    assert caught.value.advice == "Choose an address of this machine."


async def test_without_the_extra_the_error_names_it(
    kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith("peer.remote.streams")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aioquic.quic", None)
    with pytest.raises(Unreachable, match="aioquic") as caught:
        await kitchen.stream("ssh")
    assert "handfast[tunnel]" in caught.value.advice


def test_a_script_without_async_has_ports(home_of_device: Home) -> None:
    home_of_device.device.call(home_of_device.service.start)
    with sync.Client(home=home_of_device.folder) as client:
        kitchen = client.connect("kitchen")
        assert kitchen.services() == ["down", "ssh"]
        assert kitchen.tunnel("ssh") > 0
    home_of_device.device.call(home_of_device.service.close)


@pytest.mark.usefixtures("home_of_device")
def test_the_verb_lists_services(shell: Shell) -> None:
    found = shell("services", "kitchen")
    assert (found.code, found.out) == (0, "down\nssh\n")
    assert '"services": ["down", "ssh"]' in shell("services", "kitchen", "--json").out


@pytest.mark.usefixtures("home_of_device")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("tunnel", "kitchen", "down"), 9),
        (("tunnel", "kitchen", "none:1"), 8),
        (("tunnel", "kitchen", "ssh:70000"), 2),
        (("connect", "kitchen", "down"), 9),
        (("connect", "kitchen", "none"), 8),
    ],
)
def test_a_verb_ends_with_the_exit_code_of_its_error(
    shell: Shell, words: tuple[str, ...], code: int
) -> None:
    ended = shell(*words)
    assert (ended.code, ended.out) == (code, ""), ended.err


@pytest.mark.parametrize(
    ("text", "found"),
    [("ssh:22", ("ssh", 22)), ("ssh:0", ("ssh", 0)), ("ssh", ("ssh", 0))],
)
def test_a_service_with_a_port_is_read(text: str, found: tuple[str, int]) -> None:
    assert port_of(text) == found


@pytest.mark.parametrize("text", ["", ":22", "ssh:", "ssh:x", "ssh:65536", "ssh:٣", "ssh:-1"])
def test_anything_else_is_no_service_with_a_port(text: str) -> None:
    with pytest.raises(UsageError):
        port_of(text)


@pytest.mark.parametrize("body", [1, {}, {"services": 1}, {"services": [1]}])
def test_malformed_services_are_refused(body: object) -> None:
    with pytest.raises(Malformed):
        services_untrusted(cbor.encode(body))


@pytest.mark.parametrize("body", [1, {}, {"id": "x"}, {"id": b"short"}])
def test_a_malformed_tunnel_is_refused(body: object) -> None:
    with pytest.raises(Malformed):
        tunnel_untrusted(cbor.encode(body))
