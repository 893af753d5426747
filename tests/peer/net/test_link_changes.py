"""Multicast DNS follows the links of a machine, and is tried again while it fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from peer.net import advertiser, discovery, link_follower
from peer.net.advertiser import NO_LINK, Advertiser
from peer.net.interfaces import InterfaceTable, kernel_table
from peer.net.link_follower import LinkFollower
from tests.kit.internals import has_links, replace_wait_for_change, zeroconf_of
from tests.kit.mdns import GROUP, mdns_sender, packet, service_records, text_record
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from peer.net.discovery import Search
    from tests.kit.namespaces import Namespace

DEVICE_ID = "7F3K2M1Q"


@pytest.fixture(autouse=True)
def _settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_follower, "ADDRESS_SETTLE_SECONDS", 0)


class Watch:
    """An `InterfaceWatch` that reports a change when the test says so."""

    change: Callable[[], None]

    def __init__(self, on_change: Callable[[], None]) -> None:
        type(self).change = staticmethod(on_change)

    def close(self) -> None:
        type(self).change = staticmethod(lambda: None)


# ------------------------------------------------------------------------- trying again


async def test_the_pause_doubles_and_begins_anew_after_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_follower, "InterfaceWatch", Watch)
    pauses: list[float | None] = []
    changes = iter([False, False, False, True, False])

    async def has_changed(timeout: float | None) -> bool:
        pauses.append(timeout)
        if (changed := next(changes, None)) is None:
            return await asyncio.Event().wait()
        return changed

    replace_wait_for_change(monkeypatch, has_changed)
    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_MAX_SECONDS", 20.0)

    async def fails() -> None:
        raise OSError("no buffer space")

    follower = LinkFollower(fails)
    await follower.start()
    await until(lambda: len(pauses) == 6)
    await follower.close()
    assert pauses == [5.0, 10.0, 20.0, 20.0, 5.0, 10.0]


async def test_without_a_failure_only_a_change_leads_to_another_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_follower, "InterfaceWatch", Watch)
    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_SECONDS", 0)
    attempts: list[bool] = []
    should_fail = False

    async def reconcile() -> None:
        attempts.append(should_fail)
        if should_fail:
            raise OSError("no such device")

    follower = LinkFollower(reconcile)
    await follower.start()
    for _ in range(100):
        await asyncio.sleep(0)
    assert attempts == [False]
    should_fail = True
    Watch.change()
    await until(lambda: len(attempts) > 3)
    should_fail = False
    await until(lambda: not attempts[-1])
    assert follower.failure is None
    await follower.close()


async def test_a_system_without_netlink_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager may forbid netlink sockets (`RestrictAddressFamilies=`)."""
    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_SECONDS", 0)

    def forbidden(_on_change: object) -> None:
        raise OSError("address family not supported")

    device = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=1, pairing_port=2, interfaces=["127.0.0.1"]
    )
    with monkeypatch.context() as patch:
        patch.setattr(link_follower, "InterfaceWatch", forbidden)
        await device.start()
        assert "address family not supported" in device.trouble
    await until(lambda: not device.trouble)
    await device.close()


# ------------------------------------------------------------------------- in namespaces


@contextlib.asynccontextmanager
async def search_in(where: Namespace, patch: pytest.MonkeyPatch) -> AsyncIterator[Search]:
    patch.setattr(discovery, "kernel_table", where.table)
    with where.inside():
        async with discovery.searching() as search:
            yield search


async def next_change(search: Search) -> Any:
    return await asyncio.wait_for(search.changes.get(), TIMEOUT_SECONDS)


