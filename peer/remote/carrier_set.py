"""The carriers of one rendezvous, from the gathering of candidates until a path uses them.

Both sides gather their direct carrier and their relay at the same time, and connect each as soon as
the other side's half is known. A carrier that works belongs to the path; the others are closed with
this object.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Protocol

from peer.errors import PeerError
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer
from peer.remote.path import Carrier, Path

_log = logging.getLogger(__name__)


class NewCarrier(Carrier, Protocol):
    """A carrier that does not work yet; see `IceCarrier`."""

    async def gather(self) -> CarrierOffer:
        """Gather candidates. Raises `PeerError` if there are none."""

    async def connect(self, remote: CarrierOffer) -> None:
        """Connect with the other side's half. Raises `PeerError`."""


class MakeCarrier(Protocol):
    """Makes a carrier that sends nothing before `gather`."""

    def __call__(
        self,
        kind: CarrierKind,
        *,
        on_datagram: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> NewCarrier:
        """Return a carrier.

        Args:
            kind: direct, or relay.
            on_datagram: called with each datagram that it receives.
            on_lost: called once when it works no more, unless it was closed.
        """


class CarrierSet:
    """The carriers of one rendezvous.

    Args:
        kinds: which of them to gather.
        make: makes one.
        limits: how long gathering and connecting may take.
        on_gathered: called once for each kind, with this side's half; None if there is none.
        on_failed: called for each carrier that did not connect, and has no other use.
        relay_head_seconds: how long a relay waits before it connects.
    """

    def __init__(
        self,
        kinds: Collection[CarrierKind],
        *,
        make: MakeCarrier,
        limits: RemoteLimits,
        on_gathered: Callable[[CarrierKind, CarrierOffer | None], None],
        on_failed: Callable[[CarrierKind], None] = lambda _kind: None,
        relay_head_seconds: float = 0.0,
    ) -> None:
        self._limits = limits
        self._on_gathered = on_gathered
        self._on_failed = on_failed
        self._head_seconds = {CarrierKind.DIRECT: 0.0, CarrierKind.RELAY: relay_head_seconds}
        self._path: Path | None = None
        self._attempt = 0
        self._remotes: dict[CarrierKind, asyncio.Future[CarrierOffer]] = {}
        self._carriers: dict[CarrierKind, NewCarrier] = {}
        self._in_path: set[CarrierKind] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[CarrierKind, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        for kind in sorted(kinds):
            self._remotes[kind] = loop.create_future()
            self._carriers[kind] = make(
                kind,
                on_datagram=partial(self._datagram_untrusted, kind),
                on_lost=partial(self._lost, kind),
            )
            self._running[kind] = _start(self._run(kind), self._tasks)

    @property
    def is_busy(self) -> bool:
        """True while it gathers, connects or closes a carrier."""
        return bool(self._tasks or self._closing)

    def use(self, path: Path, *, attempt: int = 0) -> None:
        """Add the carriers to a path as soon as they work. `attempt` is as in `Path.add`."""
        self._path, self._attempt = path, attempt

    def add_remote(self, kind: CarrierKind, offer: CarrierOffer) -> None:
        """Connect a carrier with the other side's half, once its own half is gathered."""
        remote = self._remotes.get(kind)
        if remote is not None and not remote.done():
            remote.set_result(offer)

    def close(self) -> None:
        """Close the carriers that no path uses. Safe to repeat."""
        for task in [*self._tasks]:
            task.cancel()
        for remote in self._remotes.values():
            remote.cancel()
        for kind in self._carriers.keys() - self._in_path:
            self._discard(kind)

    async def wait_closed(self) -> None:
        """Wait until everything has ended, after `close`."""
        while self._tasks or self._closing:
            await asyncio.wait(self._tasks | self._closing)

    async def _run(self, kind: CarrierKind) -> None:
        carrier = self._carriers[kind]
        try:
            async with asyncio.timeout(self._limits.gathering_seconds):
                offer = await carrier.gather()
        except Exception as error:
            _note(error, kind)
            self._discard(kind)
            self._on_gathered(kind, None)
            self._on_failed(kind)
            return
        self._on_gathered(kind, offer)
        remote = await self._remotes[kind]
        await asyncio.sleep(self._head_seconds[kind])
        try:
            async with asyncio.timeout(self._limits.check_seconds):
                await carrier.connect(remote)
        except Exception as error:
            _note(error, kind)
            self._discard(kind)
            self._on_failed(kind)
            return
        self._hand_over(kind)

    def _hand_over(self, kind: CarrierKind) -> None:
        """Give a carrier that works to the path, once."""
        if self._path is not None and kind in self._carriers and kind not in self._in_path:
            self._in_path.add(kind)
            self._path.add(self._carriers[kind], attempt=self._attempt)

    def _datagram_untrusted(self, kind: CarrierKind, data: bytes) -> None:
        # A carrier that delivers works, even if `connect` has not returned yet: the first datagram
        # of a handshake must not be lost.
        self._hand_over(kind)
        if self._path is not None and kind in self._in_path:
            self._path.receive_untrusted(self._carriers[kind], data)

    def _lost(self, kind: CarrierKind) -> None:
        if self._path is not None and kind in self._in_path:
            self._path.remove(self._carriers[kind])

    def _discard(self, kind: CarrierKind) -> None:
        if kind not in self._in_path and (carrier := self._carriers.pop(kind, None)) is not None:
            _start(_close(carrier, self._running[kind]), self._closing)


def _note(error: Exception, kind: CarrierKind) -> None:
    """Log an error that no carrier should raise."""
    if not isinstance(error, (PeerError, TimeoutError)):
        _log.error("the %s carrier failed", kind.name.lower(), exc_info=error)


async def _close(carrier: NewCarrier, running: asyncio.Task[None]) -> None:
    """Close a carrier, after the task that gathers or connects it."""
    await asyncio.wait({running})
    await carrier.close()


def _start(
    work: Coroutine[object, object, None], tasks: set[asyncio.Task[None]]
) -> asyncio.Task[None]:
    """Start a task, and keep it among `tasks` until it is done."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
