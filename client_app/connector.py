"""Connections to devices, at any of their addresses, with the pinned key only."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace

from client_app.connection_attempts import Candidate, ConnectionAttempts, Source
from client_app.deadline import Deadline, waiting_for
from client_app.errors import BookError, ClientClosed
from client_app.exchange import find_cause
from client_app.failures import no_settings, with_device
from client_app.finder import Finder
from client_app.host_port import HostPort
from client_app.known_device import KnownDevice
from client_app.known_devices import DeviceBook
from client_app.limits import CONNECT_SECONDS, DISCOVERY_DELAY_SECONDS
from client_app.remote_reach import RemoteReach
from client_app.route_race import RouteRace
from client_app.routes import ADDRESS_ROUTES, ALL_ROUTES, PATH_ROUTES, in_order
from peer.errors import PinMismatch, TimedOut, Unreachable
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net import key_log
from peer.net.address import Address, is_own, resolve
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.datagram import Net
from peer.net.session_route import SessionRoute
from peer.net.tasks import cancel_all

_log = logging.getLogger(__name__)


class Connector:
    """Opens connections with one identity.

    Args:
        identity: returns the client's key pair; called when the first connection is opened.
        book: the paired devices with their stored addresses.
        finder: searches the LAN for more addresses.
        limits: bounds and timeouts.
        net: socket factory.
        remote: opens paths to devices on other networks; None if that is not wanted.
        via: the routes that may be used to reach a paired device.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        book: DeviceBook,
        finder: Finder,
        *,
        limits: Limits,
        net: Net,
        remote: RemoteReach | None = None,
        via: frozenset[SessionRoute] = ALL_ROUTES,
    ) -> None:
        self.finder = finder
        self._identity = identity
        self._book = book
        self._limits = limits
        self._net = net
        self._remote = remote
        self.via = via
        self._coaps: CoapsClient | None = None
        self._opening: set[asyncio.Task[CoapsConnection]] = set()
        self._closings = 0

    @property
    def transport(self) -> CoapsClient:
        """The CoAP client; created on first use. Raises `IdentityError`."""
        if self._coaps is None:
            key_log.start(os.environ)
            self._coaps = CoapsClient(self._identity(), limits=self._limits, net=self._net)
        return self._coaps

    async def close(self) -> None:
        """End all sessions, and all attempts to open one. Safe to repeat."""
        self._closings += 1
        opening, self._opening = self._opening, set()
        await cancel_all(opening)
        coaps, self._coaps = self._coaps, None
        if coaps is not None:
            await coaps.close()

    def opener(self, known: KnownDevice) -> Callable[[], Awaitable[CoapsConnection]]:
        """Return a function that connects to a paired device until this connector is closed."""
        closings = self._closings

        async def connect() -> CoapsConnection:
            if closings != self._closings:
                raise ClientClosed
            return await self.connect_known(known)

        return connect

    async def until_closed(
        self, opening: Coroutine[object, object, CoapsConnection]
    ) -> CoapsConnection:
        """Return the session that `opening` opens. Raises `ClientClosed` if `close` ends it."""
        task = asyncio.create_task(opening)
        self._opening.add(task)
        try:
            connection = await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task in self._opening or (caller is not None and caller.cancelling()):
                raise
            raise ClientClosed from None
        finally:
            was_closed = task not in self._opening
            self._opening.discard(task)
        if was_closed:
            raise ClientClosed
        return connection

    async def connect_at(
        self, address: Address, *, pinned: Fingerprint, timeout: float | None = None
    ) -> CoapsConnection:
        """Open a session at one address, with the pinned key only.

        `timeout` is in seconds and defaults to `Limits.connect_seconds`. Raises `Unreachable`,
        `HandshakeFailed`, `PinMismatch` or `TimedOut`.
        """
        return await self.transport.connect(address, pinned=pinned, timeout=timeout)

    async def connect_known(self, known: KnownDevice) -> CoapsConnection:
        """Connect to a paired device over any of its routes; store the one that led to it."""
        latest = self._book.by_fingerprint(known.fingerprint) or known
        remote = self._remote and self._remote.option(latest, lambda: self.transport, self.via)
        if not remote and not self.via & ADDRESS_ROUTES:
            raise no_settings(known.alias, in_order(self.via))
        race = RouteRace(
            lambda address: self.connect_at(address, pinned=latest.fingerprint),
            remote.open if remote else None,
            limits=self._limits,
            delay=remote.delay if remote else 0.0,
            permits=self._permits,
        )
        try:
            async with Deadline(CONNECT_SECONDS):
                with waiting_for(f"connecting to {known.alias}", advice=find_cause(known.alias)):
                    connection = await self.until_closed(race.run(self._sources(latest)))
        except PinMismatch as error:
            error.advice += f" To remove the device, run `handfast forget {known.alias}`."
            raise
        except ClientClosed:
            raise
        except (Unreachable, TimedOut) as error:
            raise with_device(error, known.alias) from error
        await self._note_route(latest, connection)
        if not race.was_path:
            await self._store_address(latest, connection.peer.address)
        return connection

    def has_path(self, known: KnownDevice) -> bool:
        """Whether there are settings for a path to a device, and a path may be used."""
        return self._remote is not None and bool(
            self._remote.option(known, lambda: self.transport, self.via)
        )

    def _sources(self, known: KnownDevice) -> list[Source]:
        """Return the sources of a device's addresses, as far as the routes permit them."""
        stored = self.host_ports(known)
        found: list[Source] = []
        if self.via & ADDRESS_ROUTES:
            found += [resolved(one, expects_own=str(one) == known.last_seen) for one in stored]
        if not self.via >= ADDRESS_ROUTES:
            found = [self._permitted(one) for one in found]
        if SessionRoute.LAN in self.via:
            delay = DISCOVERY_DELAY_SECONDS if stored else 0.0
            found.append(self.finder.regular(known.fingerprint.device_id, delay=delay))
        return found

    async def connect_where_seen(self, known: KnownDevice) -> CoapsConnection:
        """Connect to a paired device at the address at which it answered last."""
        host_port = HostPort.parse(known.last_seen)
        address, *_ = await resolve(host_port.host, host_port.port or known.port)
        return await self.connect_at(address, pinned=known.fingerprint)

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
        self, key: Fingerprint, stated: Sequence[HostPort], *, last_seen: str
    ) -> CoapsConnection:
        sources = [resolved(one, expects_own=str(one) == last_seen) for one in stated]
        run = self.attempts(key).run([*sources, self.finder.regular(key.device_id)])
        return await self.until_closed(run)

    async def _permitted(self, source: Source) -> AsyncIterator[Candidate]:
        async for one in source:
            if self._permits(one.address):
                yield one

    def _permits(self, address: Address) -> bool:
        """Whether the routes permit an address: on a network of this machine, or elsewhere."""
        if self.via >= ADDRESS_ROUTES or not self.via & ADDRESS_ROUTES:
            return self.via >= ADDRESS_ROUTES
        from peer.net.interfaces import kernel_table  # noqa: PLC0415 - only a choice needs it

        is_on_link = kernel_table().is_on_link(address.host)
        return (SessionRoute.LAN if is_on_link else SessionRoute.ADDRESS) in self.via

    async def _note_route(self, known: KnownDevice, connection: CoapsConnection) -> None:
        """Store over which path a device was reached, if any, for the next time."""
        if self._remote is not None:
            route = connection.peer.path
            await self._remote.note_path(known.fingerprint, route if route in PATH_ROUTES else "")

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
