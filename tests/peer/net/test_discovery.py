"""mDNS announcements between real processes, their parsing, and address changes."""

import asyncio
import random
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest

from peer.errors import Malformed, PeerError, Unreachable
from peer.limits import MAX_ADVERT_ADDRESSES
from peer.net import advertiser, discovery, link_follower, mdns
from peer.net.advertiser import Advertiser
from peer.net.adverts import (
    SERVICE,
    SUBTYPE,
    Advert,
    Vantage,
    advert_untrusted,
    instance_label,
    txt_untrusted,
)
from peer.net.discovery import discover, watch
from tests.kit.mdns import (
    question,
    text_record,
    txt,
)
from tests.kit.waiting import TIMEOUT_SECONDS

LOOPBACK = ["127.0.0.1"]
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

DEVICE = """
import asyncio, sys
from peer.net.advertiser import Advertiser

async def main():
    device = Advertiser(
        name=sys.argv[1], device_id=sys.argv[2], port=5684, pairing_port=5685,
        interfaces=["127.0.0.1"],
    )
    await device.start()
    print("started", flush=True)
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin
    )
    while word := (await words.readline()).strip():
        await device.set_pairing(open=word == b"open", pairing_port=5685)
    await device.close()

asyncio.run(main())
"""


def new_id() -> str:
    """A random device ID, since other devices may be announced on this loopback too."""
    return "".join(secrets.choice(ALPHABET) for _ in range(8))


class Process:
    """A device in another process, which is controlled through its standard input."""

    def __init__(self, device_id: str, process: asyncio.subprocess.Process) -> None:
        self.device_id = device_id
        self.process = process

    def send_line(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@asynccontextmanager
async def device_process(name: str) -> AsyncIterator[Process]:
    device_id = new_id()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DEVICE, name, device_id),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), TIMEOUT_SECONDS)
        assert line == b"started\n"
        made = Process(device_id, process)
        yield made
    finally:
        made.end()
        assert await asyncio.wait_for(process.wait(), TIMEOUT_SECONDS) == 0


async def next_of(adverts: AsyncIterator[Advert], device_id: str) -> Advert:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async for advert in adverts:
            if advert.device_id == device_id:
                return advert
    raise AssertionError("the watch ended without the advert")


async def found_by_search(device_id: str) -> Advert:
    """The one announcement of a device; a search is repeated if it was too short."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            found = await discover(timeout=0.5, interfaces=LOOPBACK)
            if adverts := [advert for advert in found if advert.device_id == device_id]:
                (advert,) = adverts
                return advert


# ------------------------------------------------------------------ two processes, real packets


async def test_a_device_is_found_by_another_process() -> None:
    async with device_process("Küche 1.OG") as device:
        found = await found_by_search(device.device_id)
    assert found == Advert(
        device_id=device.device_id,
        name="Küche 1.OG",
        addresses=("127.0.0.1",),
        port=5684,
        pairing_port=5685,
        pairing_open=False,
        version=1,
        host=f"handfast-{device.device_id.lower()}.local.",
    )


async def test_a_watch_reports_window_changes_and_the_goodbye() -> None:
    async with (
        device_process("kitchen") as device,
        aclosing(watch(interfaces=LOOPBACK)) as heard,
    ):
        assert not (await next_of(heard, device.device_id)).pairing_open
        for word in ("open", "close", "open"):  # three times within a second
            device.send_line(word)
            advert = await next_of(heard, device.device_id)
            assert (advert.pairing_open, advert.is_present) == (word == "open", True)
        device.end()
        gone = await next_of(heard, device.device_id)
        assert (gone.is_present, gone.name) == (False, "kitchen")


async def test_a_device_is_not_found_after_its_goodbye() -> None:
    async with device_process("kitchen") as device:
        pass
    found = await discover(timeout=0.5, interfaces=LOOPBACK)
    assert device.device_id not in {advert.device_id for advert in found}


def mdns_listener() -> socket.socket:
    """A socket that receives the mDNS messages on the loopback, without the library under test."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind(("224.0.0.251", 5353))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    sock.setblocking(False)
    return sock


async def test_the_window_state_is_announced_repeatedly_and_consistently() -> None:
    """python-zeroconf drops a repeat within a second, so one repeat is sent later."""
    with mdns_listener() as listener:
        async with device_process("kitchen") as device, asyncio.timeout(TIMEOUT_SECONDS):
            device.send_line("open")
            while await next_window_state(listener, device.device_id) != b"1":
                pass
            device.send_line("close")
            while await next_window_state(listener, device.device_id) != b"0":
                pass
            # two more within half a second, one a second later, and none with the old state
            assert [await next_window_state(listener, device.device_id) for _ in range(3)] == [
                b"0"
            ] * 3


