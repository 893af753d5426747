"""UDP sockets with an inbox, and IP packets with any source address."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.linux_socket import open_bound, open_socket
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

    def own(
        self,
        sock: socket.socket,
        inbox: Inbox,
        *,
        handler: Callable[[Datagram], None] | None = None,
    ) -> UdpSocket:
        """Use a socket of the test, for example one that fails."""
        made = UdpSocket(
            sock,
            peer=None,
            loop=asyncio.get_running_loop(),
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


class _RecordingSocket(socket.socket):
    """A connected socket that keeps what is sent with it."""

    def __init__(self, *, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.sent: list[bytes] = []

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.sent.append(bytes(data))
        return super().send(data, flags)


class ClientNet:
    """The `net` of a client with one IPv4 connection; a test can send with its socket."""

    def __init__(self) -> None:
        self._sockets: list[_RecordingSocket] = []

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> UdpSocket:
        made = _RecordingSocket(fileno=open_socket(socket.AF_INET).detach())
        made.connect((to.host, to.port))
        self._sockets.append(made)
        loop = asyncio.get_running_loop()
        return UdpSocket(made, peer=to, loop=loop, on_datagram=on_datagram, on_error=on_error)

    def bind(self, *_args: object, **_options: object) -> UdpSocket:
        raise AssertionError("a client binds no socket")

    @property
    def _socket(self) -> _RecordingSocket:
        [one] = self._sockets
        return one

    @property
    def sent(self) -> list[bytes]:
        """The datagrams that the client has sent."""
        return self._socket.sent

    def send(self, data: bytes) -> None:
        """Send a datagram from the client's address."""
        self._socket.send(data)

    def send_with(self, *, hop_limit: int) -> None:
        """Set the hop limit of all datagrams from now on."""
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)


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


def icmp_packet(source: str, destination: str, message: bytes) -> bytes:
    """An IPv4 packet with an ICMP message whose checksum is still zero."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
    size = 20 + len(message)
    head = struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0, 255, socket.IPPROTO_ICMP, 0)
    return head[:10] + struct.pack("!H", _checksum(head + ends)) + ends + message


def icmp6_packet(source: str, destination: str, message: bytes) -> bytes:
    """An IPv6 packet with an ICMPv6 message whose checksum is still zero."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(
        socket.AF_INET6, destination
    )
    size = len(message)
    checksum = _checksum(ends + struct.pack("!II", size, socket.IPPROTO_ICMPV6) + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    return struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_ICMPV6, 255) + ends + message


def _checksum(data: bytes) -> int:
    total: int = sum(
        struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2))
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class ScriptedSocket(socket.socket):
    """A socket bound to loopback whose first reads return or raise what a test says."""

    def __init__(self, reads: Sequence[object]) -> None:
        super().__init__(fileno=open_bound("127.0.0.1", 0).detach())
        self._reads = [*reads]

    def recvmsg_into(self, *arguments: Any) -> Any:
        if not self._reads:
            return super().recvmsg_into(*arguments)
        read = self._reads.pop(0)
        if isinstance(read, OSError):
            raise read
        return read
