"""Sessions with a device on another network: the stored settings, and the route that they open.

A client without settings of a device has no such route to it, and neither imports nor asks anything
for it. What the route needs is imported when it starts, in a thread, so that the addresses are not
tried later for it.
"""

from __future__ import annotations  # the route is imported when it starts

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from client_app.clock import wall_clock
from client_app.errors import BookError
from client_app.remote_settings import RemoteBook, RemoteEntry
from client_app.routes import PATH_ROUTES
from peer.errors import Malformed, PeerError, Unreachable
from peer.net.daemon_thread import call_in_thread
from peer.net.session_route import SessionRoute

if TYPE_CHECKING:
    from client_app.known_device import KnownDevice
    from client_app.route_race import OnAddresses, OpenPath
    from peer.fingerprint import Fingerprint
    from peer.net.client import CoapsClient
    from peer.net.connection import CoapsConnection
    from peer.remote.route_steps import RouteStep
    from peer.remote.settings import RemoteSettings

_PACKAGES: Final = frozenset({"aioice", "aiomqtt"})
"""The packages of the extra `remote` that are imported first."""
_log = logging.getLogger(__name__)

OnStep = Callable[["RouteStep"], None]
"""Called with each step of the route."""


class OpenSession(Protocol):
    """Opens a session over a path. Frees everything if it is cancelled."""

    async def __call__(
        self,
        settings: RemoteSettings,
        *,
        coaps: CoapsClient,
        pinned: Fingerprint,
        via: frozenset[SessionRoute],
        on_step: OnStep,
        on_addresses: OnAddresses,
        on_revision: Callable[[int], None],
    ) -> CoapsConnection:
        """Return a session with the holder of the key `pinned`, and with no other one.

        Args:
            settings: the settings that the device gave this client.
            coaps: the client that opens the session.
            pinned: the key of the device.
            via: the carriers to use: direct, relay, or both.
            on_step: called with each step.
            on_addresses: called with addresses of the device that the broker passes on.
            on_revision: called with the present revision of the settings.
        """


@dataclass(frozen=True, slots=True)
class RemoteOption:
    """A path to one device that can be opened.

    `delay` is the head start of its addresses in seconds; 0 if the last session was over a path.
    """

    open: OpenPath
    delay: float = 0.0


