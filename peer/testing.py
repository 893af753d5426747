"""Fakes for tests of handfast and of applications: an impaired path, in memory and over UDP.

`MemoryNet` is a network without a kernel: pass it to a server and a client as their `net`. `Proxy`
forwards datagrams between a client and a device over real UDP on loopback. Both lose, duplicate and
reorder datagrams at random from a seed, so that the same seed repeats a run as far as the network
is concerned. The proxy also records every datagram and can inject some, as an attacker on the path
could.
"""

import asyncio
import random  # noqa: TID251 - impairment, not secrets: a seed must repeat it
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from peer.net.address import Address
from peer.net.datagram import NO_RECEIVERS, Arrival, Datagram, Receiver
from peer.net.linux_socket import HOP_LIMIT
from peer.net.udp import UdpSocket

_HELD_SECONDS = 0.05  # a delayed datagram that no other one overtakes is delivered after this


@dataclass(frozen=True, slots=True)
class Impairment:
    """The faults of a path, each as a probability per datagram. The default has none."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    seed: int = 0


UNIMPAIRED = Impairment()


class _Direction:
    """One direction of a path."""

    def __init__(
        self, impairment: Impairment, salt: int, deliver: Callable[[bytes], object]
    ) -> None:
        self.impairment = impairment
        self.passed: list[bytes] = []
        self._random = random.Random(impairment.seed * 2 + salt)  # noqa: S311
        self._deliver = deliver
        self._held: bytes | None = None

    def carry(self, data: bytes) -> None:
        """Deliver one datagram, or lose, duplicate or delay it."""
        if self._random.random() < self.impairment.loss:
            return
        copies = 2 if self._random.random() < self.impairment.duplicate else 1
        if self._held is None and self._random.random() < self.impairment.reorder:
            self._held = data
            asyncio.get_running_loop().call_later(_HELD_SECONDS, self._release)
            copies -= 1
        for _ in range(copies):
            self._pass(data)
        if copies:
            self._release()

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._pass(held)

    def _pass(self, data: bytes) -> None:
        self.passed.append(data)
        self._deliver(data)


Rewrite = Callable[[bytes], bytes | None]
"""Returns a datagram as it is to be delivered, or None to lose it."""


class Proxy:
    """A path to a device. Clients connect to `address`; each client has a path of its own."""

    def __init__(
        self,
        to: Address,
        impairment: Impairment = UNIMPAIRED,
        *,
        to_device: Rewrite | None = None,
        to_client: Rewrite | None = None,
        one_port: bool = False,
    ) -> None:
        self._to = to
        self._one_port = one_port
        self._to_device = to_device or _unchanged
        self._to_client = to_client or _unchanged
        self._impairment = impairment
        self._paths: dict[Address, tuple[UdpSocket, _Direction, _Direction]] = {}
        self._latest = to  # the client that has sent last
        self._front = UdpSocket.bind(
            "127.0.0.1", 0, on_datagram=self._from_client, on_error=_ignore
        )

    @classmethod
    async def start(
        cls,
        to: Address,
        impairment: Impairment = UNIMPAIRED,
        *,
        to_device: Rewrite | None = None,
        to_client: Rewrite | None = None,
        one_port: bool = False,
    ) -> Self:
        """Listen on a free port of loopback and forward to `to`, through a function if given.

        With `one_port`, the device sees one address for all clients, and what it sends reaches the
        client that has sent last. A NAT that lost its state and reuses a port does the same.
        """
        return cls(to, impairment, to_device=to_device, to_client=to_client, one_port=one_port)

    @property
    def address(self) -> Address:
        """The address that clients connect to."""
        return self._front.local_address

    def towards_device(self) -> list[bytes]:
        """The datagrams delivered from the first client to the device."""
        return self._first()[1].passed

    def towards_client(self) -> list[bytes]:
        """The datagrams delivered from the device to the first client."""
        return self._first()[2].passed

    def inject_to_device(self, data: bytes) -> None:
        """Send a datagram to the device from the address that the device knows as the client's."""
        self._first()[0].send(data, self._to)

    def inject_to_client(self, data: bytes) -> None:
        """Send a datagram to the first client from the address that it knows as the device's."""
        self._front.send(data, next(iter(self._paths)))

    def cut(self) -> None:
        """Lose every datagram from now on."""
        self.change(Impairment(loss=1.0))

    def redirect(self, to: Address) -> None:
        """Forward to another address from now on."""
        self._to = to

    def rebind(self) -> None:
        """Give each client another port towards the device, as a NAT that lost its mappings."""
        for back, *_ in self._paths.values():
            back.close()
        self._paths.clear()

    def change(self, impairment: Impairment) -> None:
        """Use another impairment from now on; the random sequence continues."""
        self._impairment = impairment
        for _, *directions in self._paths.values():
            for direction in directions:
                direction.impairment = impairment

    def close(self) -> None:
        """Close every socket."""
        self._front.close()
        for back, *_ in self._paths.values():
            back.close()

    def _first(self) -> tuple[UdpSocket, _Direction, _Direction]:
        return next(iter(self._paths.values()))

    def _from_client(self, datagram: Datagram) -> None:
        client = self._latest = datagram.source
        key = next(iter(self._paths), client) if self._one_port else client
        if key not in self._paths:
            self._paths[key] = self._path(key)
        self._paths[key][1].carry(datagram.data)

    def _path(self, client: Address) -> tuple[UdpSocket, _Direction, _Direction]:
        back = UdpSocket.connect(
            self._to, on_datagram=lambda datagram: home.carry(datagram.data), on_error=_ignore
        )

        def send_out(data: bytes) -> None:
            if (changed := self._to_device(data)) is not None:
                back.send(changed, self._to)

        def send_home(data: bytes) -> None:
            if (changed := self._to_client(data)) is not None:
                self._front.send(changed, self._latest if self._one_port else client)

        out = _Direction(self._impairment, 0, send_out)
        home = _Direction(self._impairment, 1, send_home)
        return back, out, home


