"""How a socket reads: bounded batches, few reads without a datagram, and bounded memories."""

import asyncio
import socket
import struct
from typing import Any

from peer.limits import DATAGRAMS_PER_WAKE_UP, SINGLE_DATAGRAMS, SOCKET_MEMORIES
from peer.net import linux_socket
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.linux_socket import open_bound
from tests.kit.sockets import ScriptedSocket


async def test_a_flood_does_not_block_the_event_loop(sockets: Any, inbox: Any) -> None:
    seen_by_others: list[int] = []
    loop = asyncio.get_running_loop()

    def handler(datagram: Datagram) -> None:
        if device.counters["received"] == 1:
            loop.call_soon(lambda: seen_by_others.append(device.counters["received"]))
        inbox.datagrams.put_nowait(datagram)

    device = sockets.bind("127.0.0.1", inbox, handler=handler)
    client = sockets.connect(device.local_address, inbox)
    total = DATAGRAMS_PER_WAKE_UP * 2 + 1
    assert all(client.send(b"x", device.local_address) for _ in range(total))
    for _ in range(total):
        await inbox.datagram()
    assert seen_by_others == [DATAGRAMS_PER_WAKE_UP]


class CountedReads(socket.socket):
    """A socket bound to loopback that counts the reads that find nothing."""

    def __init__(self) -> None:
        super().__init__(fileno=open_bound("127.0.0.1", 0).detach())
        self.empty = 0

    def recvmsg_into(self, *arguments: Any) -> Any:
        try:
            return super().recvmsg_into(*arguments)
        except BlockingIOError:
            self.empty += 1
            raise


async def test_single_datagrams_cost_few_reads_that_find_nothing_and_a_burst_is_read(
    sockets: Any, inbox: Any
) -> None:
    reads = CountedReads()
    device = sockets.own(reads, inbox)
    client = sockets.connect(device.local_address, inbox)
    for _ in range(40):
        client.send(b"x", device.local_address)
        await inbox.datagram()
    assert reads.empty <= 1 + 40 // SINGLE_DATAGRAMS
    burst = 4 * DATAGRAMS_PER_WAKE_UP
    for _ in range(burst):
        client.send(b"x", device.local_address)
    for _ in range(burst):
        await inbox.datagram()
    assert device.counters["received"] == 40 + burst


async def test_strangers_do_not_make_the_socket_remember_more_than_its_bound(
    sockets: Any, inbox: Any
) -> None:
    names = [(f"198.51.{n // 250}.{n % 250 + 1}", 5) for n in range(SOCKET_MEMORIES * 2)]
    ways = [[(0, 2, struct.pack("@i", hops))] for hops in range(len(names))]
    reads = [(1, way, 0, name) for way, name in zip(ways, names, strict=True)]
    device = sockets.own(ScriptedSocket(reads), inbox)
    client = sockets.connect(device.local_address, inbox)
    assert client.send(b"makes the socket readable", device.local_address)
    for number, name in enumerate(names):
        found = await inbox.datagram()
        assert (found.source, found.hop_limit) == (Address(*name), number)
        device.send(b"answer", found.source, source="127.0.0.1", ifindex=number)
    for memory in (linux_socket.address_of, linux_socket.arrival, linux_socket.departure):
        assert memory.cache_info().currsize <= SOCKET_MEMORIES
        assert memory.cache_info().misses >= len(names), "each was computed for its own bytes"
