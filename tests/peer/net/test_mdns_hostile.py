"""Forged mDNS from a host on the link, against the real responder and the real search.

Each test runs in its own namespaces, and each was seen to fail with its defence removed.
"""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from zeroconf import ServiceInfo
from zeroconf._history import QuestionHistory

from peer.limits import (
    MAX_ADVERTS,
    MAX_ALIKE_RECORDS,
    MAX_HOST_ADDRESSES,
    MAX_RESOLVING,
    MAX_TTL_SECONDS,
    MAX_TXT_BYTES,
)
from peer.net import advertiser, discovery, mdns
from peer.net.advertiser import Advertiser
from peer.net.adverts import SERVICE, SUBTYPE, Advert, instance_label
from peer.net.discovery import Search, watch
from tests.kit.internals import announced, zeroconf_of
from tests.kit.mdns import (
    DECADES,
    GROUP,
    PTR,
    SRV,
    TXT,
    A,
    Record,
    mdns_sender,
    name_bytes,
    packet,
    query,
    service_records,
    text_record,
    txt,
)
from tests.kit.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.needs_root

FLOOD = 300
DEVICE_ID = "7F3K2M1Q"
INSTANCE = f"{instance_label('kitchen', DEVICE_ID)}.{SERVICE}"
HOST = f"handfast-{DEVICE_ID.lower()}.local."
HONEST = ("192.0.2.1", "2001:db8::1")


@pytest.fixture
async def device(lan: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Advertiser]:
    """A device announced at one end of a cable, with its window open."""
    monkeypatch.setattr(advertiser, "kernel_table", lan.device.table)
    monkeypatch.setattr(advertiser, "ANNOUNCEMENT_REPEAT_SECONDS", 0.05)
    made = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=5684, pairing_port=5685, interfaces=None
    )
    with lan.device.inside():
        await made.start()
        await made.set_pairing(open=True, pairing_port=5685)
    await announced(made)
    yield made
    await made.close()


@asynccontextmanager
async def searching(lan: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Search]:
    monkeypatch.setattr(discovery, "kernel_table", lan.client.table)
    with lan.client.inside():
        search = discovery.searching()
        found = await search.__aenter__()
    try:
        yield found
    finally:
        await search.__aexit__(None, None, None)