def _unchanged(data: bytes) -> bytes:
    return data


def _ignore(_error: OSError) -> None:
    """Ignore an ICMP error: a lost datagram has the same effect."""


class MemoryNet:
    """A network in memory, with the `bind` and `connect` of `UdpSocket`, and with impairment.

    Every host is on one link, `interface` 1, and a datagram arrives with hop limit 255.
    """

    INTERFACE = 1

    def __init__(self, impairment: Impairment = UNIMPAIRED) -> None:
        self._impairment = impairment
        self._ports = 49152
        self._sockets: dict[Address, _MemorySocket] = {}
        self._directions: dict[tuple[Address, Address], _Direction] = {}

    def bind(
        self,
        host: str,
        port: int,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
        receivers: Mapping[Arrival, Receiver] = NO_RECEIVERS,
    ) -> "_MemorySocket":
        """Open a socket at an address of this network; port 0 selects a free port."""
        _never_used(on_error)
        self._ports += 1
        address = Address(host, port or self._ports)
        socket = self._sockets[address] = _MemorySocket(self, address, on_datagram, receivers)
        return socket

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> "_MemorySocket":
        """Open a socket on a free port of the host that it connects to."""
        return self.bind(to.host, 0, on_datagram=on_datagram, on_error=on_error)

    def change(self, impairment: Impairment) -> None:
        """Use another impairment from now on; the random sequence continues."""
        self._impairment = impairment
        for direction in self._directions.values():
            direction.impairment = impairment

    def carry(self, source: Address, to: Address, data: bytes) -> None:
        """Send one datagram between two sockets, subject to the impairment."""
        if (source, to) not in self._directions:
            self._directions[source, to] = _Direction(
                self._impairment,
                len(self._directions),
                lambda data: asyncio.get_running_loop().call_soon(self._arrive, source, to, data),
            )
        self._directions[source, to].carry(data)

    def _arrive(self, source: Address, to: Address, data: bytes) -> None:
        socket = self._sockets.get(to)
        if socket is not None:
            socket.receive(Datagram(data, source, to.host, self.INTERFACE, HOP_LIMIT, (source,)))

    def has(self, address: Address) -> bool:
        """Return whether there is a socket at an address."""
        return address in self._sockets

    def forget(self, address: Address) -> None:
        """Remove the socket at an address."""
        self._sockets.pop(address, None)


class _MemorySocket:
    """A socket of a `MemoryNet`."""

    def __init__(
        self,
        net: MemoryNet,
        address: Address,
        on_datagram: Callable[[Datagram], None],
        receivers: Mapping[Arrival, Receiver],
    ) -> None:
        self._net = net
        self.local_address = address
        self._on_datagram = on_datagram
        self._receivers = receivers

    def receive(self, datagram: Datagram) -> None:
        """Deliver one datagram."""
        receiver = self._receivers.get(datagram.arrival or ())
        if receiver is None or not receiver.receive_untrusted(datagram.data):
            self._on_datagram(datagram)

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram. `source` and `ifindex` have no effect: there is one of each."""
        _never_used(source, ifindex)
        self._net.carry(self.local_address, to, data)
        return True

    def is_reading(self) -> bool:
        """Return True until it is closed."""
        return self._net.has(self.local_address)

    def close(self) -> None:
        """Remove the socket from the network."""
        self._net.forget(self.local_address)


def _never_used(*_arguments: object) -> None:
    """Mark arguments that the protocol has and a network in memory ignores."""
