"""The pairing port: a CoAPs server that is there exactly as long as the window needs it.

Opening and closing sockets takes time, in which the window may change its mind. So nobody opens or
closes: `reconcile` looks, under a lock, whether the port is wanted *now*, and makes it so.
"""

import asyncio
from collections.abc import Callable, Sequence

from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.coaps import CoapsServer, SessionInfo
from peer.net.onlink import Locality
from peer.net.site import GuardedSite
from peer.net.udp import Net


class PairingPort:
    """Owns the server. `is_wanted` says whether it has to be there; `on_gone` is told its end."""

    #: What to serve; set by the app before the first opening.
    site: GuardedSite

    def __init__(
        self,
        identity: Identity,
        *,
        listen: Sequence[tuple[str, int]],
        locality: Locality,
        limits: Limits,
        ccm8: bool,
        net: Net,
        priority: Callable[[Fingerprint], SessionPriority],
        is_wanted: Callable[[], bool],
        on_gone: Callable[[], None],
        on_session_end: Callable[[int], None],
    ) -> None:
        self.limits = limits
        self.server: CoapsServer | None = None
        self._identity = identity
        self._listen = listen
        self._locality = locality
        self._ccm8 = ccm8
        self._net = net
        self._priority = priority
        self._is_wanted = is_wanted
        self._on_gone = on_gone
        self._on_session_end = on_session_end
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """The bound port; 0 while there is none."""
        return self.server.port if self.server is not None else 0

    def sessions(self) -> list[SessionInfo]:
        """The sessions of whoever is pairing."""
        return self.server.sessions() if self.server is not None else []

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End the sessions of some keys."""
        return self.server.end_sessions(which) if self.server is not None else 0

    async def reconcile(self) -> None:
        """Open or close the port as it is wanted at this moment. Raises `PeerError`."""
        async with self._lock:
            wanted, server = self._is_wanted(), self.server
            if wanted and server is None:
                self.server = await CoapsServer.start(
                    self.site,
                    identity=self._identity,
                    listen=self._listen,
                    locality=self._locality,
                    priority=self._priority,
                    limits=self.limits,
                    pairing=True,
                    ccm8=self._ccm8,
                    net=self._net,
                    on_session_end=self._on_session_end,
                )
            elif not wanted and server is not None:
                self.server = None
                await server.close()
                self._on_gone()

    def schedule_close(self) -> None:
        """Close it soon, for those who cannot wait."""
        if self.server is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self.reconcile(), name="pairing port")

    async def close(self) -> None:
        """Close it, and leave no task behind."""
        if self._task is not None:
            await self._task
        await self.reconcile()