async def until(holds: Callable[[], bool], send: Callable[[], object]) -> None:
    """Repeat `send` until the condition holds: a flooded socket drops datagrams."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not holds():
            send()
            await asyncio.sleep(0)


def registered(device: Advertiser) -> list[ServiceInfo]:
    """The service of the device, under its name and under the subtype."""
    return zeroconf_of(device).registry.async_get_service_infos()


async def query_device(neighbour: socket.socket, *, truncated: bool = False) -> bytes:
    """Query the device and return its answer, so that everything sent before has been processed."""
    loop = asyncio.get_running_loop()
    mark = f"id={DEVICE_ID}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((neighbour.getsockname()[0], 0))
        sock.setblocking(False)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                sock.sendto(query(SUBTYPE, known=[], truncated=truncated), GROUP)
                try:
                    async with asyncio.timeout(0.2):
                        heard = await loop.sock_recv(sock, 9000)
                except TimeoutError:
                    continue  # dropped in the flood
                if mark in heard:
                    return heard


# -------------------------------------------------------------------------- memory of the device


async def test_a_device_caches_only_its_own_records(lan: Any, device: Advertiser) -> None:
    """Ten thousand large records with a TTL of decades made python-zeroconf use 66 MiB."""
    with lan.client.inside(), mdns_sender("192.0.2.2") as neighbour:
        for number in range(FLOOD):
            fat = bytes([255]) * 8000
            forged: list[Record] = [
                (f"n{number}.local.", TXT, fat),
                *service_records(text_record(id=f"{number:08}"), instance=f"{number}.{SERVICE}"),
                (INSTANCE, TXT, txt(f"v={number}".encode())),  # under the device's own name
                (HOST, A, struct.pack("!I", number)),
            ]
            neighbour.send(packet(forged[:1], ttl=DECADES))
            neighbour.send(packet(forged[1:], ttl=DECADES))
            await asyncio.sleep(0)
        assert b"pm=1" in await query_device(neighbour)
    cache, infos = zeroconf_of(device).cache, registered(device)
    records = [record for name in cache.names() for record in cache.entries_with_name(name)]
    assert records, "its own records are kept, so that none is sent twice within a second"
    mine = {SUBTYPE, SERVICE, INSTANCE.lower(), HOST}
    assert {record.key for record in records} <= mine
    assert {bytes(one.text) for one in records if isinstance(one, mdns.DNSText)} <= {
        text for info in infos for text in (info.text, info.text.replace(b"pm=1", b"pm=0"))
    }
    assert not any(
        one.address[:2] == b"\0\0" for one in records if isinstance(one, mdns.DNSAddress)
    )
    assert max(record.ttl for record in records) <= MAX_TTL_SECONDS


async def test_the_ttl_of_an_echoed_record_is_capped(lan: Any, device: Advertiser) -> None:
    own = registered(device)[0]
    echo: list[Record] = [(INSTANCE, TXT, own.text), (SERVICE, PTR, name_bytes(INSTANCE))]
    cache = zeroconf_of(device).cache

    def echoed() -> bool:
        texts = cache.async_all_by_details(INSTANCE, TXT, 1)
        return any(not record.unique for record in texts)

    with lan.client.inside(), mdns_sender("192.0.2.2") as neighbour:
        await until(echoed, lambda: neighbour.send(packet(echo, ttl=DECADES)))
    assert {one.ttl for one in cache.async_all_by_details(INSTANCE, TXT, 1)} == {MAX_TTL_SECONDS}


async def test_a_device_keeps_no_question_history(lan: Any, device: Advertiser) -> None:
    """python-zeroconf kept each question of another class with up to 256 known answers: 350 MiB."""
    known: list[Record] = [(f"{number}.local.", PTR, b"\1x\0") for number in range(200)]
    with lan.client.inside(), mdns_sender("192.0.2.2") as neighbour:
        for number in range(FLOOD):
            neighbour.send(query(SUBTYPE, known=known, dns_class=1 + number))
            await asyncio.sleep(0)
        await query_device(neighbour)
    histories = [one for one in gc.get_objects() if isinstance(one, QuestionHistory)]
    assert zeroconf_of(device).question_history in histories
    assert [one._history for one in histories if one._history] == []


async def test_a_truncated_query_is_not_deferred(lan: Any, device: Advertiser) -> None:
    """python-zeroconf deferred queries with the TC bit: 16 from each of 512 addresses."""
    protocols = zeroconf_of(device).engine.protocols

    def is_seen(message: bytes) -> bool:
        return any(one.data is not None and one.data[12:] == message[12:] for one in protocols)

    for last in range(65, 75):
        lan.client.ip("addr", "add", f"192.0.2.{last}/32", "dev", "eth0")
        with lan.client.inside(), mdns_sender(f"192.0.2.{last}") as neighbour:
            message = query(SUBTYPE, known=[], dns_class=last, truncated=True)
            await until(partial(is_seen, message), partial(neighbour.send, message))
        assert [one._deferred for one in protocols if one._deferred] == []
    with lan.client.inside(), mdns_sender("192.0.2.2") as neighbour:
        await query_device(neighbour, truncated=True)


async def test_a_message_with_too_many_entries_is_not_parsed(lan: Any, device: Advertiser) -> None:
    pointer = b"\xc0\x0c" + struct.pack("!HH", PTR, 1)
    asked = name_bytes(SUBTYPE) + struct.pack("!HH", PTR, 1) + pointer * 1400
    many = struct.pack("!6H", 1, 0, 1401, 0, 0, 0) + asked
    few = struct.pack("!6H", 1, 0, 3, 0, 0, 0) + asked[: len(name_bytes(SUBTYPE)) + 4 + 12]
    protocols = zeroconf_of(device).engine.protocols

    def parsed() -> set[int]:
        return {len(data) for one in protocols for data in one._recent_packets}

    with lan.client.inside(), mdns_sender("192.0.2.2") as neighbour:
        neighbour.send(many)
        await until(lambda: len(few) in parsed(), lambda: neighbour.send(few))
        assert len(many) not in parsed()
        neighbour.send(many)
        neighbour.send(b"")
        neighbour.send(b"\0" * 11)
        await query_device(neighbour)
    assert len(many) not in parsed()


# -------------------------------------------------------------------------- memory of the client


async def test_a_search_caches_only_records_of_its_services(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.05)
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), mdns_sender("192.0.2.1") as neighbour:
            for number in range(2 * MAX_ADVERTS):
                instance = f"x{number}.{SERVICE}"
                forged: list[Record] = [
                    (f"n{number}.local.", TXT, bytes([255]) * 500),
                    ("_services._dns-sd._udp.local.", PTR, name_bytes(f"_t{number}._udp.local.")),
                    (instance, TXT, bytes([255]) * (mdns_fat := 2000)),
                    *service_records(
                        text_record(name=f"n{number}"), instance=instance, host=f"h{number}.local."
                    ),
                    *(
                        (instance, SRV, struct.pack("!HHH", 0, 0, port) + name_bytes("evil.local."))
                        for port in range(1, 40)
                    ),
                    *(
                        (f"h{number}.local.", A, struct.pack("!I", 0x0A000000 + 256 * number + low))
                        for low in range(50)
                    ),
                ]
                neighbour.send(packet(forged, ttl=DECADES))
                await asyncio.sleep(0)
                while not search.changes.empty():
                    search.changes.get_nowait()
            last = service_records(text_record(name="last"), address="192.0.2.1")
            await until(lambda: not search.changes.empty(), lambda: neighbour.send(packet(last)))
        assert mdns_fat > MAX_TXT_BYTES
        cache = zeroconf_of(search).cache
        records = [one for name in cache.names() for one in cache.entries_with_name(name)]
        assert len(search.records.names) == MAX_ADVERTS
        assert len(search.found) <= MAX_ADVERTS
        assert {one.key for one in records if isinstance(one, mdns.DNSPointer)} == {SUBTYPE}
        assert max(len(one.text) for one in records if isinstance(one, mdns.DNSText)) <= 1024
        assert {
            one.key for one in records if isinstance(one, mdns.DNSText | mdns.DNSService)
        } <= set(search.records.names)
        assert max(one.ttl for one in records) <= MAX_TTL_SECONDS
        for name in cache.names():
            if name == SUBTYPE:
                continue
            of_kind: dict[int, int] = {}
            for record in cache.entries_with_name(name):
                of_kind[record.type] = of_kind.get(record.type, 0) + 1
            assert of_kind.get(TXT, 0) <= MAX_ALIKE_RECORDS
            assert of_kind.get(SRV, 0) <= MAX_ALIKE_RECORDS
            assert of_kind.get(A, 0) <= MAX_HOST_ADDRESSES
        listening = zeroconf_of(search).record_manager.listeners
        assert len(listening) <= 1 + MAX_RESOLVING


# ------------------------------------------------------------ attempts to hide a device


def forgeries(**changes: str) -> list[bytes]:
    """A forged `pm=0` for the device's own instance, in six forms."""
    closed = text_record(pm="0", **changes)
    forged_service = service_records(
        closed, instance=INSTANCE, host="evil.local.", address="192.0.2.66"
    )
    same_host = service_records(closed, instance=INSTANCE, host=HOST, address="192.0.2.66")
    crowd: list[Record] = [(HOST, A, bytes([10, 0, 0, last])) for last in range(1, 33)]
    return [
        packet(forged_service, flush=True, ttl=DECADES),
        packet(same_host, flush=True, ttl=DECADES),
        packet([(INSTANCE, TXT, closed)], flush=True),
        packet([(INSTANCE, TXT, closed)], ttl=DECADES),
        packet([(SUBTYPE, PTR, name_bytes(INSTANCE))], ttl=0),  # a goodbye
        packet([*same_host, *crowd], ttl=DECADES),
    ]


