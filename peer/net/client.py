"""CoAP client over DTLS: one connected socket and one session per device.

The pinned fingerprint is verified in the handshake: with a wrong key, no byte of a request is sent.
Without a pin (in pairing), the caller verifies the fingerprint. A later connection to the same key
resumes the earlier session if the device allows it.
"""

import asyncio
import math
from collections import Counter
from typing import Self

from peer.bounded_dict import BoundedDict
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession, Ticket
from peer.errors import HandshakeFailed, PeerError, TimedOut
from peer.identity import Fingerprint, Identity
from peer.limits import CONNECT_ROUND_TRIPS, DEFAULT_LIMITS, FREEING_SECONDS, Limits
from peer.net.address import Address
from peer.net.association import Association
from peer.net.coaps import CoapsLayer
from peer.net.connection import ClientLink, CoapsConnection
from peer.net.datagram import Net
from peer.net.session_route import PATH_MTU, PathSocket
from peer.net.tasks import cancel_all
from peer.net.udp import UdpSocket


class CoapsClient:
    """Connects to devices with one identity. Close it, or use it as an async context manager.

    `counters` has what was dropped, by kind.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        limits: Limits = DEFAULT_LIMITS,
        ccm8: bool = False,
        net: Net = UdpSocket,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._limits = limits
        self._net = net
        self._dtls = ClientContext(identity, ccm8=ccm8)
        self._layer = CoapsLayer(site=None, limits=limits, counters=self.counters)
        self._links: set[ClientLink] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._tickets: BoundedDict[Fingerprint, Ticket | None] = BoundedDict(
            limits.resumable_sessions
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def connect(
        self,
        address: Address,
        *,
        pinned: Fingerprint | None,
        timeout: float | None = None,
    ) -> CoapsConnection:
        """Open a session; with `pinned`, only with the holder of that key.

        Raises `Unreachable` (`refused` if the host says that nothing listens), `HandshakeFailed`,
        `PinMismatch`, or `TimedOut` after `timeout` seconds (by default `Limits.connect_seconds`,
        and longer if the first answer shows that the path is slow).
        """
        try:
            async with asyncio.timeout(
                self._limits.connect_seconds if timeout is None else timeout
            ) as limit:
                pace = _Pace(self._limits, limit, is_fixed=timeout is not None)
                link, association = await self._first_of_several(address, pinned, pace)
        except TimeoutError as error:
            raise pace.timed_out(str(address)) from error
        connection = self._connection(link, association)
        fingerprint = association.session.peer_fingerprint
        if fingerprint is not None:
            self._tickets[fingerprint] = association.session.ticket
        return connection

    async def connect_over(
        self, path: PathSocket, *, pinned: Fingerprint, timeout: float | None = None
    ) -> CoapsConnection:
        """Open a session with the holder of a key over a remote path.

        There is one handshake, without a cookie exchange, and no earlier session is resumed. The
        path is closed with the session, and if there is none.

        Raises what `connect` raises; `Unreachable` if the path ends.
        """
        try:
            async with asyncio.timeout(
                self._limits.connect_seconds if timeout is None else timeout
            ) as limit:
                pace = _Pace(self._limits, limit, is_fixed=timeout is not None)
                link, association = await self._handshake(path, pinned, pace, mtu=PATH_MTU)
        except TimeoutError as error:
            raise pace.timed_out("the device") from error
        return self._connection(link, association)

    def _connection(self, link: ClientLink, association: Association) -> CoapsConnection:
        remote = self._layer.remotes.get(association)
        if remote is None:
            raise HandshakeFailed(
                f"{link.peer_text} closed the session immediately",
                advice="It may have too many sessions. Try again in a minute.",
            )
        self._links = {one for one in self._links if one.is_open} | {link}
        return CoapsConnection(link, remote, self._layer, self._limits)

    async def _first_of_several(
        self, address: Address, pinned: Fingerprint | None, pace: "_Pace"
    ) -> tuple[ClientLink, Association]:
        """Return the first handshake that completes.

        OpenSSL doubles its retransmission timeout with each loss, so further handshakes start in
        parallel to a slow one.
        """
        tries = {asyncio.create_task(self._handshake(address, pinned, pace))}
        done: set[asyncio.Task[tuple[ClientLink, Association]]] = set()
        try:
            while not done:
                done, _ = await asyncio.wait(
                    tries,
                    timeout=pace.again_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done and len(tries) < self._limits.handshake_attempts:
                    tries.add(asyncio.create_task(self._handshake(address, pinned, pace)))
            first = done.pop()
            tries.discard(first)
            return first.result()
        finally:
            for outcome in await cancel_all(tries):
                if isinstance(outcome, tuple):  # completed as well; one is enough
                    outcome[0].close()

    async def _handshake(
        self,
        to: Address | PathSocket,
        pinned: Fingerprint | None,
        pace: "_Pace",
        *,
        mtu: int | None = None,
    ) -> tuple[ClientLink, Association]:
        link = ClientLink(
            to,
            layer=self._layer,
            counters=self.counters,
            net=self._net,
            on_round_trip=pace.note_round_trip,
        )
        ticket: Ticket | None = None
        if pinned is not None and isinstance(to, Address):
            ticket = self._tickets.pop(pinned, None)
        mtu = min(self._limits.payload_mtu, mtu or self._limits.payload_mtu)
        try:
            link.start(DtlsSession.client(self._dtls, mtu=mtu, pinned=pinned, resume=ticket))
            return link, await link.outcome
        except (PeerError, asyncio.CancelledError):
            link.close()
            raise

    def hold(self, task: asyncio.Task[None]) -> None:
        """Wait for a task at the end of `close`: one that frees what is below a session."""
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End every connection. Safe to repeat."""
        links = [*self._links]
        self._links.clear()
        for link in links:
            link.close()
        await self._layer.close()
        await asyncio.gather(*(link.wait_closed() for link in links))
        if self._ending:
            await asyncio.wait(self._ending, timeout=FREEING_SECONDS)


class _Pace:
    """How long to wait for a session, and for further handshakes: longer on a slow path.

    The first answer of a device, a HelloVerifyRequest, needs no computation. The time that it takes
    is that of a round trip, and at most that of a retransmission too long.
    """

    def __init__(self, limits: Limits, limit: asyncio.Timeout, *, is_fixed: bool) -> None:
        self.again_seconds = limits.handshake_again_seconds
        self._limits = limits
        self._limit = limit
        self._is_fixed = is_fixed
        self._began = asyncio.get_running_loop().time()

    def note_round_trip(self, seconds: float) -> None:
        """Note the time from a ClientHello to the first datagram of the device."""
        self.again_seconds = max(self.again_seconds, 2 * seconds)
        end = self._began + min(CONNECT_ROUND_TRIPS * seconds, self._limits.handshake_seconds)
        if not self._is_fixed and end > (self._limit.when() or math.inf):
            self._limit.reschedule(end)

    def timed_out(self, peer: str) -> TimedOut:
        """Return the error for a session that was not established in time."""
        seconds = (self._limit.when() or math.inf) - self._began
        return TimedOut(
            f"{peer} did not answer within {seconds:.3g} s",
            advice="Check that the device is on and that no firewall blocks UDP.",
        )
