"""Fakes for tests, ours and those of applications: bad weather, in memory and on a real path.

`MemoryNet` is a network without a kernel: give it to a server and a client as their `net`. `Proxy`
stands between a client and a device on real UDP, on loopback. Both lose, double and reorder what
passes, at random from a seed, so that a seed repeats a run as far as the network is concerned. The
proxy also records what passes, and can put in datagrams as an attacker on the path could.
"""

import asyncio
import random  # noqa: TID251 - weather, not secrets: a seed must repeat it
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from peer.net.udp import HOP_LIMIT, Address, Datagram, UdpSocket

_HELD_SECONDS = 0.05  # a held-back datagram that nothing overtakes goes on after this


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad a path is: each a probability per datagram. Without any, all passes unchanged."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    seed: int = 0


FAIR = Weather()


class _Direction:
    """One way through the proxy."""

    def __init__(self, weather: Weather, salt: int, deliver: Callable[[bytes], object]) -> None:
        self.weather = weather
        self.passed: list[bytes] = []
        self._random = random.Random(weather.seed * 2 + salt)  # noqa: S311
        self._deliver = deliver
        self._held: bytes | None = None

    def carry(self, data: bytes) -> None:
        """Let the weather decide about one datagram."""
        if self._random.random() < self.weather.loss:
            return
        copies = 2 if self._random.random() < self.weather.duplicate else 1
        if self._held is None and self._random.random() < self.weather.reorder:
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


class Proxy:
    """A path to a device. Point one client at `address`; a second client gets a path of its own."""

    def __init__(self, to: Address, weather: Weather) -> None:
        self._to = to
        self._weather = weather
        self._paths: dict[Address, tuple[UdpSocket, _Direction, _Direction]] = {}
        self._front = UdpSocket.bind(
            "127.0.0.1", 0, on_datagram=self._from_client, on_error=_ignore
        )

    @classmethod
    async def start(cls, to: Address, weather: Weather = FAIR) -> Self:
        """Listen on a free port of loopback and pass everything on to `to`."""
        return cls(to, weather)

    @property
    def address(self) -> Address:
        """Where clients find the proxy."""
        return self._front.local_address

    def towards_device(self) -> list[bytes]:
        """What went from the first client to the device."""
        return self._first()[1].passed

    def towards_client(self) -> list[bytes]:
        """What went from the device to the first client."""
        return self._first()[2].passed

    def inject_to_device(self, data: bytes) -> None:
        """Send a datagram to the device from the first client's address, as the device sees it."""
        self._first()[0].send(data, self._to)

    def inject_to_client(self, data: bytes) -> None:
        """Send a datagram to the first client from the device's address, as the client sees it."""
        self._front.send(data, next(iter(self._paths)))

    def cut(self) -> None:
        """From now on nothing passes."""
        self.change(Weather(loss=1.0))

    def change(self, weather: Weather) -> None:
        """Other weather from now on; the random sequence goes on."""
        self._weather = weather
        for _, *directions in self._paths.values():
            for direction in directions:
                direction.weather = weather

    def close(self) -> None:
        """Close every socket."""
        self._front.close()
        for back, *_ in self._paths.values():
            back.close()

    def _first(self) -> tuple[UdpSocket, _Direction, _Direction]:
        return next(iter(self._paths.values()))

    def _from_client(self, datagram: Datagram) -> None:
        client = datagram.source
        if client not in self._paths:
            self._paths[client] = self._path(client)
        self._paths[client][1].carry(datagram.data)

    def _path(self, client: Address) -> tuple[UdpSocket, _Direction, _Direction]:
        back = UdpSocket.connect(
            self._to, on_datagram=lambda datagram: home.carry(datagram.data), on_error=_ignore
        )
        out = _Direction(self._weather, 0, lambda data: back.send(data, self._to))
        home = _Direction(self._weather, 1, lambda data: self._front.send(data, client))
        return back, out, home


def _ignore(_error: OSError) -> None:
    """An ICMP report is one more kind of weather."""


class MemoryNet:
    """A network in memory: `bind` and `connect` as `UdpSocket` has them, and some weather.

    Every host is on one link, `interface` 1, and a datagram arrives with hop limit 255.
    """

    INTERFACE = 1

    def __init__(self, weather: Weather = FAIR) -> None:
        self._weather = weather
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
    ) -> "_MemorySocket":
        """A socket at an address of this network; port 0 is a free one."""
        _never_used(on_error)
        self._ports += 1
        address = Address(host, port or self._ports)
        socket = self._sockets[address] = _MemorySocket(self, address, on_datagram)
        return socket

    def connect(
        self,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> "_MemorySocket":
        """A socket on a free port of the host it connects to: one host is enough for a test."""
        return self.bind(to.host, 0, on_datagram=on_datagram, on_error=on_error)

    def change(self, weather: Weather) -> None:
        """Other weather from now on; the random sequence goes on."""
        self._weather = weather
        for direction in self._directions.values():
            direction.weather = weather

    def carry(self, source: Address, to: Address, data: bytes) -> None:
        """Send one datagram into the weather between two sockets."""
        if (source, to) not in self._directions:
            self._directions[source, to] = _Direction(
                self._weather,
                len(self._directions),
                lambda data: asyncio.get_running_loop().call_soon(self._arrive, source, to, data),
            )
        self._directions[source, to].carry(data)

    def _arrive(self, source: Address, to: Address, data: bytes) -> None:
        socket = self._sockets.get(to)
        if socket is not None:
            socket.on_datagram(Datagram(data, source, to.host, self.INTERFACE, HOP_LIMIT))

    def forget(self, address: Address) -> None:
        """Nobody is there any more."""
        self._sockets.pop(address, None)


class _MemorySocket:
    """One end in a `MemoryNet`."""

    def __init__(
        self, net: MemoryNet, address: Address, on_datagram: Callable[[Datagram], None]
    ) -> None:
        self._net = net
        self.local_address = address
        self.on_datagram = on_datagram

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram; there is one interface and one source."""
        _never_used(source, ifindex)
        self._net.carry(self.local_address, to, data)
        return True

    def close(self) -> None:
        """Leave the network."""
        self._net.forget(self.local_address)


def _never_used(*_arguments: object) -> None:
    """Part of the interface, without a meaning in memory."""
