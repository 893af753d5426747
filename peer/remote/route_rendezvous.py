"""One rendezvous of a client: from the brokers until a path has a carrier that works."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from peer.errors import PeerError, Unreachable
from peer.remote.broker_link import ConnectBroker, RandomBytes
from peer.remote.carrier_set import CarrierSet, MakeCarrier
from peer.remote.client_signalling import ClientSignalling, SignallingEvents
from peer.remote.effects import PathAgreed
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer
from peer.remote.path import Path
from peer.remote.route_errors import no_carrier
from peer.remote.route_steps import RouteStep, StepKind
from peer.remote.settings import RemoteSettings, Server


class PathForgotten(Unreachable):
    """The device does not know the path any more, so it cannot get new carriers."""


class Changes:
    """Wakes those who wait for a condition."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Look at all conditions again."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true. It is looked at after each `notify`."""
        while not condition():
            await self._event.wait()


class RouteParts:
    """The parts that all rendezvous of a route share; `RemoteRoute` describes the arguments."""

    def __init__(
        self,
        settings: RemoteSettings,
        *,
        kinds: Collection[CarrierKind],
        connect: ConnectBroker,
        carriers: MakeCarrier,
        random_bytes: RandomBytes,
        limits: RemoteLimits,
        on_step: Callable[[RouteStep], None],
        on_addresses: Callable[[Sequence[str]], None],
        on_revision: Callable[[int], None],
    ) -> None:
        self.settings = settings
        self.kinds = kinds
        self.connect = connect
        self.carriers = carriers
        self.random_bytes = random_bytes
        self.limits = limits
        self.on_addresses = on_addresses
        self.on_revision = on_revision
        self.counters: Counter[str] = Counter()
        self.changes = Changes()
        self._on_step = on_step
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    def step(self, kind: StepKind, *, subject: str = "", reason: str = "") -> None:
        """Report a step, which has failed if there is a reason."""
        seconds = self._loop.time() - self._began
        self._on_step(RouteStep(kind, not reason, subject, seconds, reason))


class RouteRendezvous(SignallingEvents):
    """One rendezvous. It begins at once.

    Attributes:
        path: the path, once both sides have agreed on it.
        path_id: its ID.

    Args:
        parts: what it needs of the route.
        before: the rendezvous that has opened the path, which shall get new carriers; None for a
            new path.
        attempt: the number of this rendezvous of the path.
    """

    def __init__(
        self, parts: RouteParts, before: "RouteRendezvous | None" = None, *, attempt: int = 0
    ) -> None:
        self.path: Path | None = None if before is None else before.path
        self.path_id: bytes | None = None if before is None else before.path_id
        self._parts = parts
        self._attempt = attempt
        self._is_agreed = False
        self._error: PeerError | None = None
        self._failed: set[CarrierKind] = set()
        self._settling: asyncio.Task[None] | None = None
        self._signalling = ClientSignalling(
            parts.settings,
            path_id=self.path_id,
            connect=parts.connect,
            events=self,
            limits=parts.limits,
            random_bytes=parts.random_bytes,
        )
        self._carriers = CarrierSet(
            sorted(parts.kinds),
            make=parts.carriers,
            limits=parts.limits,
            on_gathered=self._gathered,
            on_failed=self._carrier_failed,
        )
        for kind in set(CarrierKind) - set(parts.kinds):
            self._signalling.gathered(kind, None)

    async def first_carrier(self) -> Path:
        """Return the path as soon as a new carrier works. Raises `PeerError` if none will."""
        changes = self._parts.changes
        await changes.wait_for(lambda: self._is_agreed or self._error is not None)
        try:
            async with asyncio.timeout(self._parts.limits.check_seconds):
                await changes.wait_for(lambda: self._has_carrier or self._error is not None)
        except TimeoutError:
            for kind in set(self._parts.kinds) - self._failed:
                self._carrier_failed(kind)
        if self.path is None or not self._has_carrier:
            raise self._error or no_carrier()
        self._parts.step(StepKind.CARRIER, subject=self.path.route)
        self._settling = asyncio.get_running_loop().create_task(self._settle())
        return self.path

    async def _settle(self) -> None:
        """Wait until the other carrier works too, or will not; then leave the brokers."""
        try:
            async with asyncio.timeout(self._parts.limits.check_seconds):
                await self._carriers.wait_closed()
        except TimeoutError:
            pass
        self._signalling.close()
        self._carriers.close()

    def close(self) -> None:
        """Leave the brokers, and close the carriers that do not work. The path stays."""
        if self._settling is not None:
            self._settling.cancel()
        self._signalling.close()
        self._carriers.close()

    def abandon(self) -> None:
        """Close everything, the path included."""
        self.close()
        if self.path is not None:
            self.path.end()

    async def wait_closed(self) -> None:
        """Wait until everything that it has closed is gone."""
        await self._signalling.wait_closed()
        await self._carriers.wait_closed()

    @property
    def _has_carrier(self) -> bool:
        return self.path is not None and self.path.has_carrier_of(self._attempt)

    # -- carriers -------------------------------------------------------------------------------

    def _gathered(self, kind: CarrierKind, offer: CarrierOffer | None) -> None:
        reason = "" if offer is not None else "no-candidate"
        self._parts.step(StepKind.GATHERING, subject=kind.name.lower(), reason=reason)
        self._signalling.gathered(kind, offer)

    def _carrier_failed(self, kind: CarrierKind) -> None:
        self._parts.step(StepKind.CARRIER, subject=kind.name.lower(), reason="no-path")
        self._failed.add(kind)
        if self._failed == set(self._parts.kinds):
            self._fail(no_carrier())

    # -- events of the signalling ---------------------------------------------------------------

    def broker_done(self, server: Server, reason: str) -> None:
        """Report the step."""
        self._parts.step(StepKind.BROKER, subject=server.url, reason=reason)

    def challenged(self, revision: int, addresses: Sequence[str]) -> None:
        """Report the step, and pass on what the device says."""
        self._parts.step(StepKind.CHALLENGE)
        self._parts.on_revision(revision)
        if addresses:
            self._parts.on_addresses(addresses)

    def agreed(self, agreed: PathAgreed) -> None:
        """Make the path, or continue it."""
        self._parts.step(StepKind.ANSWER)
        if self.path is not None and agreed.is_new:
            self._fail(PathForgotten("the device has ended the path", advice="Connect again."))
            return
        if self.path is None and agreed.path_keys is not None:
            self.path_id = agreed.path_id
            self.path = Path(
                agreed.path_keys,
                is_client=True,
                limits=self._parts.limits,
                counters=self._parts.counters,
                on_change=self._parts.changes.notify,
            )
        if self.path is not None:
            self._carriers.use(self.path, attempt=self._attempt)
        self._is_agreed = True
        self._parts.changes.notify()

    def remote_known(self, kind: CarrierKind, offer: CarrierOffer) -> None:
        """Connect the carrier."""
        self._carriers.add_remote(kind, offer)

    def failed(self, error: PeerError) -> None:
        """Give up."""
        self._fail(error)

    def _fail(self, error: PeerError) -> None:
        self._error = self._error or error
        self._parts.changes.notify()
