"""Keeps the path of a client alive: notices silence and changes of networks, renews the carriers.

The DTLS session and its streams do not notice. ICE itself needs half a minute to notice that a
carrier is dead; so while something is in use and the device is silent, it gets a CoAP ping.
"""

import asyncio

from peer.errors import PeerError
from peer.limits import ADDRESS_SETTLE_SECONDS
from peer.net.connection import CoapsConnection
from peer.remote.limits import RENEWAL_PAUSE_SECONDS
from peer.remote.link_watch import WatchLinks
from peer.remote.path import Path
from peer.remote.route_rendezvous import PathForgotten, RouteParts, RouteRendezvous
from peer.remote.route_steps import StepKind

_LOOKS_PER_SILENCE = 4  # how often silence is measured, within the longest that is accepted


class RouteKeeper:
    """Keeps one path alive until its session ends.

    Args:
        parts: what it needs of the route.
        first: the rendezvous that has opened the path.
        path: the path.
        connection: the session over the path.
        watch_links: calls a function whenever the links of this machine change.
    """

    def __init__(
        self,
        parts: RouteParts,
        first: RouteRendezvous,
        path: Path,
        connection: CoapsConnection,
        watch_links: WatchLinks,
    ) -> None:
        self._parts = parts
        self._limits = parts.limits
        self._path = path
        self._connection = connection
        self._watch_links = watch_links
        self._latest = first
        self._attempt = 0
        self._have_links_changed = False
        self._losses, self._switches = 0, path.switches
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Keep the path alive; return when it has ended, and everything is closed."""
        watch = self._watch_links(self._links_changed)
        try:
            while not self._path.is_closed:
                await self._wait()
                if await self._is_in_trouble():
                    await self._renew()
        finally:
            watch.close()
            self._latest.abandon()
            await self._latest.wait_closed()
            await self._path.wait_closed()

    def _links_changed(self) -> None:
        self._have_links_changed = True
        self._parts.changes.notify()

    async def _wait(self) -> None:
        """Wait for an event, or until it is time to look at the silence again."""
        pause = self._limits.probe_idle_seconds / _LOOKS_PER_SILENCE
        try:
            async with asyncio.timeout(pause):
                await self._parts.changes.wait_for(self._has_event)
        except TimeoutError:
            pass

    def _has_event(self) -> bool:
        return (
            self._path.is_closed
            or self._have_links_changed
            or self._path.losses != self._losses
            or self._path.switches != self._switches
        )

    async def _is_in_trouble(self) -> bool:
        """Return whether the path needs new carriers."""
        if self._path.is_closed:
            return False
        if self._have_links_changed:
            await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
            self._have_links_changed = False
            return not await self._is_answered()
        if self._path.losses != self._losses:
            return True
        if self._path.switches != self._switches:
            # The device sends by the carrier on which it has heard from this client last.
            self._switches = self._path.switches
            return not await self._is_answered()
        is_silent = self._connection.silent_seconds >= self._limits.probe_idle_seconds
        return is_silent and self._connection.is_in_use and not await self._is_answered()

    async def _is_answered(self) -> bool:
        """Return whether the device answers a ping, or the path has ended meanwhile."""
        answered = await self._connection.ping(timeout=self._limits.probe_wait_seconds)
        return answered or self._path.is_closed

    async def _renew(self) -> None:
        """Get new carriers for the path, and end it if that fails for too long."""
        give_up_at = self._loop.time() + self._limits.path_grace_seconds
        longest = self._limits.path_grace_seconds / 4
        pause = min(RENEWAL_PAUSE_SECONDS, longest)
        while not self._path.is_closed:
            self._losses = self._path.losses
            self._attempt += 1
            self._latest.close()
            self._latest = RouteRendezvous(self._parts, self._latest, attempt=self._attempt)
            try:
                await self._latest.first_carrier()
            except PeerError as error:
                self._latest.close()
                self._parts.step(StepKind.RENEWAL, reason=_slug(error))
                if isinstance(error, PathForgotten) or self._loop.time() >= give_up_at:
                    self._path.end()
                    return
            else:
                self._parts.step(StepKind.RENEWAL, subject=self._path.route)
                return
            if self._path.is_live and await self._is_answered():
                return
            await self._pause(pause)
            pause = min(2 * pause, longest)

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until the networks have changed or the path has ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._parts.changes.wait_for(
                    lambda: self._path.is_closed or self._have_links_changed
                )
        except TimeoutError:
            return
        if self._have_links_changed:
            await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
            self._have_links_changed = False


def _slug(error: PeerError) -> str:
    return str(getattr(error, "reason", "no-path"))
