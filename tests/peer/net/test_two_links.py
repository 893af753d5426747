"""A device with cable and Wi-Fi in one subnet: Linux accepts its addresses on both links."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.limits import Limits
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.udp import UdpSocket
from tests.kit.namespaces import DEVICE_MAC, add_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peer.identity import Identity
    from peer.net.datagram import Datagram
    from peer.net.locality_verdict import LocalityVerdict

pytestmark = pytest.mark.needs_root

#: The device's ends of cables into another namespace, which are local only if they are named.
CABLES = frozenset({"eth0", "wlan0", "eth1"})


class RecordedLocality(Locality):
    """Remembers by which interface each datagram of a session came, and whether it was local."""

    def __init__(self, namespace: Any) -> None:
        super().__init__(
            mode=LocalMode.STRICT, allow_loopback=False, interfaces=CABLES, table=namespace.table
        )
        self.verdicts: list[LocalityVerdict] = []

    def judge(self, datagram: Datagram) -> LocalityVerdict:
        self.verdicts.append(super().judge(datagram))
        return self.verdicts[-1]


class Receiver:
    """A socket of the device, and the verdicts on its datagrams."""

    def __init__(self, namespace: Any, sockets: Any, inbox: Any) -> None:
        self.namespace = namespace
        self._inbox = inbox
        with namespace.inside():
            self.port = sockets.bind("::", inbox).local_address.port

    async def verdict(self) -> LocalityVerdict:
        return RecordedLocality(self.namespace).judge(await self._inbox.datagram())


@pytest.fixture
async def receiver(links: Any, sockets: Any, inbox: Any) -> Receiver:
    return Receiver(links.device, sockets, inbox)


def send(namespace: Any, source: str, to: str, port: int) -> None:
    with namespace.sender(source) as sock:
        sock.sendto(b"x", (to, port))


ARRIVALS = [
    (client, here, interface)
    for client, *own in (
        ("192.0.2.2", "192.0.2.1", "192.0.2.3"),
        ("2001:db8::2", "2001:db8::1", "2001:db8::3"),
    )
    for here, interface in itertools.product(own, ("eth0", "wlan0"))
]


@pytest.mark.parametrize(("client", "here", "interface"), ARRIVALS)
async def test_each_address_is_local_on_each_link_of_its_subnet(
    links: Any, receiver: Receiver, client: str, here: str, interface: str
) -> None:
    links.resolve(here, interface)
    send(links.client, client, here, receiver.port)
    verdict = await receiver.verdict()
    assert (verdict.is_local, verdict.interface, verdict.detail) == (True, interface, "")


async def test_the_address_of_an_unplugged_cable_is_local_by_wifi(
    links: Any, receiver: Receiver
) -> None:
    """The kernel itself answers ARP for it on the other link."""
    links.client.ip("link", "set", "eth0-port", "down")
    send(links.client, "192.0.2.2", "192.0.2.1", receiver.port)
    verdict = await receiver.verdict()
    assert (verdict.is_local, verdict.interface) == (True, "wlan0")


async def test_an_address_of_another_subnet_is_not_local_by_wifi(
    links: Any, receiver: Receiver
) -> None:
    """Wi-Fi has a subnet of its own, and the client has an address in it."""
    links.device.ip("addr", "flush", "dev", "wlan0")
    links.device.ip("addr", "add", "198.51.100.3/24", "dev", "wlan0")
    links.client.ip("addr", "add", "198.51.100.2/24", "dev", "eth0")
    links.resolve("192.0.2.1", "wlan0")
    links.resolve("198.51.100.3", "eth0")
    send(links.client, "198.51.100.2", "192.0.2.1", receiver.port)
    send(links.client, "192.0.2.2", "198.51.100.3", receiver.port)
    for interface in ("wlan0", "eth0"):
        verdict = await receiver.verdict()
        assert (verdict.rule, verdict.interface) == ("destination", interface)
        assert "another interface" in verdict.detail


async def test_the_address_of_a_bridge_for_containers_is_not_local_by_cable(
    links: Any, receiver: Receiver
) -> None:
    links.device.ip("link", "add", "docker0", "type", "bridge")
    links.device.ip("addr", "add", "172.17.0.1/16", "dev", "docker0")
    links.device.ip("link", "set", "docker0", "up")
    links.client.ip("route", "add", "172.17.0.1", "via", "192.0.2.1")
    links.resolve("192.0.2.1", "eth0")
    send(links.client, "192.0.2.2", "172.17.0.1", receiver.port)
    verdict = await receiver.verdict()
    assert (verdict.rule, verdict.interface) == ("destination", "eth0")


async def test_a_tunnel_with_an_address_in_the_subnet_is_still_no_link(
    links: Any, receiver: Receiver, udp_packet: Callable[..., bytes]
) -> None:
    with links.device.tun("vpn0", "192.0.2.7/24") as write:
        for _ in range(2):
            write(udp_packet("192.0.2.9", "192.0.2.1", receiver.port))
        for _ in range(2):
            verdict = await receiver.verdict()
            assert (verdict.rule, verdict.interface) == ("interface", "vpn0")


async def test_a_bridge_over_a_link_is_the_interface_that_counts(
    links: Any, receiver: Receiver
) -> None:
    links.device.ip("link", "add", "both", "type", "bridge")
    links.device.ip("addr", "flush", "dev", "eth0")
    links.device.ip("link", "set", "eth0", "master", "both")
    links.device.ip("link", "set", "both", "up", "address", DEVICE_MAC)
    add_addresses(links.device, "both", 1)
    for client, here in (
        ("192.0.2.2", "192.0.2.1"),
        ("2001:db8::2", "2001:db8::1"),
        ("192.0.2.2", "192.0.2.3"),  # of the Wi-Fi, which is not in the bridge
        ("2001:db8::2", "2001:db8::3"),
    ):
        links.resolve(here, "eth0")
        send(links.client, client, here, receiver.port)
        verdict = await receiver.verdict()
        assert (verdict.is_local, verdict.interface, verdict.detail) == (True, "both", "")


# -- sessions ----------------------------------------------------------------


class Alternating:
    """A socket of the client, whose next datagram reaches the device by the next interface."""

    def __init__(self, socket: UdpSocket, links: Any, interfaces: Iterator[str]) -> None:
        self._socket = socket
        self._links = links
        self._interfaces = interfaces
        self.local_address = socket.local_address
        self.close = socket.close
        self.is_reading = socket.is_reading

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        self._links.resolve(to.host, next(self._interfaces))
        return self._socket.send(data, to, source=source, ifindex=ifindex)


class AlternatingNet:
    """Opens alternating sockets in the client's namespace."""

    def __init__(self, links: Any, interfaces: Iterator[str]) -> None:
        self._links = links
        self._interfaces = interfaces
        self.bind = UdpSocket.bind

    def connect(self, to: Address, **handlers: Any) -> Alternating:
        with self._links.client.inside():
            return Alternating(UdpSocket.connect(to, **handlers), self._links, self._interfaces)


