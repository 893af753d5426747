"""Addresses that are announced and received on each link, in namespaces with many interfaces."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from peer.net import advertiser, discovery, link_follower
from peer.net.advertiser import Advertiser
from peer.net.adverts import SERVICE, SUBTYPE, Advert
from peer.net.discovery import watch
from peer.net.tasks import cancel_all
from tests.kit.mdns import (
    GROUP,
    PTR,
    A,
    answer_records,
    mdns_sender,
    packet,
    question,
    service_records,
    text_record,
)
from tests.kit.namespaces import Namespace
from tests.kit.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.needs_root

DEVICE_ID = "7F3K2M1Q"
AAAA = 28
LEGACY_TTL = 10
TYPES = "_services._dns-sd._udp.local."
HOST = f"handfast-{DEVICE_ID.lower()}.local."
CONTAINERS = "172.17.0.1"


def add_bridge(where: Namespace, name: str, address: str) -> None:
    where.ip("link", "add", name, "type", "bridge")
    where.ip("addr", "add", address, "dev", name)
    where.ip("link", "set", name, "up")


@contextlib.asynccontextmanager
async def announced(where: Namespace, patch: pytest.MonkeyPatch) -> AsyncIterator[Advertiser]:
    patch.setattr(advertiser, "kernel_table", where.table)
    patch.setattr(link_follower, "ADDRESS_SETTLE_SECONDS", 0.05)
    device = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=5684, pairing_port=5685, interfaces=None
    )
    with where.inside():
        await device.start()
    try:
        yield device
    finally:
        await device.close()


class Watch:
    """The announcements that a client in a namespace receives."""

    def __init__(self, where: Namespace, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(discovery, "kernel_table", where.table)
        self._where = where
        self._heard = watch()

    async def __aenter__(self) -> Self:
        with self._where.inside():
            self._first = asyncio.ensure_future(anext(self._heard))
            await asyncio.sleep(0)  # its sockets are opened in this namespace
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await cancel_all([self._first])
        await self._heard.aclose()

    async def next(self) -> Advert:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if not self._first.done():
                return await self._first
            return await anext(self._heard)

    async def complete(self, *addresses: str) -> Advert:
        """Wait for an advert with all of these addresses; none before has another one."""
        while (advert := await self.next()).addresses != addresses:
            assert {*advert.addresses} < {*addresses}
        return advert

    async def until(self, *addresses: str) -> None:
        """Wait for an advert with exactly these addresses."""
        while (await self.next()).addresses != addresses:
            pass


def ask(where: Namespace, name: str, kind: int = PTR) -> bytes:
    """Ask as a resolver that does not listen on port 5353 (RFC 6762 §6.7)."""
    with where.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("192.168.1.2", 0))
        outgoing = socket.inet_aton("192.168.1.2")
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, outgoing)
    with receiver:
        receiver.settimeout(TIMEOUT_SECONDS)
        receiver.sendto(question(name, kind), GROUP)
        return receiver.recv(9000)


@pytest.fixture
def many(namespaces: Any) -> tuple[Namespace, Namespace]:
    """A device with sixteen container networks, and a client with one; then a cable.

    The first container network has the same address on both machines.
    """
    device, client = namespaces.add(), namespaces.add()
    for number in range(16):
        add_bridge(device, f"br{number}", f"172.{17 + number}.0.1/16")
    add_bridge(client, "br0", f"{CONTAINERS}/16")
    namespaces.join(device, client)
    for number, end in enumerate((device, client), start=1):
        end.ip("addr", "add", f"192.168.1.{number}/24", "dev", "eth0")
        end.ip("addr", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
    return device, client


async def test_the_address_on_the_link_is_announced_whatever_else_the_device_has(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, client = many
    async with announced(device, monkeypatch), Watch(client, monkeypatch) as heard:
        zone = client.index("eth0")
        advert = await heard.complete("192.168.1.1", f"fe80::1%{zone}")
        assert advert.interface == zone


async def test_each_link_hears_its_own_addresses(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, near, far = (namespaces.add() for _ in range(3))
    for number, client in enumerate((near, far)):
        namespaces.join(device, client, names=(f"eth{number}", "eth0"))
        device.ip("addr", "add", f"10.0.{number}.1/24", "dev", f"eth{number}")
        client.ip("addr", "add", f"10.0.{number}.2/24", "dev", "eth0")
        # The same link-local address on both: only the interface tells them apart.
        device.ip("addr", "add", "fe80::1/64", "dev", f"eth{number}", "nodad")
        client.ip("addr", "add", "fe80::2/64", "dev", "eth0", "nodad")
    async with announced(device, monkeypatch):
        for number, client in enumerate((near, far)):
            async with Watch(client, monkeypatch) as heard:
                await heard.until(f"10.0.{number}.1", f"fe80::1%{client.index('eth0')}")


async def test_a_network_with_link_local_addresses_only(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, client = namespaces.add(), namespaces.add()
    namespaces.join(device, client)
    for number, end in enumerate((device, client), start=1):
        end.ip("addr", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
    async with announced(device, monkeypatch), Watch(client, monkeypatch) as heard:
        assert (await heard.next()).addresses == (f"fe80::1%{client.index('eth0')}",)


async def test_an_interface_and_an_address_that_come_and_go_are_followed(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, client = many
    zone = client.index("eth0")
    async with announced(device, monkeypatch), Watch(client, monkeypatch) as heard:
        await heard.until("192.168.1.1", f"fe80::1%{zone}")
        with device.inside():  # the sockets of new links are opened by the device's task
            device.ip("link", "del", "br7")
            device.ip("addr", "del", "192.168.1.1/24", "dev", "eth0")
            device.ip("addr", "add", "192.168.1.99/24", "dev", "eth0")
            await heard.until("192.168.1.99", f"fe80::1%{zone}")
        answer = await asyncio.to_thread(ask, client, HOST, A)  # it receives there as well
    ipv4 = [data for kind, *_, data in answer_records(answer) if kind == A]
    assert ipv4 == [socket.inet_aton("192.168.1.99")]


async def test_the_zone_is_the_interface_that_received_the_announcement(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IPv4 datagram has no zone, and python-zeroconf keeps the first zone of an address."""
    client = namespaces.add()
    others = [namespaces.add(), namespaces.add()]
    for number, other in enumerate(others):
        namespaces.join(client, other, names=(f"eth{number}", "eth0"))
        client.ip("addr", "add", f"10.0.{number}.2/24", "dev", f"eth{number}")
        client.ip("addr", "add", "fe80::2/64", "dev", f"eth{number}", "nodad")
        other.ip("addr", "add", f"10.0.{number}.1/24", "dev", "eth0")
    local = (HOST, AAAA, socket.inet_pton(socket.AF_INET6, "fe80::1"))
    async with Watch(client, monkeypatch) as heard:
        for number, other in enumerate(others):
            with other.inside(), mdns_sender(f"10.0.{number}.1") as device:
                records = service_records(text_record(), host=HOST, address=f"10.0.{number}.1")
                device.send(packet([*records, local]))
            zone = client.index(f"eth{number}")
            await heard.until(f"10.0.{number}.1", f"fe80::1%{zone}")