@pytest.mark.needs_root
async def test_a_device_is_announced_when_port_5353_becomes_free(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_SECONDS", 0.01)
    here = namespaces.add()
    said: list[str] = []
    attempts: list[None] = []

    def table() -> InterfaceTable:
        attempts.append(None)
        return kernel_table()

    monkeypatch.setattr(advertiser, "kernel_table", table)
    device = Advertiser(
        name="kitchen",
        device_id=DEVICE_ID,
        port=5684,
        pairing_port=5685,
        interfaces=["127.0.0.1"],
        on_trouble=said.append,
    )
    with here.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exclusive:
            exclusive.bind(("", 5353))
            await device.start()
            await until(lambda: len(attempts) > 2)  # the others say nothing new
        async with discovery.searching(["127.0.0.1"]) as search:
            advert = await next_change(search)
        await device.close()
    assert advert.device_id == DEVICE_ID
    assert len(said) == 2
    assert "in use" in said[0]
    assert said[1] == ""


@pytest.mark.needs_root
async def test_the_state_of_the_network_is_reported_once_per_change(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = namespaces.add(), namespaces.add()
    namespaces.join(here, there)
    monkeypatch.setattr(advertiser, "kernel_table", here.table)
    said: list[str] = []
    device = Advertiser(
        name="kitchen",
        device_id=DEVICE_ID,
        port=5684,
        pairing_port=5685,
        interfaces=None,
        on_trouble=said.append,
    )
    here.ip("link", "set", "lo", "down")
    with here.inside():
        await device.start()
        for turn in range(2):
            assert said == [NO_LINK, ""] * turn + [NO_LINK]
            here.ip("addr", "add", "192.0.2.1/24", "dev", "eth0")
            await until(lambda: said[-1] == "")
            here.ip("addr", "del", "192.0.2.1/24", "dev", "eth0")
            await until(lambda: said[-1] == NO_LINK)
        await device.close()


@pytest.mark.needs_root
async def test_a_running_search_follows_a_link_that_comes_up_and_goes(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, near, far = (namespaces.add() for _ in range(3))
    for number, other in enumerate((near, far)):
        namespaces.join(client, other, names=(f"eth{number}", "eth0"))
        other.ip("addr", "add", f"10.0.{number}.1/24", "dev", "eth0")
    client.ip("addr", "add", "10.0.0.2/24", "dev", "eth0")
    client.ip("link", "set", "eth1", "down")
    monkeypatch.setattr(advertiser, "kernel_table", far.table)
    device = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=5684, pairing_port=5685, interfaces=None
    )
    with far.inside():
        await device.start()
    async with search_in(client, monkeypatch) as search:
        client.ip("link", "set", "eth1", "up")
        client.ip("addr", "add", "10.0.1.2/24", "dev", "eth1")
        advert = await next_change(search)
        assert advert.addresses == ("10.0.1.1",)
        assert advert.interface == client.index("eth1")
        client.ip("link", "set", "eth1", "down")
        left = await next_change(search)
        while left.is_present:  # the address may arrive again
            left = await next_change(search)
        assert left.interface == client.index("eth1")
        assert search.found == {}
        client.ip("link", "set", "eth1", "up")
        assert (await next_change(search)).addresses == ("10.0.1.1",)
    await device.close()


@pytest.mark.needs_root
async def test_a_search_without_any_link_left_goes_on_with_the_next_one(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = namespaces.add(), namespaces.add()
    namespaces.join(client, other)
    other.ip("addr", "add", "10.0.0.1/24", "dev", "eth0")
    client.ip("addr", "add", "10.0.0.2/24", "dev", "eth0")
    with other.inside(), mdns_sender("10.0.0.1") as sender:
        async with search_in(client, monkeypatch) as search:
            client.ip("addr", "del", "10.0.0.2/24", "dev", "eth0")
            await until(lambda: not has_links(search))
            client.ip("addr", "add", "10.0.0.3/24", "dev", "eth0")
            await until(lambda: has_links(search))
            while search.changes.empty():
                sender.send(packet(service_records(text_record(), address="10.0.0.1")))
                await asyncio.sleep(0.01)
            assert (await next_change(search)).addresses == ("10.0.0.1",)


@contextlib.contextmanager
def group_listener() -> Iterator[socket.socket]:
    """A socket that hears what is sent to the group of multicast DNS on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((GROUP[0], 5353))
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sock.setblocking(False)
        yield sock


@pytest.mark.needs_root
async def test_a_delayed_answer_does_not_say_what_has_changed_meanwhile(namespaces: Any) -> None:
    """python-zeroconf answers up to half a second after a question, by what it knew then."""
    device = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=1, pairing_port=2, interfaces=["127.0.0.1"]
    )
    with namespaces.add().inside(), group_listener() as group:

        async def heard(text: bytes) -> list[bytes]:
            """Return the messages up to one with this text."""
            found = [await asyncio.get_running_loop().sock_recv(group, 9000)]
            while text not in found[-1]:
                found.append(await asyncio.get_running_loop().sock_recv(group, 9000))
            return found

        async with asyncio.timeout(TIMEOUT_SECONDS):
            await device.start()
            await heard(b"pm=0")
            sender = zeroconf_of(device)
            infos = sender.registry.async_get_service_infos()
            old = [sender.generate_service_broadcast(info, None) for info in infos]
            await device.set_pairing(open=True, pairing_port=3)
            await heard(b"pm=1")
            for message in old:
                sender.async_send(message)
            await device.set_pairing(open=True, pairing_port=4)
            assert not any(b"pm=0" in one for one in await heard(b"pp=4"))
            await device.close()
