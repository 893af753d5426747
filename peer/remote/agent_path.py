"""One path of a device: its carriers, its session, and what the agent shows of it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from peer.fingerprint import Fingerprint
from peer.net.association import PeerAddress
from peer.net.session_route import PathSocket
from peer.remote.agent_view import PathView
from peer.remote.carrier_set import CarrierSet, MakeCarrier
from peer.remote.effects import OpenPath
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer, Carriers
from peer.remote.path import Path


class AgentServer(Protocol):
    """The part of `CoapsServer` that an agent uses."""

    def attach(self, path: PathSocket, expected: Fingerprint) -> PeerAddress:
        """Serve a session of one key on a path."""

    def unused_seconds(self, peer: PeerAddress) -> float:
        """Return how long a path has been silent; 0 while its session is in use."""


class AgentPath:
    """A path that the rendezvous has opened. It gathers both carriers at once.

    Args:
        opened: what the rendezvous asks for.
        server: serves the session.
        make: returns what makes the carriers, by what is known of the network now.
        limits: the bounds.
        counters: counts dropped datagrams, by kind.
        on_gathered: called for each carrier, with this side's half; None if there is none.
        on_change: called when a carrier works or is lost, and when the path has ended.
    """

    def __init__(
        self,
        opened: OpenPath,
        *,
        server: AgentServer,
        make: Callable[[], MakeCarrier],
        limits: RemoteLimits,
        counters: Counter[str],
        on_gathered: Callable[[CarrierKind, CarrierOffer | None], None],
        on_change: Callable[["AgentPath"], None],
    ) -> None:
        self.path_id = opened.path_id
        self.key = opened.key
        self._server = server
        self._make = make
        self._limits = limits
        self._on_gathered = on_gathered
        self._on_change = on_change
        self._opened_at = asyncio.get_running_loop().time()
        self._path = Path(
            opened.path_keys,
            is_client=False,
            limits=limits,
            counters=counters,
            on_change=self._changed,
        )
        self._attempt = 0
        self._sets: list[CarrierSet] = []
        self._gather(opened.remote)
        self._peer = server.attach(self._path, opened.key)

    @property
    def is_live(self) -> bool:
        """True while a carrier works."""
        return self._path.is_live

    @property
    def is_closed(self) -> bool:
        """True once the path has ended."""
        return self._path.is_closed

    @property
    def unused_seconds(self) -> float:
        """How long its session has been silent; 0 while that is in use."""
        return self._server.unused_seconds(self._peer)

    def renew(self, remote: Carriers) -> None:
        """Gather new carriers. Those that work stay until a new one is used."""
        self._attempt += 1
        self._sets[-1].close()
        self._gather(remote)

    def add_remote(self, kind: CarrierKind, offer: CarrierOffer) -> None:
        """Connect a carrier with the client's half."""
        self._sets[-1].add_remote(kind, offer)

    def end(self) -> None:
        """End the path with its session. Safe to repeat."""
        self._path.end()

    async def wait_closed(self) -> None:
        """Wait until every carrier is closed, after the end."""
        await asyncio.gather(*(one.wait_closed() for one in self._sets), self._path.wait_closed())

    def view(self, now: float) -> PathView:
        """Return what the agent shows of it."""
        return PathView(
            self.key,
            self._path.route,
            self._path.remote_address,
            self._path.is_live,
            now - self._opened_at,
        )

    def _gather(self, remote: Carriers) -> None:
        carriers = CarrierSet(
            tuple(CarrierKind),
            make=self._make(),
            limits=self._limits,
            on_gathered=self._on_gathered,
            relay_head_seconds=self._limits.relay_head_seconds,
        )
        carriers.use(self._path, attempt=self._attempt)
        for kind, offer in remote.items():
            carriers.add_remote(kind, offer)
        self._sets = [one for one in self._sets if one.is_busy]
        self._sets.append(carriers)

    def _changed(self) -> None:
        if self._path.is_closed:
            self._sets[-1].close()
        self._on_change(self)