class RemoteReach:
    """The settings of one client for reaching devices on other networks.

    Args:
        book: the file of the settings.
        own: returns the fingerprint of this client.
        open_session: opens a session over a path.
        now: the clock, in seconds since 1970.
    """

    def __init__(
        self,
        book: RemoteBook,
        own: Callable[[], Fingerprint],
        *,
        open_session: OpenSession | None = None,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self.book = book
        self.now = now
        self._own = own
        self._open_session = open_session

    def find(self, device: Fingerprint) -> RemoteEntry | None:
        """Return what is stored about a device; None if there is nothing. Raises `BookError`."""
        if not self.book.path.exists():
            return None
        return self.book.find(device, own=self._own())

    def option(
        self, known: KnownDevice, coaps: Callable[[], CoapsClient], via: frozenset[SessionRoute]
    ) -> RemoteOption | None:
        """Return the path that can be opened to a device; None if there is none.

        A file that cannot be used does not fail the addresses; opening the path raises its error.
        """
        carriers = via & PATH_ROUTES
        if not carriers:
            return None
        try:
            entry = self.find(known.fingerprint)
        except BookError as error:
            return RemoteOption(_raising(error))
        if entry is None or not entry.encoded:
            return None

        async def open_path(on_addresses: OnAddresses) -> CoapsConnection:
            from client_app.remote_progress import RemoteProgress  # noqa: PLC0415 - see the module

            with RemoteProgress(known.alias) as progress:
                return await self.open(
                    known,
                    entry,
                    coaps=coaps(),
                    via=carriers,
                    on_step=progress.note,
                    on_addresses=on_addresses,
                )

        from peer.remote.limits import DEFAULT_REMOTE_LIMITS  # noqa: PLC0415 - see the module

        delay = 0.0 if entry.won_remotely else DEFAULT_REMOTE_LIMITS.remote_delay_seconds
        return RemoteOption(open_path, delay)

    async def open(
        self,
        known: KnownDevice,
        entry: RemoteEntry,
        *,
        coaps: CoapsClient,
        via: frozenset[SessionRoute],
        on_step: OnStep,
        on_addresses: OnAddresses,
    ) -> CoapsConnection:
        """Open a session over a path, by the settings that are stored for the device.

        Raises `Unreachable`, `TimedOut`, `Denied` or `PinMismatch`.
        """
        try:
            settings = entry.settings(known.alias)
        except Malformed as error:
            raise Unreachable(str(error), advice=error.advice) from None
        if via == {SessionRoute.RELAY} and not settings.turn:
            raise Unreachable(
                f"{known.alias} has no relay",
                advice="Use other routes as well, or set up a relay (`turn` in its device.toml).",
            )
        stated: list[int] = []
        open_session = self._open_session or await real_route()
        try:
            return await open_session(
                settings,
                coaps=coaps,
                pinned=known.fingerprint,
                via=via,
                on_step=on_step,
                on_addresses=on_addresses,
                on_revision=stated.append,
            )
        finally:
            if stated and stated[-1] != entry.revision:
                await self._edit(known.fingerprint, lambda one: one.with_stated(stated[-1]))

    async def note_path(self, device: Fingerprint, route: str) -> None:
        """Store the carrier of the last session, if anything is stored about the device.

        `route` is direct or relay; empty for a session at an address.
        """
        try:
            entry = self.find(device)
        except BookError:
            return
        if entry is not None and entry.route != route:
            await self._edit(device, lambda one: replace(one, route=route))

    async def note_settings(self, device: Fingerprint, encoded: bytes) -> None:
        """Store the settings that a device has sent; empty bytes stand for none.

        Raises `Malformed` if they are not settings; then nothing is stored.
        """
        from client_app.remote_settings import settings_untrusted  # noqa: PLC0415 - asked seldom

        settings = settings_untrusted(encoded) if encoded else None
        await self._edit(device, lambda one: one.with_settings(settings, encoded, self.now()))

    async def note_answer(self, device: Fingerprint, encoded: bytes) -> None:
        """Store the settings that a device has sent in the background, unless they are known.

        Raises `Malformed` as `note_settings` does.
        """
        entry = self.find(device)
        if entry is None or not entry.holds(encoded, self.now()):
            await self.note_settings(device, encoded)

    async def note_asked(self, device: Fingerprint) -> None:
        """Store that the device was asked and has not answered, so that it is not asked soon."""
        await self._edit(device, lambda one: replace(one, asked=int(self.now())))

    async def _edit(self, device: Fingerprint, edit: Callable[[RemoteEntry], RemoteEntry]) -> None:
        """Change the entry of a device. A failure is only logged: it must not fail a command."""
        own = self._own()
        try:
            await asyncio.to_thread(self.book.update, device, edit, own=own)
        except BookError as error:
            _log.info("cannot store how to reach a device from other networks: %s", error)


def _raising(error: PeerError) -> OpenPath:
    async def open_path(_on_addresses: OnAddresses) -> CoapsConnection:
        raise error

    return open_path


async def real_route() -> OpenSession:
    """Import the route, in a thread. Raises `Unreachable` if its packages are not installed."""

    def load() -> OpenSession:
        from peer.remote.network import open_session  # noqa: PLC0415 - see the module

        return open_session

    try:
        return await call_in_thread(load)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise Unreachable(
            f"reaching a device over a broker needs {error.name}, which is not installed",
            advice="Install the extra `remote` where handfast is installed: "
            "pip install 'handfast[remote]'.",
        ) from None
