"""The client's side of remote reach: it opens a path to a device, and a session over it.

    ClientSignalling ──agreed──▶ RouteRendezvous ──▶ Path ──▶ CoapsClient.connect_over
    CarrierSet ──carriers───────────┘     ▲
                                          └── RouteKeeper: renews the carriers

Candidates are gathered beside the broker's TLS handshake. DTLS starts as soon as one carrier
works; the other one joins later.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from peer.fingerprint import Fingerprint
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import SessionRoute
from peer.remote.broker_link import ConnectBroker, RandomBytes
from peer.remote.carrier_set import MakeCarrier
from peer.remote.limits import (
    BUSY_REPEATS,
    BUSY_SECONDS,
    DEFAULT_REMOTE_LIMITS,
    RemoteLimits,
)
from peer.remote.link_watch import WatchLinks
from peer.remote.messages import CarrierKind
from peer.remote.route_errors import DeviceBusy
from peer.remote.route_keeper import RouteKeeper
from peer.remote.route_rendezvous import RouteParts, RouteRendezvous
from peer.remote.route_steps import RouteStep, StepKind
from peer.remote.settings import RemoteSettings

_KINDS = {
    SessionRoute.DIRECT: CarrierKind.DIRECT,
    SessionRoute.RELAY: CarrierKind.RELAY,
}


class RemoteRoute:
    """Opens paths to one device.

    Args:
        settings: the settings that the device gave this client.
        coaps: opens the session.
        pinned: the key of the device.
        connect: opens a connection with a broker.
        carriers: makes the carriers.
        watch_links: calls a function whenever the links of this machine change.
        random_bytes: returns that many random bytes.
        via: the carriers to use: direct, relay, or both.
        on_step: called with each step.
        on_addresses: called with addresses of the device, "host:port", to try as well.
        on_revision: called with the present revision of the device's settings.
        limits: the bounds.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        *,
        coaps: CoapsClient,
        pinned: Fingerprint,
        connect: ConnectBroker,
        carriers: MakeCarrier,
        watch_links: WatchLinks,
        random_bytes: RandomBytes,
        via: Collection[SessionRoute] = frozenset({SessionRoute.DIRECT, SessionRoute.RELAY}),
        on_step: Callable[[RouteStep], None] = lambda _step: None,
        on_addresses: Callable[[Sequence[str]], None] = lambda _addresses: None,
        on_revision: Callable[[int], None] = lambda _revision: None,
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
    ) -> None:
        self._coaps = coaps
        self._pinned = pinned
        self._watch_links = watch_links
        self._loop = asyncio.get_running_loop()
        self._parts = RouteParts(
            settings,
            kinds=frozenset(_KINDS[one] for one in via if one in _KINDS),
            connect=connect,
            carriers=carriers,
            random_bytes=random_bytes,
            limits=limits,
            on_step=on_step,
            on_addresses=on_addresses,
            on_revision=on_revision,
        )

    async def open(self) -> CoapsConnection:
        """Open a session with the device. The path lasts as long as the session.

        If the device is busy, it tries again a few times, as soon as the device permits it. Raises
        `Unreachable`, `TimedOut`, `Denied`, `PinMismatch` or `HandshakeFailed`. Frees everything if
        it fails or is cancelled.
        """
        for _ in range(BUSY_REPEATS):
            try:
                return await self._open()
            except DeviceBusy as busy:
                if busy.seconds is None or busy.seconds > BUSY_SECONDS:
                    raise
                await asyncio.sleep(busy.seconds)
        return await self._open()

    async def _open(self) -> CoapsConnection:
        rendezvous = RouteRendezvous(self._parts)
        try:
            path = await rendezvous.first_carrier()
            connection = await self._coaps.connect_over(path, pinned=self._pinned)
        except BaseException:
            rendezvous.abandon()
            self._coaps.hold(self._loop.create_task(rendezvous.wait_closed()))
            raise
        self._parts.step(StepKind.SESSION, subject=connection.peer.path)
        keeper = RouteKeeper(self._parts, rendezvous, path, connection, self._watch_links)
        self._coaps.hold(self._loop.create_task(keeper.run(), name="remote path"))
        return connection
