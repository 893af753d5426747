"""Floods, and an honest client on a slow path.

A `ManySources` is one UDP socket that sends from any number of addresses in 127.0.0.0/8, each with
its own cookie. A `FarPath` is a proxy with a delay; the flood that is sent while a datagram is in
transit is passed to it, so that a test counts datagrams and does not depend on the speed of the
machine.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.errors import HandshakeFailed
from peer.identity import Identity
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.tasks import cancel_all
from peer.net.udp import UdpSocket
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from tests.kit.device import Caller

HOST = "127.0.0.1"
# in a ClientHello of one record: headers of 13 and 12 bytes, 2 bytes of version
_RANDOM_AT = slice(27, 59)
_HELLO_VERIFY_REQUEST = 3
_COOKIE = bytes(range(32))


def addresses(count: int, *, per_network: int = 1, first: int = 0) -> list[str]:
    """Addresses in 127.64.0.0/10, `per_network` of them in each /24. `first` skips networks."""
    found = []
    for number in range(count):
        network, host = divmod(number, per_network)
        high, low = divmod(first + network, 256)
        found.append(f"127.{64 + high}.{low}.{1 + host}")
    return found


# -- a slow path -----------------------------------------------------------------------------------


class FarPath:
    """A proxy to a device that delays every datagram by `delay_seconds` and the run of `meanwhile`.

    Clients connect to `address`; the device sees `source`, with one port per client. `meanwhile`
    runs once per datagram, before the datagram is delivered.
    """

    def __init__(
        self,
        to: Address,
        *,
        source: str = HOST,
        delay_seconds: float = 0.05,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._to = to
        self._source = source
        self._delay = delay_seconds
        self.meanwhile = meanwhile
        self._backs: dict[Address, UdpSocket] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.passed: list[tuple[bool, bytes]] = []  # (towards the device, datagram)
        self._front = UdpSocket.bind(HOST, 0, on_datagram=self._from_client, on_error=ignore_error)

    @property
    def address(self) -> Address:
        """The address that clients connect to."""
        return self._front.local_address

    def port(self, *, pairing: bool = False) -> int:
        """The port of the proxy, as required by `Caller.port`."""
        assert pairing in (True, False)
        return self._front.local_address.port

    def _from_client(self, datagram: Datagram) -> None:
        client = datagram.source
        if client not in self._backs:
            self._backs[client] = UdpSocket.bind(
                self._source,
                0,
                on_datagram=lambda answer: self._carry(
                    answer.data, lambda data: self._front.send(data, client), to_device=False
                ),
                on_error=ignore_error,
            )
        back = self._backs[client]
        self._carry(datagram.data, lambda data: back.send(data, self._to), to_device=True)

    def _carry(self, data: bytes, deliver: Callable[[bytes], object], *, to_device: bool) -> None:
        async def pass_on() -> None:
            meanwhile = [] if self.meanwhile is None else [self.meanwhile()]
            await asyncio.gather(asyncio.sleep(self._delay), *meanwhile)
            self.passed.append((to_device, data))
            deliver(data)

        task = asyncio.create_task(pass_on())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Drop the datagrams in transit, and close every socket."""
        tasks = list(self.tasks)
        await cancel_all(tasks)
        for one in (self._front, *self._backs.values()):
            one.close()


async def is_refused_a_session(caller: Caller, *, pairing: bool = False) -> bool:
    """Whether the device ends a new session at once; the end may come after the handshake."""
    try:
        connection = await caller.connect(pairing=pairing, fresh=True)
    except HandshakeFailed as error:
        return "closed the session immediately" in str(error)
    await until(lambda: not connection.is_open)
    return True


def ignore_error(_error: OSError) -> None:
    """Ignore ICMP errors."""


# -- many sources ---------------------------------------------------------------------------------


