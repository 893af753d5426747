"""A path: the datagram channel between one client key and the device, over one or two carriers.

A carrier is an ICE connection: the first is direct, the second uses a relay. Both may stand at the
same time, and after a change of networks new ones take the place of the old ones under the same
path. DTLS and QUIC above it notice none of this.

    Endpoint or ClientLink          a PathSocket
           Path                     seals what would show the keys, chooses the carrier
      direct      relay             IceCarrier

What shows the keys or the protocol of a session, DTLS records without encryption and QUIC packets
with a long header, travels sealed (`flights`), and is dropped in clear: a relay sees no
fingerprint, and only a holder of the pair secret can begin a handshake.

The client sends by the direct carrier as soon as it stands. The device sends by the carrier of the
last datagram that its keys have opened, so a forged one moves nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.session_route import PATH_ADDRESS, SessionRoute
from peer.remote.flights import FlightOpener, FlightSealer, is_sealed, must_be_sealed
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind
from peer.remote.pair_keys import PathKeys


class Carrier(Protocol):
    """One way below a path that works; see `IceCarrier`."""

    @property
    def kind(self) -> CarrierKind:
        """Direct, or relay."""

    @property
    def remote_address(self) -> Address | None:
        """The address to which it sends."""

    def send(self, data: bytes) -> bool:
        """Send one datagram; return False if it was dropped. Never raises."""

    async def close(self) -> None:
        """Free it, in a few seconds at most. Safe to repeat."""


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A carrier of a path, and the attempt that it belongs to: a later one has a higher number."""

    carrier: Carrier
    attempt: int

    @property
    def rank(self) -> tuple[int, bool]:
        """Sorts carriers: a newer attempt first, then direct before relay."""
        return self.attempt, self.carrier.kind is CarrierKind.DIRECT


