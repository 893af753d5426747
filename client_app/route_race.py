"""The race between the routes to one device: its addresses, and a path that a broker sets up.

The addresses have a head start, since a path costs a broker's and a device's work. A path is tried
at once if no address is left, or if the last session needed one. The device may answer the broker
with addresses of its own, which are tried as well. The first session with the pinned key wins, and
everything else is cancelled.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Final

from client_app.connection_attempts import Candidate, Connect, ConnectionAttempts, Source
from client_app.deadline import explain_timeout
from client_app.failures import of_all_routes
from client_app.host_port import REGULAR_PORT, HostPort
from client_app.limits import REMOTE_ADDRESSES
from peer.errors import PeerError, UsageError
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address, resolve
from peer.net.connection import CoapsConnection
from peer.net.tasks import cancel_all

OnAddresses = Callable[[Sequence[str]], None]
"""Called with the addresses, `HOST:PORT` each, that the device sends over the broker."""
OpenPath = Callable[[OnAddresses], Awaitable[CoapsConnection]]
"""Opens a session over a path. It frees everything if it is cancelled."""

_NO_SOURCES: Final[Sequence[Source]] = ()


class _NothingTriedError(PeerError):
    """The device has sent no address that is permitted and was not tried before."""


class RouteRace:
    """One search for a device. One-shot.

    Args:
        connect: opens a session at one address.
        open_path: opens a session over a path; None if that is not possible or not allowed.
        limits: how many announced addresses are tried.
        delay: head start of the addresses, in seconds.
        permits: whether an address that the device states may be tried.
    """

    def __init__(
        self,
        connect: Connect,
        open_path: OpenPath | None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        delay: float = 0.0,
        permits: Callable[[Address], bool] = lambda _address: True,
    ) -> None:
        self._connect = connect
        self._open_path = open_path
        self._limits = limits
        self._delay = delay
        self._permits = permits
        self._attempts = ConnectionAttempts(connect, limits=limits)
        self._running: set[asyncio.Task[CoapsConnection]] = set()
        self._ended: asyncio.Queue[asyncio.Task[CoapsConnection]] = asyncio.Queue()
        self._path: asyncio.Task[CoapsConnection] | None = None
        self._stated: set[HostPort] = set()
        self._path_error: PeerError | None = None
        self._address_errors: list[PeerError] = []
        self.was_path = False
        """Whether the winner is a session over a path."""

    async def run(self, sources: Sequence[Source] = _NO_SOURCES) -> CoapsConnection:
        """Return the first session, at an address of `sources` or over a path.

        Raises the most significant error if there is none.
        """
        winner: CoapsConnection | None = None
        try:
            if sources:
                self._start(self._attempts.run(sources))
                winner = await self._first(self._delay if self._open_path else None)
            if winner is None and self._open_path is not None:
                self._path = self._start(self._over_path(self._open_path))
                winner = await self._first(None)
        except asyncio.CancelledError:  # perhaps by a deadline
            await self._stop(None)  # the addresses say what is known about them
            if self._path_error is not None:
                explain_timeout(str(self._path_error), advice=self._path_error.advice)
            raise
        finally:
            await self._stop(winner)
        if winner is None:
            raise of_all_routes(self._address_errors, self._path_error)
        return winner

    def _start(
        self, work: Coroutine[object, object, CoapsConnection]
    ) -> asyncio.Task[CoapsConnection]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended.put_nowait)
        return task

    async def _first(self, seconds: float | None) -> CoapsConnection | None:
        """Return the first session; None if all attempts have failed, or after some seconds."""
        until = None if seconds is None else asyncio.get_running_loop().time() + seconds
        while self._running:
            try:
                async with asyncio.timeout_at(until):
                    task = await self._ended.get()
            except TimeoutError:
                return None
            self._running.discard(task)
            error = task.exception()
            if error is None:
                self.was_path = task is self._path
                return task.result()
            if not isinstance(error, PeerError):
                raise error
            if task is self._path:
                self._path_error = error
            elif not isinstance(error, _NothingTriedError):
                self._address_errors.append(error)
        return None

    async def _over_path(self, open_path: OpenPath) -> CoapsConnection:
        return await open_path(self._addresses_received)

    def _addresses_received(self, texts: Sequence[str]) -> None:
        """Try the addresses that the device has sent over the broker."""
        new: list[HostPort] = []
        for text in texts:
            with contextlib.suppress(UsageError):
                one = HostPort.parse(text)
                if one not in self._stated and len(self._stated) < REMOTE_ADDRESSES:
                    self._stated.add(one)
                    new.append(one)
        if new:
            self._start(self._at_stated(new))

    async def _at_stated(self, stated: Sequence[HostPort]) -> CoapsConnection:
        attempts = ConnectionAttempts(self._connect, limits=self._limits)
        try:
            return await attempts.run([self._each(stated)])
        except PeerError as error:
            if attempts.tried:
                raise
            raise _NothingTriedError(str(error), advice=error.advice) from error

    async def _each(self, stated: Sequence[HostPort]) -> AsyncIterator[Candidate]:
        """Yield the addresses that the device has stated; another key there is no alarm."""
        for one in stated:
            if not one.is_ip:  # no name of a device's choice is looked up
                continue
            for address in await resolve(one.host, one.port or REGULAR_PORT):
                if self._permits(address) and not self._attempts.has_tried(address):
                    yield Candidate(address, one, is_hint=True)

    async def _stop(self, winner: CoapsConnection | None) -> None:
        """Cancel what is pending; close every session but the winner."""
        for ended in await cancel_all(self._running):
            if isinstance(ended, CoapsConnection) and ended is not winner:
                await ended.close()
