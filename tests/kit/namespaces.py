"""Network namespaces with real interfaces, and cables between them."""

import fcntl
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import netns
from pyroute2.netlink.rtnl import RTM_GETROUTE, rt_type

from peer.net.interfaces import InterfaceTable, kernel_table
from peer.net.netlink import dump
from tests.kit.waiting import TIMEOUT_SECONDS, block_until

DEVICE_MAC = "02:00:00:00:00:01"
WIFI_MAC = "02:00:00:00:00:03"


def run_command(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True)
class Namespace:
    """A network namespace. A socket that is opened `inside` stays in it."""

    name: str

    def ip(self, *arguments: str) -> None:
        run_command("ip", "-n", self.name, *arguments)

    def batch(self, lines: list[str]) -> None:
        """Run many `ip` commands in one process."""
        subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"],
            input="\n".join(lines),
            text=True,
            check=True,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )

    def run(self, *command: str) -> None:
        run_command("ip", "netns", "exec", self.name, *command)

    def output(self, *command: str) -> str:
        """Run a command, and return what it prints."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        return done.stdout

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

    def await_addresses(self, *addresses: str) -> None:
        """Wait until these addresses receive: the kernel adds their routes in the background."""
        with self.inside():
            block_until(lambda: {*addresses} <= _local_routes())

    def index(self, interface: str) -> int:
        with self.inside():
            return socket.if_nametoindex(interface)

    def sysctl(self, **values: int) -> None:
        with self.inside():
            for name, value in values.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(str(value))

    @contextmanager
    def tun(self, name: str, address: str) -> Iterator[Callable[[bytes], object]]:
        """A TUN interface with an address; yields a function that injects packets as received."""
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
        """A plain UDP socket that can send from any address with any hop limit."""
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


def _local_routes() -> set[str]:
    return {one.get("dst") for one in dump(RTM_GETROUTE) if one["type"] == rt_type["local"]}


_numbers = itertools.count()


class Namespaces:
    """Makes namespaces with names of their own, and removes them."""

    def __init__(self) -> None:
        self.made: list[Namespace] = []

    def add(self) -> Namespace:
        made = Namespace(f"hf{os.getpid()}n{next(_numbers)}")
        run_command("ip", "netns", "add", made.name)
        self.made.append(made)
        # Without duplicate address detection an address is usable immediately. Link-local addresses
        # are assigned by hand, and the reverse path filter is off, so that our rules decide.
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
        """Connect two namespaces by a cable: a veth pair, up, without addresses."""
        near = ("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        one.ip(*near, "netns", other.name)
        for namespace, name in zip((one, other), names, strict=True):
            namespace.ip("link", "set", name, "up")

    def close(self) -> None:
        for made in self.made:
            subprocess.run(["ip", "netns", "del", made.name], check=False, timeout=TIMEOUT_SECONDS)


def add_addresses(namespace: Namespace, interface: str, number: int) -> None:
    """Give an interface the addresses of that number in the prefixes of these tests."""
    addresses = {f"192.0.2.{number}": 24, f"2001:db8::{number}": 64, f"fe80::{number}": 64}
    for address, bits in addresses.items():
        more = ["nodad"] if ":" in address else ["broadcast", "+"]
        namespace.ip("addr", "add", f"{address}/{bits}", *more, "dev", interface)
    namespace.await_addresses(*addresses)


@dataclass(frozen=True)
class TwoLinks:
    """A device with cable (eth0, 1) and Wi-Fi (wlan0, 3) in one subnet, and a client (eth0, 2).

    The client's interface is a bridge, the switch of that subnet. Its ports are `eth0-port` and
    `wlan0-port`.
    """

    device: Namespace
    client: Namespace

    def resolve(self, address: str, interface: str) -> None:
        """Make the client send what is for `address` to that interface of the device."""
        hardware = {"eth0": DEVICE_MAC, "wlan0": WIFI_MAC}[interface]
        self.client.ip("neigh", "replace", address, "lladdr", hardware, "dev", "eth0")


def two_links(namespaces: Namespaces) -> TwoLinks:
    made = TwoLinks(namespaces.add(), namespaces.add())
    made.client.ip("link", "add", "eth0", "type", "bridge")
    made.client.ip("link", "set", "eth0", "up")
    for number, interface, hardware in ((1, "eth0", DEVICE_MAC), (3, "wlan0", WIFI_MAC)):
        port = f"{interface}-port"
        namespaces.join(made.device, made.client, names=(interface, port))
        made.device.ip("link", "set", interface, "address", hardware)
        made.client.ip("link", "set", port, "master", "eth0")
        add_addresses(made.device, interface, number)
    add_addresses(made.client, "eth0", 2)
    return made


@dataclass(frozen=True)
class Lan:
    """A device and a client on one cable; their addresses end in 1 and 2."""

    device: Namespace
    client: Namespace

    def put_on_cable(self, packet: bytes) -> None:
        """Send a packet from the client's end of the cable, past its own network stack."""
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        with self.client.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
            sock.sendto(packet, ("eth0", kind, 0, 0, bytes.fromhex(DEVICE_MAC.replace(":", ""))))
