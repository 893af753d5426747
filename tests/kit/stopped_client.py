"""A DTLS client that stops at a step of the handshake."""

from __future__ import annotations

import asyncio
from enum import Enum

from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.identity import Identity
from peer.net.address import Address
from peer.net.udp import UdpSocket
from tests.kit.floods import HOST, ignore_error
from tests.kit.waiting import TIMEOUT_SECONDS


class Step(Enum):
    """The last step of a client in a handshake."""

    HELLO = "a ClientHello without a cookie is sent"
    COOKIE = "a ClientHello with the cookie is sent"
    FLIGHT = "the device's flight has arrived and is not answered"
    PART = "the first datagram of the answer is sent, if it has more than one; else all of it"
    DONE = "the session is established"


class StoppedClient:
    """A client that performs a handshake up to a step and then sends nothing."""

    def __init__(self, device: Address, identity: Identity, source: str, mtu: int) -> None:
        self._device = device
        self._mtu = mtu
        self.begin(identity)
        self.received: list[bytes] = []
        self.sent: list[bytes] = []
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.socket = UdpSocket.bind(
            source,
            0,
            on_datagram=lambda one: self._inbox.put_nowait(one.data),
            on_error=ignore_error,
        )

    def begin(self, identity: Identity) -> None:
        """Begin a new session from the same port; `run` performs its handshake."""
        self.session = DtlsSession.client(ClientContext(identity), mtu=self._mtu, pinned=None)

    def send(self, data: bytes) -> None:
        """Send a datagram unchanged."""
        self.sent.append(data)
        self.socket.send(data, self._device)

    @property
    def waiting(self) -> int:
        """The number of datagrams that have arrived and have not been read."""
        return self._inbox.qsize()

    async def datagram(self) -> bytes:
        """The next datagram from the device, before the session processes it."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            data = await self._inbox.get()
        self.received.append(data)
        return data

    async def run(self, step: Step) -> None:
        """Perform the handshake until `step` is done.

        Raises TimeoutError if the device does not answer.
        """
        self._send_all()
        if step is Step.HELLO:
            return
        self._feed(await self.datagram())
        self._send_all()
        if step is Step.COOKIE:
            return
        while not (flight := self.session.take_datagrams()):
            self._feed(await self.datagram())
        if step is Step.FLIGHT:
            return
        if step is Step.PART:
            self.send(flight[0])
            return
        for datagram in flight:
            self.send(datagram)
        while self.session.peer_fingerprint is None or not self.session.exporter:
            self._feed(await self.datagram())
            self._send_all()

    def _feed(self, data: bytes) -> None:
        self.session.receive_untrusted(records.split_untrusted(data))

    def _send_all(self) -> None:
        for datagram in self.session.take_datagrams():
            self.send(datagram)

    def close(self) -> None:
        """Close the socket without a close_notify."""
        self.socket.close()


async def stop_at(
    step: Step,
    device: Address,
    *,
    source: str = HOST,
    identity: Identity | None = None,
    mtu: int = 1200,
) -> StoppedClient:
    """A client at `source` that stops after `step`; a small `mtu` splits its flights."""
    client = StoppedClient(device, identity or Identity.create(), source, mtu)
    try:
        await client.run(step)
    except BaseException:  # cancellation too: the test is over
        client.close()
        raise
    return client
