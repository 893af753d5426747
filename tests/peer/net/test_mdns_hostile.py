"""A neighbour that sends forged mDNS over a real link, against the real responder and searcher.

Each test is in namespaces of its own, and each was seen to fail with its defence taken out.
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
from zeroconf import Zeroconf
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
from peer.net.discovery import watch
from tests.kit.mdns import (
    DECADES,
    GROUP,
    PTR,
    SRV,
    TXT,
    A,
    Record,
    name_bytes,
    packet,
    query,
    service_records,
    shouting,
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
    """A device that announces itself on one end of a cable, with its window open."""
    monkeypatch.setattr(advertiser, "kernel_table", lan.device.table)
    monkeypatch.setattr(advertiser, "ANNOUNCEMENT_REPEAT_SECONDS", 0.05)
    made = Advertiser(
        name="kitchen", device_id=DEVICE_ID, port=5684, pairing_port=5685, interfaces=None
    )
    with lan.device.inside():
        await made.start()
        await made.set_pairing(open=True, pairing_port=5685)
    await asyncio.gather(
        *made._broadcasts, return_exceptions=True
    )  # from now on it speaks if it is asked
    yield made
    await made.close()


@asynccontextmanager
async def searching(lan: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(discovery, "kernel_table", lan.client.table)
    with lan.client.inside():
        search = discovery._searching(None)
        found = await search.__aenter__()
    try:
        yield found
    finally:
        await search.__aexit__(None, None, None)


async def until(holds: Callable[[], bool], send: Callable[[], object]) -> None:
    """Wait for a fact, and send on: a flooded socket drops datagrams."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not holds():
            send()
            await asyncio.sleep(0)


def zeroconf_of(made: Advertiser) -> Zeroconf:
    assert made._zeroconf is not None
    return made._zeroconf.zeroconf


async def answered(neighbour: socket.socket, *, goes_on: bool = False) -> bytes:
    """A device's answer to a question asked now: all that was sent before was looked at."""
    loop = asyncio.get_running_loop()
    mark = f"id={DEVICE_ID}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((neighbour.getsockname()[0], 0))
        sock.setblocking(False)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                sock.sendto(query(SUBTYPE, known=[], goes_on=goes_on), GROUP)
                try:
                    async with asyncio.timeout(0.2):
                        heard = await loop.sock_recv(sock, 9000)
                except TimeoutError:
                    continue  # dropped in the flood
                if mark in heard:
                    return heard


# ------------------------------------------------------------------ what a device is made to keep


async def test_a_device_keeps_no_record_of_others(lan: Any, device: Advertiser) -> None:
    """Ten thousand fat records for decades was what python-zeroconf took: 66 MiB."""
    with lan.client.inside(), shouting("192.0.2.2") as neighbour:
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
        assert b"pm=1" in await answered(neighbour)
    cache = zeroconf_of(device).cache
    records = [record for name in cache.names() for record in cache.entries_with_name(name)]
    assert records, "its own are needed: nothing is said twice in a second"
    mine = {SUBTYPE, SERVICE, INSTANCE.lower(), HOST}
    assert {record.key for record in records} <= mine
    assert {bytes(one.text) for one in records if isinstance(one, mdns.DNSText)} <= {
        info.text for info in device._infos()
    } | {info.text.replace(b"pm=1", b"pm=0") for info in device._infos()}
    assert not any(
        one.address[:2] == b"\0\0" for one in records if isinstance(one, mdns.DNSAddress)
    )
    assert max(record.ttl for record in records) <= MAX_TTL_SECONDS


async def test_its_own_words_heard_again_do_not_last_for_decades(
    lan: Any, device: Advertiser
) -> None:
    own = device._infos()[0]
    echo: list[Record] = [(INSTANCE, TXT, own.text), (SERVICE, PTR, name_bytes(INSTANCE))]
    cache = zeroconf_of(device).cache

    def echoed() -> bool:
        texts = cache.async_all_by_details(INSTANCE, TXT, 1)
        return any(not record.unique for record in texts)

    with lan.client.inside(), shouting("192.0.2.2") as neighbour:
        await until(echoed, lambda: neighbour.send(packet(echo, ttl=DECADES)))
    assert {one.ttl for one in cache.async_all_by_details(INSTANCE, TXT, 1)} == {MAX_TTL_SECONDS}


async def test_a_device_remembers_no_question(lan: Any, device: Advertiser) -> None:
    """Each question of another class was kept with up to 256 known answers: 350 MiB of 21 MB."""
    known: list[Record] = [(f"{number}.local.", PTR, b"\1x\0") for number in range(200)]
    with lan.client.inside(), shouting("192.0.2.2") as neighbour:
        for number in range(FLOOD):
            neighbour.send(query(SUBTYPE, known=known, dns_class=1 + number))
            await asyncio.sleep(0)
        await answered(neighbour)
    histories = [one for one in gc.get_objects() if isinstance(one, QuestionHistory)]
    assert zeroconf_of(device).question_history in histories
    assert [one._history for one in histories if one._history] == []


