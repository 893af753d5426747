"""Namespaces with real interfaces, packets by hand, and sockets with an inbox."""

import asyncio
import fcntl
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyroute2 import netns

from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import InterfaceTable, kernel_table
from peer.net.udp import UdpSocket

PATIENCE = 10.0
"""Seconds until something that must come counts as lost."""


DEVICE_MAC = "02:00:00:00:00:01"


@dataclass
class Inbox:
    """Where a socket under test puts what it gets."""

    datagrams: asyncio.Queue[Datagram] = field(default_factory=asyncio.Queue)
    errors: asyncio.Queue[OSError] = field(default_factory=asyncio.Queue)

    async def datagram(self) -> Datagram:
        return await asyncio.wait_for(self.datagrams.get(), PATIENCE)

    async def error(self) -> OSError:
        return await asyncio.wait_for(self.errors.get(), PATIENCE)


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


@pytest.fixture
def sockets() -> Iterator[Open]:
    opened = Open([])
    yield opened
    for made in opened.made:
        made.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def tell(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


@dataclass(frozen=True)
class Namespace:
    """A network namespace. A socket that is opened `inside` stays in it."""

    name: str

    def ip(self, *arguments: str) -> None:
        tell("ip", "-n", self.name, *arguments)

    def run(self, *command: str) -> None:
        tell("ip", "netns", "exec", self.name, *command)

    @contextmanager
    def inside(self) -> Iterator[None]:
        netns.pushns(self.name)
        try:
            yield
        finally:
            netns.popns()

    def table(self) -> InterfaceTable:
        with self.inside():
            return kernel_table()

    def index(self, interface: str) -> int:
        with self.inside():
            return socket.if_nametoindex(interface)

    def sysctl(self, **values: int) -> None:
        with self.inside():
            for name, value in values.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(str(value))

    @contextmanager
    def tun(self, name: str, address: str) -> Iterator[Callable[[bytes], object]]:
        """A TUN interface with an address; what is written is received by it."""
        flags, tunsetiff = 0x0001 | 0x1000, 0x400454CA  # IFF_TUN | IFF_NO_PI
        with self.inside():
            descriptor = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(descriptor, tunsetiff, struct.pack("16sH22x", name.encode(), flags))
        try:
            self.ip("addr", "add", address, "dev", name)
            self.ip("link", "set", name, "up")
            yield lambda packet: os.write(descriptor, packet)
        finally:
            os.close(descriptor)

    def sender(self, host: str, *, hop_limit: int = 255) -> socket.socket:
        """A plain socket that sends from an address; not ours, so that it can send anything."""
        ipv6 = ":" in host
        with self.inside():
            sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hop_limit)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hop_limit)
            scope = self.index("eth0") if host.startswith("fe80") else 0
            sock.bind((host, 0, 0, scope))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.bind((host, 0))
        return sock


_numbers = itertools.count()


class Namespaces:
    """Makes namespaces with names of their own, and removes them."""

    def __init__(self) -> None:
        self.made: list[Namespace] = []

    def add(self) -> Namespace:
        made = Namespace(f"hf{os.getpid()}n{next(_numbers)}")
        tell("ip", "netns", "add", made.name)
        self.made.append(made)
        # Without duplicate address detection an address is there at once, and link-local ones
        # are given by hand; what arrives shall be judged by us and not by the reverse path filter.
        made.sysctl(
            ipv6__conf__default__accept_dad=0,
            ipv6__conf__default__addr_gen_mode=1,
            ipv4__conf__all__rp_filter=0,
            ipv4__conf__default__rp_filter=0,
        )
        made.ip("link", "set", "lo", "up")
        return made

    def join(
        self, one: Namespace, other: Namespace, *, names: tuple[str, str] = ("eth0", "eth0")
    ) -> None:
        """A cable: a veth pair, up, without addresses."""
        near = ("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        one.ip(*near, "netns", other.name)
        for namespace, name in zip((one, other), names, strict=True):
            namespace.ip("link", "set", name, "up")

    def close(self) -> None:
        for made in self.made:
            subprocess.run(["ip", "netns", "del", made.name], check=False, timeout=PATIENCE)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Lan:
    """A device and a client on one cable: addresses that end in 1, and in 2."""

    device: Namespace
    client: Namespace

    def put_on_cable(self, packet: bytes) -> None:
        """Send a packet from the client's end of the cable, past its own network stack."""
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        with self.client.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
            sock.sendto(packet, ("eth0", kind, 0, 0, bytes.fromhex(DEVICE_MAC.replace(":", ""))))


@pytest.fixture
def lan(namespaces: Namespaces) -> Lan:
    made = Lan(namespaces.add(), namespaces.add())
    namespaces.join(made.device, made.client)
    made.device.ip("link", "set", "eth0", "address", DEVICE_MAC)
    for number, end in enumerate((made.device, made.client), start=1):
        end.ip("addr", "add", f"192.0.2.{number}/24", "broadcast", "+", "dev", "eth0")
        end.ip("addr", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
        end.ip("addr", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
    return made


@pytest.fixture
def udp_packet() -> Callable[..., bytes]:
    return _udp_packet


def _udp_packet(source: str, destination: str, port: int, *, hop_limit: int = 255) -> bytes:
    """A whole IP packet with a small UDP datagram in it, with any source we like."""
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