ALTERNATING = partial(itertools.cycle, ("eth0", "wlan0"))
CHANGING = partial(itertools.chain, ("eth0",), itertools.repeat("wlan0"))
"""Only the first ClientHello, which asks for a cookie, comes by cable."""


def add_policy(device: Any) -> None:
    """Make the routes of what leaves from the Wi-Fi's address know the Wi-Fi only."""
    device.ip("rule", "add", "from", "192.0.2.3", "table", "100")
    device.ip("route", "add", "192.0.2.0/24", "dev", "wlan0", "table", "100")


def get(path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=(path,))


@pytest.mark.parametrize("here", ["192.0.2.1", "192.0.2.3", "2001:db8::1", "2001:db8::3"])
@pytest.mark.parametrize("interfaces", [ALTERNATING, CHANGING], ids=["alternating", "changing"])
async def test_a_session_over_both_links_is_local(
    links: Any,
    serve: Any,
    client: Identity,
    here: str,
    interfaces: Callable[[], Iterator[str]],
) -> None:
    """The cookie is valid on both links, and each answer comes from the address that was asked.

    The client's socket is connected, so that it accepts no answer from another address. The reverse
    path filter is as systemd sets it.
    """
    links.device.sysctl(ipv4__conf__all__rp_filter=2)
    add_policy(links.device)
    locality = RecordedLocality(links.device)
    with links.device.inside():
        served = await serve(host="::", locality=locality)
    net = AlternatingNet(links, interfaces())
    async with CoapsClient(client, net=net, limits=Limits(handshake_attempts=1)) as caller:
        connection = await caller.connect(
            Address(here, served.server.port), pinned=served.identity.fingerprint, timeout=10
        )
        for _ in range(3):
            await connection.request(get("echo"))
        [session] = served.server.sessions()
        assert session.is_local
        seen = {verdict.interface for verdict in locality.verdicts}
        assert seen == ({"eth0", "wlan0"} if interfaces is ALTERNATING else {"wlan0"})
        assert [verdict for verdict in locality.verdicts if verdict.detail] == []
        assert served.count("handshakes") == 1


@pytest.mark.parametrize("here", ["192.0.2.1", "192.0.2.3"])
async def test_a_session_is_local_whatever_link_the_kernel_prefers(
    links: Any, serve: Any, client: Identity, here: str
) -> None:
    """A strict reverse path filter drops what comes by the other link, and ARP requests too.

    A policy sends what leaves from the Wi-Fi's address to a table that has only the Wi-Fi.
    """
    links.device.sysctl(ipv4__conf__all__rp_filter=1)
    add_policy(links.device)
    locality = RecordedLocality(links.device)
    with links.device.inside():
        served = await serve(host="::", locality=locality)
    async with CoapsClient(client) as caller:
        with links.client.inside():
            connection = await caller.connect(
                Address(here, served.server.port), pinned=None, timeout=10
            )
        await connection.request(get("echo"))
        assert [verdict for verdict in locality.verdicts if not verdict.is_local] == []


async def test_a_neighbour_is_answered_by_its_own_link_if_another_has_the_same_prefix(
    namespaces: Any, serve: Any, client: Identity
) -> None:
    """Two networks that do not know of each other: the routing table knows only one of them."""
    device, first, second = (namespaces.add() for _ in range(3))
    for number, (end, interface) in enumerate(((first, "eth0"), (second, "eth1"))):
        namespaces.join(device, end, names=(interface, "eth0"))
        device.ip("addr", "add", f"192.0.2.{2 * number + 1}/24", "dev", interface)
        end.ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
    with device.inside():
        served = await serve(host="::", locality=RecordedLocality(device))
    for end, here in ((first, "192.0.2.1"), (second, "192.0.2.3")):
        async with CoapsClient(client) as caller:
            with end.inside():
                connection = await caller.connect(
                    Address(here, served.server.port), pinned=None, timeout=10
                )
            assert (await connection.request(get("echo"))).code is Code.CONTENT
