"""The routers of the laboratory translate and filter as their kinds say."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.kit.nat_lab import BROKER, RELAY, SECOND_STUN, Nat, NatLab, nat_lab
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.namespaces import Namespace, Namespaces

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip", "nft")]

PORT = 3478


@pytest.fixture
def lab(namespaces: Namespaces) -> NatLab:
    return nat_lab(namespaces)


@pytest.fixture
def servers(lab: NatLab) -> Iterator[dict[str, socket.socket]]:
    """A UDP socket at each address of the internet."""
    with ExitStack() as stack:
        made = {}
        for host in (BROKER, RELAY, SECOND_STUN):
            made[host] = stack.enter_context(closing(udp_socket(lab.core, host, PORT)))
        yield made


def udp_socket(namespace: Namespace, host: str = "", port: int = 0) -> socket.socket:
    with namespace.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, port))
    made.settimeout(TIMEOUT_SECONDS)
    return made


def mapping(inner: socket.socket, server: socket.socket) -> tuple[str, int]:
    """Send to a server; return the address that it sees, after its answer has arrived."""
    inner.sendto(b"request", server.getsockname())
    data, (host, port) = server.recvfrom(100)
    seen = (str(host), int(port))
    assert data == b"request"
    server.sendto(b"answer", seen)
    assert inner.recv(100) == b"answer"
    return seen


def test_a_host_without_nat_has_a_public_address_and_receives_from_all(
    lab: NatLab, servers: dict[str, socket.socket]
) -> None:
    lab.device.use(Nat.OPEN)
    with closing(udp_socket(lab.device.host)) as inner:
        seen = mapping(inner, servers[BROKER])
        assert seen[0] == lab.device.open_address
        servers[RELAY].sendto(b"not asked for", seen)
        assert inner.recv(100) == b"not asked for"


def test_a_cone_has_one_mapping_and_hears_those_it_has_addressed(
    lab: NatLab, servers: dict[str, socket.socket]
) -> None:
    lab.device.use(Nat.CONE)
    with closing(udp_socket(lab.device.host)) as inner:
        seen = mapping(inner, servers[BROKER])
        assert seen[0] == lab.device.public
        servers[RELAY].sendto(b"not asked for", seen)
        assert mapping(inner, servers[SECOND_STUN]) == seen  # and nothing else has arrived


def test_a_symmetric_nat_has_a_mapping_for_each_destination(
    lab: NatLab, servers: dict[str, socket.socket]
) -> None:
    lab.device.use(Nat.SYMMETRIC)
    with closing(udp_socket(lab.device.host)) as inner:
        ports = {mapping(inner, one)[1] for one in servers.values()}
        assert len(ports) > 1  # they are random, so two of them may be equal


def test_a_router_that_blocks_udp_passes_tcp(
    lab: NatLab, servers: dict[str, socket.socket]
) -> None:
    lab.device.use(Nat.BLOCKED)
    with lab.core.inside():
        listener = socket.create_server((BROKER, 1883))
    with closing(listener), closing(udp_socket(lab.device.host)) as inner:
        inner.sendto(b"request", servers[BROKER].getsockname())
        with lab.device.host.inside():
            client = socket.create_connection((BROKER, 1883), timeout=TIMEOUT_SECONDS)
        client.close()
        # The connection was made after the datagram was sent, so that it had its time to arrive.
        servers[BROKER].setblocking(False)
        with pytest.raises(BlockingIOError):
            servers[BROKER].recv(100)


def test_a_client_on_the_lan_of_the_device_reaches_it_and_not_from_its_own(lab: NatLab) -> None:
    lab.plug_in()
    with closing(udp_socket(lab.device.host, lab.device.private, PORT)) as device:
        with closing(udp_socket(lab.client.host)) as near:
            assert mapping(near, device)[0] == lab.client.private
        lab.move_away(Nat.CONE)
        with closing(udp_socket(lab.client.host)) as far:
            far.sendto(b"lost", device.getsockname())
            lab.plug_in()
            with closing(udp_socket(lab.client.host)) as near:
                assert mapping(near, device)[0] == lab.client.private
