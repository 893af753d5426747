"""The pairing port: a CoAPs server that runs only while the pairing window needs it.

Opening and closing sockets takes time, in which the window may change. So no caller opens or closes
the port itself: `reconcile` checks under a lock whether it is needed now, and makes it so.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from device_app.limits import SILENCE_SPARE_SECONDS
from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.datagram import Net
from peer.net.onlink import Locality
from peer.net.server import CoapsServer, SessionInfo
from peer.net.site import GuardedSite


class PortUser(Protocol):
    """The state of the pairing window, as the port needs it."""

    def needs_port(self) -> bool:
        """Return whether the port has to be open now."""

    def priority(self, fingerprint: Fingerprint) -> SessionPriority:
        """Return the priority of a key's session on the pairing port."""

    def session_ended(self, session_id: int) -> None:
        """Take note that a session of the pairing port has ended."""


def port_limits(limits: Limits) -> Limits:
    """Return the limits of the pairing port; its sessions may be silent while people compare."""
    return replace(
        limits,
        unpaired_idle_seconds=limits.person_seconds + SILENCE_SPARE_SECONDS,
        request_body_bytes=limits.pairing_body_bytes,
    )


class PairingPort:
    """Owns the server of the pairing port; publishes GONE when it has closed.

    `counters` are those of its servers since the start of the device, by kind.
    """

    def __init__(
        self,
        user: PortUser,
        site: GuardedSite,
        identity: Identity,
        *,
        events: PairingEvents,
        listen: Sequence[tuple[str, int]],
        locality: Locality,
        limits: Limits,
        ccm8: bool,
        net: Net,
    ) -> None:
        self.site = site
        self.server: CoapsServer | None = None
        self.counters: Counter[str] = Counter()
        self._user = user
        self._identity = identity
        self._events = events
        self._listen = listen
        self._locality = locality
        self._limits = limits
        self._ccm8 = ccm8
        self._net = net
        self._lock = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """The bound port; 0 while it is closed."""
        return self.server.port if self.server is not None else 0

    def sessions(self) -> list[SessionInfo]:
        """Return the sessions of the clients that are pairing."""
        return self.server.sessions() if self.server is not None else []

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End the sessions of some keys, and return how many."""
        return self.server.end_sessions(which) if self.server is not None else 0

    async def reconcile(self) -> None:
        """Open or close the port to match the window. Raises `PeerError` if it cannot be bound."""
        async with self._lock:
            needed, server = self._user.needs_port(), self.server
            if needed and server is None:
                self.server = await CoapsServer.start(
                    self.site,
                    identity=self._identity,
                    listen=self._listen,
                    locality=self._locality,
                    priority=self._user.priority,
                    limits=self._limits,
                    pairing=True,
                    ccm8=self._ccm8,
                    net=self._net,
                    on_session_end=self._user.session_ended,
                    counters=self.counters,
                )
            elif not needed and server is not None:
                self.server = None
                await server.close()
                self._events.publish(PairingEvent(PairingEventKind.GONE))

    def schedule_close(self) -> None:
        """Reconcile soon, for callers that cannot wait."""
        if self.server is not None and (self._closing is None or self._closing.done()):
            self._closing = asyncio.create_task(self.reconcile(), name="close the pairing port")

    async def close(self) -> None:
        """Close the port, which the window must not need any more, and leave no task behind."""
        if self._closing is not None:
            await self._closing
        await self.reconcile()
