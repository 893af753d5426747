"""A client that sends encoded messages unchanged and answers none by itself."""

import asyncio
from dataclasses import dataclass, field
from typing import Self

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.net.aiocoap_seam.parsing import decode_untrusted
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.outline import outline_untrusted
from tests.kit.internals import association_of, layer_of, send_datagram
from tests.kit.serve import PATIENT
from tests.kit.waiting import TIMEOUT_SECONDS

GET = 1
_OBSERVE, _URI_PATH = 6, 11


def message(
    code: int,
    *path: str,
    number: int,
    token: bytes = b"",
    mtype: int = 0,
    observe: int | None = None,
    options: tuple[tuple[int, bytes], ...] = (),
    payload: bytes = b"",
) -> bytes:
    """A message with any options, encoded. `number` is its Message ID."""
    made = aiocoap.Message(
        code=Code(code), payload=payload, _mtype=mtype, _mid=number, _token=token
    )
    wanted = [(_URI_PATH, one.encode()) for one in path] + list(options)
    if observe is not None:
        wanted.append((_OBSERVE, observe.to_bytes((observe.bit_length() + 7) // 8)))
    for option, value in wanted:
        made.opt.add_option(OptionNumber(option).create_option(decode=value))
    return bytes(made.encode())


@dataclass
class RawClient:
    """One session. What the server sends is kept in `received`, in order."""

    client: CoapsClient
    received: list[aiocoap.Message] = field(default_factory=list)
    #: The same as bytes, with the answers to `handled`.
    encoded: list[bytes] = field(default_factory=list)
    _association: Association | None = None
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _pings: int = 0xF000  # the Message ID of the next ping; tests use lower ones

    @classmethod
    async def connect(cls, address: Address, identity: Identity | None = None) -> Self:
        """Complete a handshake with a server."""
        raw = cls(CoapsClient(identity or Identity.create(), limits=PATIENT))
        await raw.open(address)
        return raw

    async def open(self, address: Address) -> None:
        """Open the session. Only `connect` calls this."""
        layer_of(self.client).message_received = self._heard  # type: ignore[method-assign, assignment]
        connection = await self.client.connect(address, pinned=None, timeout=TIMEOUT_SECONDS)
        self._association = association_of(connection)

    def _heard(self, _association: Association, data: bytes) -> None:
        self.encoded.append(data)
        found = outline_untrusted(data, DEFAULT_LIMITS)
        self.received.append(decode_untrusted(data, found, None))
        self._came.set()

    @property
    def is_open(self) -> bool:
        """True until the session ends."""
        return self._association is not None and self._association.established

    def send(self, data: bytes) -> None:
        """Send one message unchanged."""
        assert self._association is not None
        self._association.send(data)

    def sealed(self, data: bytes) -> bytes:
        """Encrypt one message with the next record number, and return the datagram."""
        assert self._association is not None
        datagram = self._association.session.seal(data)
        assert datagram is not None
        return datagram

    def send_datagram(self, data: bytes) -> None:
        """Send a datagram from the session's own port, not encrypted."""
        assert self._association is not None
        send_datagram(self._association, data)

    def acknowledge(self, number: int) -> None:
        """Acknowledge the message with this Message ID."""
        self.send(b"\x60\x00" + number.to_bytes(2))

    async def until(self, count: int) -> list[aiocoap.Message]:
        """Wait until `count` messages have arrived; return all of them."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(self.received) < count:
                self._came.clear()
                await self._came.wait()
        return self.received

    async def handled(self) -> None:
        """Return when the server has processed everything sent before.

        The server answers an empty message with a reset (RFC 7252 §4.3), which is removed from
        `received`.
        """
        number = self._pings
        self._pings = 0xF000 | self._pings + 1 & 0xFFF
        self.send(b"\x40\x00" + number.to_bytes(2))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (pongs := [one for one in self.received if self._is_pong(one, number)]):
                self._came.clear()
                await self._came.wait()
        for one in pongs:
            self.received.remove(one)

    @staticmethod
    def _is_pong(one: aiocoap.Message, number: int) -> bool:
        # A request of the server can have the same Message ID.
        return one.mid == number and one.mtype is aiocoap.RST

    async def close(self) -> None:
        """End the session."""
        await self.client.close()