async def test_own_addresses_of_the_searching_machine_are_left_out(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, client = many
    containers = (HOST, A, socket.inet_aton(CONTAINERS))
    elsewhere = (HOST, A, socket.inet_aton("10.9.9.9"))
    records = service_records(text_record(), host=HOST, address="192.168.1.1")
    async with Watch(client, monkeypatch) as heard:
        with device.inside(), mdns_sender("192.168.1.1") as sender:
            sender.send(packet([containers, elsewhere, *records]))
        assert (await heard.next()).addresses == ("192.168.1.1", "10.9.9.9")
        # A device on the searching machine itself is announced from an own address.
        with client.inside(), mdns_sender("192.168.1.2") as sender:
            sender.send(packet([containers, *records]))
        assert CONTAINERS in (await heard.next()).addresses


# ------------------------------------------------------------------------- foreign DNS-SD clients


async def test_the_only_service_type_is_coaps(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, client = many
    async with announced(device, monkeypatch):
        answer = await asyncio.to_thread(ask, client, TYPES)
    [(*_, data)] = answer_records(answer)
    assert data.startswith(b"\x06_coaps")


@pytest.mark.parametrize("kind", [PTR, A, AAAA])
async def test_an_answer_to_a_legacy_resolver(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """It repeats ID and question, without cache-flush bits and long TTLs (RFC 6762 §6.7)."""
    device, client = many
    name = SERVICE if kind == PTR else HOST
    async with announced(device, monkeypatch):
        answer = await asyncio.to_thread(ask, client, name, kind)
    asked = question(name, kind)
    assert answer[:2] == asked[:2]
    assert answer[12 : len(asked)] == asked[12:]
    found = answer_records(answer)
    assert {(dns_class, ttl <= LEGACY_TTL) for _, dns_class, ttl, _ in found} == {(1, True)}
    addresses = {data for type_, *_, data in found if type_ in {A, AAAA}}
    assert addresses == {ipaddress.ip_address(one).packed for one in ("192.168.1.1", "fe80::1")}


async def test_a_unicast_query_from_another_network_is_not_answered(
    many: tuple[Namespace, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer, longer than the query, could go to a forged source (RFC 6762 §5.5, §11)."""
    device, client = many
    device.ip("route", "add", "203.0.113.0/24", "via", "192.168.1.2")
    client.ip("addr", "add", "203.0.113.9/32", "dev", "lo")

    def query_from(source: str, name: str) -> socket.socket:
        with client.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        sock.setblocking(False)
        sock.sendto(question(name), ("192.168.1.1", 5353))
        return sock

    async with announced(device, monkeypatch):
        far = query_from("203.0.113.9", SERVICE)
        near = query_from("192.168.1.2", SUBTYPE)
        with far, near:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert b"kitchen" in await asyncio.get_running_loop().sock_recv(near, 9000)
            with pytest.raises(BlockingIOError):  # it had asked before
                far.recv(9000)


async def test_messages_of_the_library_are_for_debugging(
    many: tuple[Namespace, Namespace],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With more links than a socket can join, python-zeroconf warned for each of them."""
    device, _ = many
    with caplog.at_level(logging.DEBUG):
        async with announced(device, monkeypatch):
            logging.getLogger("zeroconf").warning("No buffer space for %s", "br0")
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    assert "No buffer space for br0" in caplog.text