async def test_no_query_waits_for_the_rest_of_it(lan: Any, device: Advertiser) -> None:
    """With the TC bit it was kept whole for half a second, from 512 addresses 16 each."""
    protocols = zeroconf_of(device).engine.protocols

    def is_seen(message: bytes) -> bool:
        return any(one.data is not None and one.data[12:] == message[12:] for one in protocols)

    for last in range(65, 75):
        lan.client.ip("addr", "add", f"192.0.2.{last}/32", "dev", "eth0")
        with lan.client.inside(), shouting(f"192.0.2.{last}") as neighbour:
            message = query(SUBTYPE, known=[], dns_class=last, goes_on=True)
            await until(partial(is_seen, message), partial(neighbour.send, message))
        assert [one._deferred for one in protocols if one._deferred] == []
    with lan.client.inside(), shouting("192.0.2.2") as neighbour:
        await answered(neighbour, goes_on=True)


async def test_a_message_of_too_many_parts_is_not_even_parsed(lan: Any, device: Advertiser) -> None:
    pointer = b"\xc0\x0c" + struct.pack("!HH", PTR, 1)
    asked = name_bytes(SUBTYPE) + struct.pack("!HH", PTR, 1) + pointer * 1400
    many = struct.pack("!6H", 1, 0, 1401, 0, 0, 0) + asked
    few = struct.pack("!6H", 1, 0, 3, 0, 0, 0) + asked[: len(name_bytes(SUBTYPE)) + 4 + 12]
    protocols = zeroconf_of(device).engine.protocols

    def parsed() -> set[int]:
        return {len(data) for one in protocols for data in one._recent_packets}

    with lan.client.inside(), shouting("192.0.2.2") as neighbour:
        neighbour.send(many)
        await until(lambda: len(few) in parsed(), lambda: neighbour.send(few))
        assert len(many) not in parsed()
        neighbour.send(many)
        neighbour.send(b"")
        neighbour.send(b"\0" * 11)
        await answered(neighbour)
    assert len(many) not in parsed()


# ------------------------------------------------------------------ what a client is made to keep


async def test_a_search_keeps_what_belongs_to_its_services(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.05)
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), shouting("192.0.2.1") as neighbour:
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
                search.changes._queue.clear()
            last = service_records(text_record(name="last"), address="192.0.2.1")
            await until(lambda: not search.changes.empty(), lambda: neighbour.send(packet(last)))
        assert mdns_fat > MAX_TXT_BYTES
        cache = search._zeroconf.zeroconf.cache
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
        listening = search._zeroconf.zeroconf.record_manager.listeners
        assert len(listening) <= 1 + MAX_RESOLVING


# --------------------------------------------------------------- what hides a device from a client


def forgeries(**changes: str) -> list[bytes]:
    """One spoofed pm=0 under the device's own name, in all its forms; and other forgeries."""
    closed = text_record(pm="0", **changes)
    lies = service_records(closed, instance=INSTANCE, host="evil.local.", address="192.0.2.66")
    same_host = service_records(closed, instance=INSTANCE, host=HOST, address="192.0.2.66")
    crowd: list[Record] = [(HOST, A, bytes([10, 0, 0, last])) for last in range(1, 33)]
    return [
        packet(lies, flush=True, ttl=DECADES),
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
async def test_a_forged_closed_window_does_not_hide_the_open_one(
    lan: Any, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    """It is said right before the search begins, and again after everything that is heard."""
    monkeypatch.setattr(discovery, "kernel_table", lan.client.table)
    forged = forgeries()[form]
    with lan.device.inside():
        neighbour = shouting("192.0.2.1")
    heard = watch()
    with neighbour:
        with lan.client.inside():
            beginning = asyncio.ensure_future(anext(heard))
            await asyncio.sleep(0)  # its sockets are made
        neighbour.send(forged)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            advert = await beginning
            while not is_honest(advert):
                neighbour.send(forged)
                advert = await anext(heard)
    await heard.aclose()
    assert advert.instance == INSTANCE.lower()


@pytest.mark.usefixtures("device")
async def test_a_forged_pointer_does_not_silence_the_device(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a known answer in our question it would (RFC 6762 §7.1): the question has none."""
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), shouting("192.0.2.1") as neighbour:
            lies = packet(
                service_records(
                    text_record(), instance=INSTANCE, host="evil.local.", address="192.0.2.66"
                )
            )
            await until(lambda: not search.changes.empty(), lambda: neighbour.send(lies))
        assert search.changes.get_nowait().host == "evil.local."
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_honest(await search.changes.get()):
                pass


@pytest.mark.usefixtures("device")
async def test_many_adverts_of_one_id_are_all_told(
    lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand beside each other, and each is told once."""
    async with searching(lan, monkeypatch) as search:
        with lan.device.inside(), shouting("192.0.2.1") as neighbour:
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
            told: list[Advert] = []
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while len(search.found) < 21:
                    told.append(await search.changes.get())
        told += [search.changes.get_nowait() for _ in range(search.changes.qsize())]
        assert {advert.device_id for advert in search.found.values()} == {DEVICE_ID}
        assert sum(map(is_honest, search.found.values())) == 1
        assert len([one for one in told if one.host != HOST]) == 20
