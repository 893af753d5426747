"""UDP sockets with an inbox, and IP packets with any source address."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.udp import UdpSocket
from tests.kit.waiting import TIMEOUT_SECONDS


@dataclass
class Inbox:
    """Receives the datagrams and errors of a socket under test."""

    datagrams: asyncio.Queue[Datagram] = field(default_factory=asyncio.Queue)
    errors: asyncio.Queue[OSError] = field(default_factory=asyncio.Queue)

    async def datagram(self) -> Datagram:
        return await asyncio.wait_for(self.datagrams.get(), TIMEOUT_SECONDS)

    async def error(self) -> OSError:
        return await asyncio.wait_for(self.errors.get(), TIMEOUT_SECONDS)


@dataclass(frozen=True)
class Open:
    """Makes sockets that are closed with the test."""

    made: list[UdpSocket]

    def bind(
        self,
        host: str,
        inbox: Inbox,
        *,
        port: int = 0,
        handler: Callable[[Datagram], None] | None = None,
    ) -> UdpSocket:
        made = UdpSocket.bind(
            host,
            port,
            on_datagram=handler or inbox.datagrams.put_nowait,
            on_error=inbox.errors.put_nowait,
        )
        self.made.append(made)
        return made

    def connect(self, to: Address, inbox: Inbox) -> UdpSocket:
        made = UdpSocket.connect(
            to, on_datagram=inbox.datagrams.put_nowait, on_error=inbox.errors.put_nowait
        )
        self.made.append(made)
        return made


def udp_packet(source: str, destination: str, port: int, *, hop_limit: int = 255) -> bytes:
    """An IP packet that contains a small UDP datagram, with any source address."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    payload = b"spoof"
    size = 8 + len(payload)
    udp = struct.pack("!HHHH", 4242, port, size, 0)
    pseudo = ends + struct.pack("!II", size, socket.IPPROTO_UDP)
    udp = udp[:6] + struct.pack("!H", _checksum(pseudo + udp + payload)) + payload
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_UDP, hop_limit) + ends + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 1, 0, hop_limit, socket.IPPROTO_UDP, 0)
    return head[:10] + struct.pack("!H", _checksum(head + ends)) + ends + udp


def _checksum(data: bytes) -> int:
    total: int = sum(
        struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2))
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