async def next_window_state(listener: socket.socket, device_id: str) -> bytes:
    """The `pm` value of the device's next announcement of the subtype."""
    marks = (b"\x09_handfast", f"id={device_id}".encode(), b"pm=")
    while True:
        heard = await asyncio.get_running_loop().sock_recv(listener, 9000)
        if all(mark in heard for mark in marks):
            return heard.partition(b"pm=")[2][:1]


def ask(name: str, expected: bytes) -> bytes:
    """Ask all responders on the loopback, as a one-shot querier does (RFC 6762 §5.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.settimeout(TIMEOUT_SECONDS)
        sock.sendto(question(name), ("224.0.0.251", 5353))
        while expected not in (answer := sock.recv(9000)):  # others may answer too
            pass
        return answer


@pytest.mark.parametrize("name", [SERVICE, SUBTYPE])
async def test_other_mdns_queriers_find_the_type_and_the_subtype(name: str) -> None:
    async with device_process("kitchen") as device:
        instance = instance_label("kitchen", device.device_id).encode()
        answer = await asyncio.to_thread(ask, name, bytes([len(instance)]) + instance)
    assert b"\x04pm=0" in answer
    assert f"\x0bid={device.device_id}".encode() in answer


async def test_other_mdns_queriers_find_our_type_among_all_types() -> None:
    async with device_process("kitchen"):
        assert await asyncio.to_thread(ask, "_services._dns-sd._udp.local.", b"\x06_coaps")


# ------------------------------------------------------------------------- address changes


@pytest.mark.needs_root
async def test_address_changes_are_announced(lan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_follower, "ADDRESS_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(advertiser, "kernel_table", lan.device.table)
    device_id = new_id()
    device = Advertiser(
        name="kitchen", device_id=device_id, port=5684, pairing_port=5685, interfaces=None
    )
    with lan.device.inside():
        await device.start()
    monkeypatch.setattr(discovery, "kernel_table", lan.client.table)
    try:
        heard = watch()
        with lan.client.inside():
            advert = await next_of(heard, device_id)
            while len(advert.addresses) < 3:  # addresses may arrive one by one
                advert = await next_of(heard, device_id)
        assert advert.addresses[:2] == ("192.0.2.1", "2001:db8::1")
        assert advert.addresses[2].partition("%")[0] == "fe80::1"
        lan.device.ip("addr", "add", "192.0.2.77/24", "dev", "eth0")
        with lan.device.inside():  # the device makes a socket for the new address
            while "192.0.2.77" not in advert.addresses:
                advert = await next_of(heard, device_id)
        await heard.aclose()
    finally:
        await device.close()


@pytest.mark.needs_root
async def test_a_device_without_a_network_is_announced_once_there_is_one(
    namespaces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_follower, "ADDRESS_SETTLE_SECONDS", 0.05)
    here, there = namespaces.add(), namespaces.add()
    namespaces.join(here, there)
    there.ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
    monkeypatch.setattr(advertiser, "kernel_table", here.table)
    monkeypatch.setattr(discovery, "kernel_table", here.table)
    device_id = new_id()
    device = Advertiser(
        name="kitchen", device_id=device_id, port=5684, pairing_port=5685, interfaces=["eth0"]
    )
    with here.inside():
        await device.start()
        with pytest.raises(Unreachable) as caught:
            await discover(timeout=0)
        assert caught.value.advice
    await device.set_pairing(open=True, pairing_port=7777)
    monkeypatch.setattr(discovery, "kernel_table", there.table)
    heard = watch(interfaces=["192.0.2.2"])
    with there.inside():
        first = asyncio.create_task(next_of(heard, device_id))
        await asyncio.sleep(0)  # creates its sockets
    with here.inside():
        here.ip("addr", "add", "192.0.2.1/24", "dev", "eth0")
        advert = await first
    assert advert.addresses == ("192.0.2.1",)
    assert (advert.pairing_open, advert.pairing_port) == (True, 7777)
    await heard.aclose()
    await device.close()
    await device.close()
    await device.set_pairing(open=False, pairing_port=0)  # after `close`: no error


async def test_an_unavailable_mdns_port_is_reported_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Address already in use")

    monkeypatch.setattr(mdns, "LinkZeroconf", refuse)
    with pytest.raises(PeerError, match="already in use") as caught:
        await discover(timeout=0, interfaces=LOOPBACK)
    assert "5353" in caught.value.advice


async def test_an_interface_that_does_not_exist_is_named() -> None:
    with pytest.raises(PeerError, match="matches no-such-link0"):
        await discover(timeout=0, interfaces=["no-such-link0"])


# ------------------------------------------------------------------- adverts of unknown origin


def parse(
    text: bytes,
    *,
    port: int = 5684,
    addresses: tuple[str, ...] = ("192.0.2.1",),
    with_loopback: bool = False,
) -> Advert:
    return advert_untrusted(
        host="h.local.",
        port=port,
        addresses=addresses,
        text=text,
        vantage=Vantage(with_loopback=with_loopback),
    )


def test_a_valid_advert_is_parsed() -> None:
    expected = Advert("7F3K2M1Q", "kitchen", ("192.0.2.1",), 5684, 5685, True, 1, "h.local.")
    assert parse(text_record()) == expected
    assert parse(text_record(id="7f3k2m1q")) == expected
    assert parse(text_record() + txt(b"new=thing", b"flag", b"", b"=x", b"\xff=x")) == expected
    assert (
        parse(text_record() + txt(b"name=impostor", b"NAME=impostor")) == expected
    )  # the first entry counts (RFC 6763 §6.4)
    assert parse(text_record(v="2")).version == 2
    closed = parse(text_record(pm=None, pp=None))
    assert (closed.pairing_open, closed.pairing_port) == (False, 0)
    assert parse(text_record(name="\x1b[2J\u202e")).name == "\x1b[2J\u202e"  # the output escapes it


@pytest.mark.parametrize(
    "text",
    [
        b"",
        text_record() + b"\x05k=v",  # cut off
        text_record() + b"\xff",
        b"\xff",
        text_record(v=None),
        text_record(v="0"),
        text_record(v="-1"),
        text_record(v="1.0"),
        text_record(v="999999"),
        text_record(v="\u0661"),  # a digit, but not in ASCII
        text_record(id=None),
        text_record(id=""),
        text_record(id="7F3K2M1"),
        text_record(id="7F3K2M1QX"),
        text_record(id="7F3K2M1U"),  # not in Crockford's alphabet
        text_record(id="../../et"),
        text_record(name=None),
        text_record(name=""),
        text_record(name="x" * 65),
        text_record(pm="2"),
        text_record(pm="true"),
        text_record(pm=""),
        text_record(pp="0"),
        text_record(pp="65536"),
        text_record(pp="x"),
        text_record(pp=""),
        text_record() + txt(*(b"k%d=1" % number for number in range(64))),
        text_record() + txt(*(bytes(200) for _ in range(9))),
        txt(b"v=1", b"id=7F3K2M1Q", b"name=\xff\xfe"),
        txt(b"v=\xff", b"id=7F3K2M1Q", b"name=kitchen"),
    ],
)
def test_an_invalid_txt_record_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse(text)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_malformed(port: int) -> None:
    with pytest.raises(Malformed):
        parse(text_record(), port=port)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "127.0.0.1", "::1", "x"]
)
def test_unusable_and_loopback_addresses_are_dropped(address: str) -> None:
    assert parse(text_record(), addresses=(address, "fe80::1%7")).addresses == ("fe80::1%7",)
    with pytest.raises(Malformed):
        parse(text_record(), addresses=(address,))


def test_loopback_addresses_are_kept_when_searching_on_the_loopback() -> None:
    assert parse(text_record(), addresses=("127.0.0.1",), with_loopback=True).addresses


def test_the_addresses_of_an_advert_are_bounded() -> None:
    many = tuple(f"192.0.2.{number}" for number in range(200))
    assert len(parse(text_record(), addresses=many).addresses) == MAX_ADVERT_ADDRESSES


@pytest.mark.parametrize("seed", range(10))
def test_any_bytes_are_parsed_or_malformed(seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(100):
        data = bytearray(text_record())
        for _ in range(choose.randrange(1, 6)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        with suppress(Malformed):
            parse(bytes(data))
        with suppress(Malformed):
            txt_untrusted(choose.randbytes(choose.randrange(1200)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kitchen", "kitchen 7F3K2M1Q"),
        ("a.b\nc", "a b c 7F3K2M1Q"),
        ("\u202e", "7F3K2M1Q"),
        ("", "7F3K2M1Q"),
        ("ü" * 64, "ü" * 27 + " 7F3K2M1Q"),
    ],
)
def test_the_instance_name_fits_into_a_dns_label(name: str, expected: str) -> None:
    label = instance_label(name, "7F3K2M1Q")
    assert label == expected
    assert len(label.encode()) <= 63


async def test_a_name_of_64_four_byte_characters_is_shortened() -> None:
    async with device_process("𝒳" * 64) as device:
        advert = await found_by_search(device.device_id)
    assert advert.name == "𝒳" * 62  # the part that fits into a TXT entry
