"""A ClientHello without a valid cookie costs no memory, from however many sources it comes."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.identity import Identity
from peer.limits import LOCALITY_VERDICTS
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import TABLE
from tests.kit.internals import deliver, half_open, rated_sources, sockets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.serve import Serve, Served

WARM, FLOOD = 2_000, 4_000
COOKIE_AT = 13 + 12 + 2 + 32 + 1  # after the headers, the version, the random and an empty ID
RESIDENT_BYTES = 1 << 20  # a session has 70 KiB: it would be 270 MiB


def hello_of(client: Identity) -> bytes:
    session = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = session.take_datagrams()
    return hello


def with_cookie(hello: bytes, cookie: bytes) -> bytes:
    """The same ClientHello with a cookie, which no device has made."""
    grown = len(cookie)
    lengths = (
        (hello[11:13], 2),  # of the record, of the message and of its only fragment
        (hello[14:17], 3),
        (hello[22:25], 3),
    )
    record, whole, fragment = (
        (int.from_bytes(old, "big") + grown).to_bytes(size, "big") for old, size in lengths
    )
    rest = hello[COOKIE_AT + 1 :]
    head = hello[:11] + record + hello[13:14] + whole + hello[17:22] + fragment
    return head + hello[25:COOKIE_AT] + bytes([grown]) + cookie + rest


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def flood(served: Served, hello: bytes, count: int) -> None:
    """Deliver hellos of many hosts and ports of loopback, where no one receives the answers."""
    for number in range(count):
        host = f"127.{number >> 8 & 255}.{number & 255}.9"
        deliver(served.server, Datagram(hello, Address(host, 9 + number % 7), "127.0.0.1", 1, 255))


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def objects() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects())


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("cookie", [b"", bytes(32), bytes(255)], ids=["none", "wrong", "long"])
async def test_a_flood_of_hellos_takes_no_memory(
    serve: Serve, client: Identity, cookie: bytes
) -> None:
    # The parser of the kernel's tables leaves cycles, and a slow machine reads them again.
    locality = Locality(mode=LocalMode.COMPAT, allow_loopback=True, table=lambda: TABLE)
    served = await serve(locality=locality)
    hello = hello_of(client)
    if cookie:
        hello = with_cookie(hello, cookie)
    flood(served, hello, WARM)
    before, size = objects(), resident()
    flood(served, hello, FLOOD)
    more_bytes = resident() - size  # before another list of all objects is made
    more = objects() - before
    grown = {kind: more[kind] for kind in more if more[kind] > LOCALITY_VERDICTS}
    assert not grown
    assert more_bytes < RESIDENT_BYTES
    assert not half_open(served.server)
    assert not rated_sources(served.server)
    (bound,) = sockets_of(served.server)
    assert bound.counters["sent"] == WARM + FLOOD, "each was answered by a HelloVerifyRequest"