def is_honest(advert: Advert) -> bool:
    return (
        advert.is_present
        and advert.pairing_open
        and advert.addresses[:2] == HONEST
        and (advert.port, advert.pairing_port, advert.host) == (5684, 5685, HOST)
    )


@pytest.mark.parametrize("form", range(len(forgeries())))
@pytest.mark.usefixtures("device")
async def test_a_forged_advert_of_a_closed_window_does_not_hide_an_open_one(
    lan: Any, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    """The forgery is sent right before the search begins, and again after each change."""
    monkeypatch.setattr(discovery, "kernel_table", lan.client.table)
    forged = forgeries()[form]
    with lan.device.inside():
        neighbour = mdns_sender("192.0.2.1")
    heard = watch()
    with neighbour:
        with lan.client.inside():
            beginning = asyncio.ensure_future(anext(heard))
            await asyncio.sleep(0)  # creates its sockets
        neighbour.send(forged)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            advert = await beginning
            while not is_honest(advert):
                neighbour.send(forged)
                advert = await anext(heard)
    await heard.aclose()
    assert advert.instance == INSTANCE.lower()


@pytest.mark.usefixtures("device")
async def test_a_forged_pointer_does_not_suppress_the_answer_of_the_device(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 6762 §7.1: a known answer in our question would suppress the device's answer."""
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), mdns_sender("192.0.2.1") as neighbour:
            forged_service = packet(
                service_records(
                    text_record(), instance=INSTANCE, host="evil.local.", address="192.0.2.66"
                )
            )
            await until(lambda: not search.changes.empty(), lambda: neighbour.send(forged_service))
        assert search.changes.get_nowait().host == "evil.local."
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_honest(await search.changes.get()):
                pass


@pytest.mark.usefixtures("device")
async def test_all_adverts_with_one_device_id_are_reported(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each instance is listed separately and reported once."""
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), mdns_sender("192.0.2.1") as neighbour:
            forged = [
                packet(
                    service_records(
                        text_record(name=f"kitchen {number}"),
                        instance=f"k{number}.{SERVICE}",
                        host=f"k{number}.local.",
                        address=f"192.0.2.{100 + number}",
                    )
                )
                for number in range(20)
            ]

            for _ in range(2):
                for one in forged:
                    neighbour.send(one)
            reported: list[Advert] = []
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while len(search.found) < 21:
                    reported.append(await search.changes.get())
        reported += [search.changes.get_nowait() for _ in range(search.changes.qsize())]
        found = [advert for on_links in search.found.values() for advert in on_links.values()]
        assert {advert.device_id for advert in found} == {DEVICE_ID}
        assert sum(map(is_honest, found)) == 1
        assert len([one for one in reported if one.host != HOST]) == 20


# ------------------------------------------------------------ two devices with one host name


async def test_digits_of_a_start_count_only_with_addresses_of_the_same_datagram(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A responder may send its TXT record and its addresses in separate datagrams."""
    texts = [text_record(st=f"0000000{number}") for number in (1, 2)]
    whole = [
        service_records(text, address=f"192.0.2.{number}")
        for number, text in zip((1, 3), texts, strict=True)
    ]
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), mdns_sender("192.0.2.1") as neighbour:
            again = service_records(text_record(st="00000004"), address="192.0.2.3")
            for records in (*whole, whole[0][:1], whole[1][1:], again):
                neighbour.send(packet(records))
            async with asyncio.timeout(TIMEOUT_SECONDS):
                heard = [await search.changes.get() for _ in range(5)]
    assert [(one.start, len(one.addresses)) for one in heard] == [
        ("00000001", 1),
        ("00000002", 1),
        ("", 2),
        ("", 1),
        ("00000004", 1),  # with nothing else that is new
    ]
