"""Connections to devices, at any of their addresses, with the pinned key only."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from client_app.connection_attempts import Candidate, ConnectionAttempts
from client_app.deadline import Deadline, waiting_for
from client_app.errors import BookError
from client_app.exchange import find_cause
from client_app.failures import with_device
from client_app.finder import Finder
from client_app.host_port import HostPort
from client_app.known_device import KnownDevice
from client_app.known_devices import DeviceBook
from client_app.limits import CONNECT_SECONDS, DISCOVERY_DELAY_SECONDS
from peer.errors import PinMismatch, TimedOut, Unreachable
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net import key_log
from peer.net.address import Address, is_own, resolve
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.datagram import Net

_log = logging.getLogger(__name__)


class Connector:
    """Opens connections with one identity.

    Args:
        identity: returns the client's key pair; called when the first connection is opened.
        book: the paired devices with their stored addresses.
        finder: searches the LAN for more addresses.
        limits: bounds and timeouts.
        net: socket factory.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        book: DeviceBook,
        finder: Finder,
        *,
        limits: Limits,
        net: Net,
    ) -> None:
        self.finder = finder
        self._identity = identity
        self._book = book
        self._limits = limits
        self._net = net
        self._coaps: CoapsClient | None = None

    @property
    def transport(self) -> CoapsClient:
        """The CoAP client; created on first use. Raises `IdentityError`."""
        if self._coaps is None:
            key_log.start(os.environ)
            self._coaps = CoapsClient(self._identity(), limits=self._limits, net=self._net)
        return self._coaps

    async def close(self) -> None:
        """End all sessions. Safe to repeat."""
        coaps, self._coaps = self._coaps, None
        if coaps is not None:
            await coaps.close()

    async def connect_at(
        self, address: Address, *, pinned: Fingerprint, timeout: float | None = None
    ) -> CoapsConnection:
        """Open a session at one address, with the pinned key only.

        `timeout` is in seconds and defaults to `Limits.connect_seconds`. Raises `Unreachable`,
        `HandshakeFailed`, `PinMismatch` or `TimedOut`.
        """
        return await self.transport.connect(address, pinned=pinned, timeout=timeout)

    async def connect_known(self, known: KnownDevice) -> CoapsConnection:
        """Connect to a paired device at its stored and announced addresses; store the address."""
        latest = self._book.by_fingerprint(known.fingerprint) or known
        stored = self.host_ports(latest)
        delay = DISCOVERY_DELAY_SECONDS if stored else 0.0
        try:
            async with Deadline(CONNECT_SECONDS):
                with waiting_for(f"connecting to {known.alias}", advice=find_cause(known.alias)):
                    connection = await self._connect(
                        latest.fingerprint, stored, last_seen=latest.last_seen, delay=delay
                    )
        except PinMismatch as error:
            error.advice += f" To remove the device, run `handfast forget {known.alias}`."
            raise
        except (Unreachable, TimedOut) as error:
            raise with_device(error, known.alias) from error
        await self._store_address(latest, connection.peer.address)
        return connection

    async def connect_invited(self, key: Fingerprint, hints: Sequence[HostPort]) -> CoapsConnection:
        """Connect to the device of an invite: `key` is the key that the invite names."""
        known = self._book.by_fingerprint(key)
        stored = self.host_ports(known) if known else []
        try:
            return await self._connect(
                key,
                list(dict.fromkeys([*stored, *hints])),
                last_seen=known.last_seen if known else "",
            )
        except PinMismatch as error:
            raise self.mismatch(error) from None

    def attempts(self, pinned: Fingerprint) -> ConnectionAttempts:
        """Attempts to connect to the holder of one key."""
        return ConnectionAttempts(
            lambda address: self.connect_at(address, pinned=pinned), limits=self._limits
        )

    def host_ports(self, known: KnownDevice) -> list[HostPort]:
        """Return the stored addresses of a device: the last one, then the added ones."""
        texts = dict.fromkeys(filter(None, (known.last_seen, *known.addresses)))
        found = [HostPort.parse(text) for text in texts]
        return [replace(one, port=one.port or known.port) for one in found]

    def mismatch(self, error: PinMismatch) -> PinMismatch:
        """The same error; it reports a changed key only if the key was pinned at pairing."""
        is_known = any(one.fingerprint.hex == error.expected for one in self._book.all())
        return PinMismatch(error.expected, error.actual, is_known=is_known)

    async def _connect(
        self,
        key: Fingerprint,
        stated: Sequence[HostPort],
        *,
        last_seen: str,
        delay: float = 0.0,
    ) -> CoapsConnection:
        sources = [resolved(one, expects_own=str(one) == last_seen) for one in stated]
        return await self.attempts(key).run(
            [*sources, self.finder.regular(key.device_id, delay=delay)]
        )

    async def _store_address(self, known: KnownDevice, address: Address) -> None:
        """Store the address at which a device answered. A failure is only logged."""
        text = str(HostPort.from_address(address))
        if text == known.last_seen:
            return
        try:
            await asyncio.to_thread(
                self._book.update, known.fingerprint, lambda one: replace(one, last_seen=text)
            )
        except BookError as error:
            _log.warning("cannot store the address at which %s answered: %s", known.alias, error)


async def resolved(host_port: HostPort, *, expects_own: bool = False) -> AsyncIterator[Candidate]:
    """Yield the addresses of a host as candidates.

    Those of this machine are the last ones to try, unless `expects_own`: the user gave the address,
    or the device answered there.
    """
    for address in await resolve(host_port.host, host_port.port):
        own = is_own(address)
        yield Candidate(address, host_port, is_own=own, is_last=own and not expects_own)