def _hello_pair() -> tuple[bytes, bytes]:
    """The two ClientHellos of an honest client; the second carries `_COOKIE`."""
    client = DtlsSession.client(ClientContext(Identity.create()), mtu=1200, pinned=None)
    (first,) = client.take_datagrams()
    body = b"\xfe\xff" + bytes([len(_COOKIE)]) + _COOKIE
    size = len(body).to_bytes(3, "big")
    message = bytes([_HELLO_VERIFY_REQUEST]) + size + bytes(5) + size + body
    request = b"\x16\xfe\xff" + bytes(8) + len(message).to_bytes(2, "big") + message
    client.receive_untrusted(records.split_untrusted(request))
    (second,) = client.take_datagrams()
    assert _COOKIE in second
    return first, second


class ManySources:
    """Many source addresses on one socket, which sends only to `device`."""

    def __init__(self, device: Address) -> None:
        self._device = device
        self._socket = UdpSocket.bind(
            "0.0.0.0", 0, on_datagram=self._datagram_received, on_error=ignore_error
        )
        self._fence = self._new_fence()
        self._first, self._second = _hello_pair()
        self._cookies: dict[str, bytes] = {}
        self._fence_passed = asyncio.Event()
        self.sent: Counter[str] = Counter()  # bytes by source
        self.received: Counter[str] = Counter()  # bytes by source

    @property
    def port(self) -> int:
        """The source port, the same for every source address."""
        return self._socket.local_address.port

    def send(self, data: bytes, source: str) -> None:
        """Send any datagram from one of the addresses."""
        self.sent[source] += len(data)
        assert self._socket.send(data, self._device, source=source)

    def hello(self, source: str) -> None:
        """Send a new ClientHello, with the cookie of the source if it has one."""
        cookie = self._cookies.get(source)
        hello = bytearray(self._first if cookie is None else self._second)
        hello[_RANDOM_AT] = secrets.token_bytes(32)
        self.send(bytes(hello) if cookie is None else bytes(hello).replace(_COOKIE, cookie), source)

    def forget_cookies(self) -> None:
        """Send the next ClientHello of every source without a cookie."""
        self._cookies.clear()

    async def arm(self, sources: Sequence[str]) -> None:
        """Get a cookie for each source."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for some in _slices(sources, 50):
                while missing := [one for one in some if one not in self._cookies]:
                    for source in missing:
                        self.hello(source)
                    await self.handled()

    async def flood(self, sources: Sequence[str]) -> None:
        """Send a ClientHello from each source, in batches that fit the device's receive buffer."""
        for some in _slices(sources, 50):
            for source in some:
                self.hello(source)
            await self.handled()

    async def handled(self) -> None:
        """Return when the device has processed everything sent before.

        Sends a ClientHello without a cookie from a separate address, and waits for its answer.
        """
        self._fence_passed.clear()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not self._fence_passed.is_set():
                self._fence.send(self._first, self._device)
                try:
                    async with asyncio.timeout(1):
                        await self._fence_passed.wait()
                except TimeoutError:  # dropped with others because the buffer was full
                    self._fence.close()  # a late answer must not pass for that to the next one
                    self._fence = self._new_fence()

    def _new_fence(self) -> UdpSocket:
        return UdpSocket.bind(
            HOST, 0, on_datagram=lambda _answer: self._fence_passed.set(), on_error=ignore_error
        )

    def _datagram_received(self, datagram: Datagram) -> None:
        source = datagram.destination
        self.received[source] += len(datagram.data)
        if cookie := _cookie_in(datagram.data):
            self._cookies[source] = cookie

    def close(self) -> None:
        """Close both sockets."""
        self._socket.close()
        self._fence.close()


def _cookie_in(data: bytes) -> bytes:
    """The cookie of a HelloVerifyRequest, or empty."""
    return data[28:] if data[0] == 22 and data[13] == _HELLO_VERIFY_REQUEST else b""


def _slices(sources: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(sources), size):
        yield sources[start : start + size]
