"""The records and changes that a search keeps: the latest state, within bounds."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from zeroconf import RecordUpdate, current_time_millis

from peer.limits import MAX_ADVERTS
from peer.net import discovery
from peer.net.advertiser import Advertiser
from peer.net.adverts import SERVICE, SUBTYPE
from peer.net.mdns import DNSAddress, DNSPointer, DNSRecord, DNSService, DNSText
from tests.kit.internals import zeroconf_of
from tests.kit.mdns import (
    PTR,
    SRV,
    TXT,
    A,
    mdns_sender,
    name_bytes,
    packet,
    service_records,
    text_record,
    txt,
)
from tests.kit.waiting import TIMEOUT_SECONDS, until

LOOPBACK = ["127.0.0.1"]


@pytest.mark.needs_root
async def test_the_latest_announcement_applies(namespaces: Any) -> None:
    """A record that returns after another one is already in the cache of python-zeroconf."""
    with namespaces.add().inside(), mdns_sender() as device:
        async with discovery.searching(LOOPBACK) as search:
            for turn, window in enumerate("0101"):
                extra = (f"turn{turn}.local", 1, socket.inet_aton("127.0.0.1"))
                device.send(packet([*service_records(text_record(pm=window)), extra]))
                advert = await asyncio.wait_for(search.changes.get(), TIMEOUT_SECONDS)
                assert advert.pairing_open == (window == "1")


@pytest.mark.parametrize("turns", range(8))
async def test_a_search_that_is_cancelled_while_it_ends_leaves_no_socket_open(turns: int) -> None:
    """As when the timeout of a call is over just then."""
    search: discovery.Search | None = None
    has_begun, may_end, is_ending = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def seek() -> None:
        nonlocal search
        async with discovery.searching(LOOPBACK) as search:
            has_begun.set()
            await may_end.wait()
            is_ending.set()

    seeking = asyncio.create_task(seek())
    await has_begun.wait()
    assert search is not None
    await until(lambda: zeroconf_of(search).started)
    sockets = [one.transport for one in zeroconf_of(search).engine.readers]
    assert sockets
    may_end.set()
    await is_ending.wait()
    for _ in range(turns):  # turns of the loop, of which the end takes several
        await asyncio.sleep(0)
    seeking.cancel()
    await asyncio.wait({seeking})
    assert all(one.is_closing() for one in sockets)


@pytest.mark.needs_root
async def test_a_flood_of_adverts_is_bounded(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs in its own namespace, so that other loopbacks are not flooded."""
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.05)
    alone = namespaces.add()
    with alone.inside(), mdns_sender() as flooder:
        async with discovery.searching(LOOPBACK) as search:
            before = count_tasks()
            for number in range(MAX_ADVERTS * 3):
                instance = f"flooder {number}.{SERVICE}"
                forged = [
                    (SUBTYPE, 12, name_bytes(instance)),
                    (instance, 16, txt(b"v=1", b"id=" + b"x" * 200)),
                    (instance, 33, struct.pack("!HHH", 0, 0, 1) + name_bytes("s.local")),
                ]
                flooder.send(packet(forged))
                flooder.send(secrets.token_bytes(60))
                await asyncio.sleep(0)
                assert len(search.records.names) <= MAX_ADVERTS
                assert count_tasks() <= before + MAX_ADVERTS
            assert search.found == {}
            assert search.changes.empty()
            # the honest device replaces an instance that has not been resolved
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while search.changes.empty():  # the receive buffer may be full of the flood
                    flooder.send(packet(service_records(text_record())))
                    await asyncio.sleep(0)
            assert search.changes.get_nowait().device_id == "7F3K2M1Q"
            assert len(search.records.names) == MAX_ADVERTS


def count_tasks() -> int:
    """The number of tasks that were not cancelled."""
    return sum(not task.cancelling() for task in asyncio.all_tasks())


async def test_unread_changes_are_bounded() -> None:
    async with discovery.searching(LOOPBACK) as search:
        for number in range(MAX_ADVERTS * 8):
            records = dns_records(port=1 + number)
            search.records.keep_untrusted(records)
            updates = [RecordUpdate(record, None) for record in records]
            search.async_update_records(zeroconf_of(search), current_time_millis(), updates)
            search.async_update_records_complete()
        assert search.changes.qsize() == MAX_ADVERTS * 4


def open_sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the handle of this listing itself
            found.add(str(handle.readlink()))
    return {one for one in found if one.startswith("socket:")}


async def test_a_cancelled_search_leaves_no_task_and_no_socket() -> None:
    """A command that reaches its device before the search has started cancels the search."""
    await check_cancellation(lambda: anext(discovery.watch(interfaces=LOOPBACK)))


async def test_a_cancelled_announcement_leaves_no_task_and_no_socket() -> None:
    advertiser = Advertiser(
        name="kitchen", device_id="7F3K2M1Q", port=1, pairing_port=2, interfaces=LOOPBACK
    )
    await check_cancellation(advertiser.start)


async def check_cancellation(start: Callable[[], Awaitable[object]]) -> None:
    """Cancel the start while it waits for python-zeroconf."""
    sockets = open_sockets()
    starting = asyncio.ensure_future(start())
    await asyncio.sleep(0)
    assert open_sockets() > sockets
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: open_sockets() == sockets)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def dns_records(*, port: int) -> list[DNSRecord]:
    """The records of one device, as zeroconf parses them."""
    instance, host, internet = f"kitchen.{SERVICE}", "h.local.", 1
    return [
        DNSPointer(SUBTYPE, PTR, internet, 4500, instance),
        DNSService(instance, SRV, internet, 4500, 0, 0, port, host),
        DNSText(instance, TXT, internet, 4500, text_record()),
        DNSAddress(host, A, internet, 4500, socket.inet_aton("192.0.2.1")),
    ]