class Path:
    """A `PathSocket` over carriers. It owns the carriers that were added to it.

    Attributes:
        is_closed: whether it has ended.
        losses: how many carriers were lost.
        switches: how often it began to send by another carrier.

    Args:
        keys: the keys of its sealed flights, one for each direction.
        is_client: whether this side is the client.
        limits: for the time that an unused carrier is kept.
        counters: counts dropped datagrams, by kind.
        on_change: called after each change of `is_live`, `route`, `remote_address` and `is_closed`.
    """

    def __init__(
        self,
        keys: PathKeys,
        *,
        is_client: bool,
        limits: RemoteLimits,
        counters: Counter[str],
        on_change: Callable[[], None],
    ) -> None:
        sends, receives = keys.to_device, keys.to_client
        if not is_client:
            sends, receives = receives, sends
        self._sealer = FlightSealer(sends)
        self._opener = FlightOpener(receives)
        self._is_client = is_client
        self._limits = limits
        self._counters = counters
        self._on_change = on_change
        self._on_datagram: Callable[[Datagram], None] | None = None
        self._on_closed: Callable[[], None] | None = None
        self._held: list[_Held] = []
        self._used: _Held | None = None  # sends
        self._arriving: _Held | None = None  # carries the datagram that is processed now
        self._last_address = PATH_ADDRESS
        self._last_route = SessionRoute.RELAY
        self._loop = asyncio.get_running_loop()
        self._release: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.is_closed = False
        self.losses = 0
        self.switches = 0

    # -- carriers -------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """True while there is a carrier."""
        return bool(self._held)

    @property
    def route(self) -> SessionRoute:
        """How its datagrams travel now, or did last."""
        return self._last_route

    @property
    def remote_address(self) -> Address:
        """The address of the carrier in use, or of the last one."""
        return self._last_address

    def add(self, carrier: Carrier, *, attempt: int = 0) -> None:
        """Use a carrier that works. `attempt` counts the rendezvous of this path.

        Carriers of attempts between the one in use and this one are closed.
        """
        if self.is_closed:
            self._close_soon(carrier)
            return
        self._held.append(_Held(carrier, attempt))
        kept = {attempt, self._used.attempt if self._used is not None else attempt}
        for one in [one for one in self._held if one.attempt not in kept]:
            self._drop(one)
        self._choose()
        self._on_change()

    def remove(self, carrier: Carrier) -> None:
        """Use a carrier no more, since it is lost. It does nothing for an unknown one."""
        found = next((one for one in self._held if one.carrier is carrier), None)
        if found is None:
            return
        self.losses += 1
        self._drop(found)
        self._choose()
        self._on_change()

    def _drop(self, held: _Held) -> None:
        self._held.remove(held)
        if self._used is held:
            self._used = None
        self._close_soon(held.carrier)

    def _choose(self) -> None:
        """Choose the carrier that sends. A device keeps the one by which the client was heard."""
        if not self._held or (self._used is not None and not self._is_client):
            return
        self._use(max(self._held, key=lambda one: one.rank))

    def _use(self, held: _Held) -> None:
        if held is self._used:
            return
        self._used = held
        self.switches += 1
        is_direct = held.carrier.kind is CarrierKind.DIRECT
        self._last_route = SessionRoute.DIRECT if is_direct else SessionRoute.RELAY
        self._last_address = held.carrier.remote_address or PATH_ADDRESS
        if self._release is not None:
            self._release.cancel()
        self._release = self._loop.call_later(
            self._limits.relay_linger_seconds, self._release_unused
        )

    def _release_unused(self) -> None:
        """Close the carriers that the one in use has replaced, for some time now."""
        self._release = None
        used = self._used
        if used is not None:
            for one in [one for one in self._held if one.rank < used.rank]:
                self._drop(one)
            self._on_change()

    def _close_soon(self, carrier: Carrier) -> None:
        task = self._loop.create_task(carrier.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def has_carrier_of(self, attempt: int) -> bool:
        """Return whether a carrier of this attempt works."""
        return any(one.attempt == attempt for one in self._held)

    # -- the socket of a session ----------------------------------------------------------------

    @property
    def local_address(self) -> Address:
        """The constant address of every path."""
        return PATH_ADDRESS

    def open(
        self, *, on_datagram: Callable[[Datagram], None], on_closed: Callable[[], None]
    ) -> None:
        """Begin to deliver datagrams; see `PathSocket`."""
        if self.is_closed:
            on_closed()
            return
        self._on_datagram, self._on_closed = on_datagram, on_closed

    def send(self, data: bytes, _to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram to the peer, whatever the address; return False if it was dropped."""
        del source, ifindex  # there is one of each
        if self._used is None:
            self._counters["path-without-carrier"] += 1
            return False
        return self._used.carrier.send(self._sealer.seal(data) if must_be_sealed(data) else data)

    def is_reading(self) -> bool:
        """Return whether the path is open."""
        return not self.is_closed

    def note_authentic(self) -> None:
        """Note that the datagram that is delivered at this moment is authentic."""
        if self._arriving is not None and not self._is_client:
            before = self._used
            self._use(self._arriving)
            if self._used is not before:
                self._on_change()

    def receive_untrusted(self, carrier: Carrier, data: bytes) -> None:
        """Process one datagram that a carrier has received. Never raises for any data."""
        held = next((one for one in self._held if one.carrier is carrier), None)
        if held is None or self._on_datagram is None or not data:
            return
        self._arriving = held
        try:
            if is_sealed(data):
                opened = self._opener.open_untrusted(data)
                if not opened:
                    self._counters["flights-refused"] += 1
                    return
                self.note_authentic()
                data = opened
            elif must_be_sealed(data):
                self._counters["flights-in-clear"] += 1
                return
            self._on_datagram(Datagram(data, PATH_ADDRESS, "", 0, None))
        finally:
            self._arriving = None

    def end(self) -> None:
        """End the path and its session, which says so to its peer if there is a carrier."""
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()
        self.close()

    def close(self) -> None:
        """Close the path and its carriers. Safe to repeat."""
        if self.is_closed:
            return
        self.is_closed = True
        self._on_datagram = self._on_closed = None
        if self._release is not None:
            self._release.cancel()
            self._release = None
        for one in [*self._held]:
            self._drop(one)
        self._on_change()

    async def wait_closed(self) -> None:
        """Wait until every carrier that was given up is closed."""
        while self._closing:
            await asyncio.wait(self._closing)
