"""The tunnels of this device: TCP connections to its services, over the sessions of its users.

A client names a service and gets a tunnel (`open`), which belongs to its session. Each TCP
connection is then a stream of that session (`peer.remote.streams`): its header names the tunnel,
and the right is decided again. The end of a session, by a revocation for example, ends all of it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from device_app.limits import TUNNEL_SPARE_SECONDS
from peer.errors import Malformed
from peer.identity import Identity
from peer.net.address import connect_failure
from peer.net.association import Association
from peer.net.remote import CoapsRemote, PeerIdentity
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.stream_copy import Pair, join
from peer.remote.streams import StreamServer
from peer.remote.streams_header import HEADER_BYTES, TUNNEL_ID_BYTES, StreamHeader, StreamOutcome

_log = logging.getLogger("handfast.tunnels")

RandomBytes = Callable[[int], bytes]
IsAllowed = Callable[[PeerIdentity, str], bool]


class NoSuchService(Exception):
    """The device has no service of this name."""


class TooManyTunnels(Exception):
    """The session has as many tunnels as it may have."""


class ServiceDown(Exception):
    """The service does not accept TCP connections; the message says why."""


@dataclass(slots=True, eq=False)
class Tunnel:
    """A tunnel of one session. `spare` is an unused connection, for its next stream."""

    id: bytes
    service: str
    spare: Pair | None = None

    def keep_spare(self, connection: Pair) -> None:
        """Keep an unused connection for the next stream, in place of another one."""
        self.close_spare()
        self.spare = connection

    def take_spare(self) -> Pair | None:
        """Return the spare connection if the service has not closed it."""
        spare, self.spare = self.spare, None
        if spare is not None and (spare[0].at_eof() or spare[1].is_closing()):
            spare[1].close()
            return None
        return spare

    def close_spare(self) -> None:
        """Close the spare connection."""
        spare, self.spare = self.spare, None
        if spare is not None:
            spare[1].close()


class _Session:
    """The tunnels of one session."""

    def __init__(self, remote: CoapsRemote) -> None:
        self.remote = remote
        self.tunnels: dict[bytes, Tunnel] = {}

    def of(self, service: str) -> Tunnel | None:
        """Return the tunnel to a service."""
        return next((one for one in self.tunnels.values() if one.service == service), None)


class Tunnels:
    """The tunnels of all sessions.

    Args:
        identity: the device's key.
        services: the address of each service, HOST:PORT, by its name.
        is_allowed: decides whether a peer may connect to a service now; a refusal is an event.
        random_bytes: makes the IDs of tunnels.
        limits: bounds and timeouts.
    """

    def __init__(
        self,
        identity: Identity,
        services: Mapping[str, str],
        *,
        is_allowed: IsAllowed,
        random_bytes: RandomBytes,
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
        counters: Counter[str] | None = None,
    ) -> None:
        self.services = services
        self._is_allowed = is_allowed
        self._random_bytes = random_bytes
        self._limits = limits
        self._sessions: dict[Association, _Session] = {}
        self._streams = StreamServer(
            identity, self._serve, limits=limits, counters=counters, on_end=self._session_ended
        )

    @property
    def open_streams(self) -> int:
        """The number of open TCP connections."""
        return self._streams.open_streams

    async def open(self, remote: CoapsRemote, service: str) -> Tunnel:
        """Return the tunnel of a session to a service, after a dial that showed that it answers.

        Raises:
            NoSuchService: the device has none of this name.
            TooManyTunnels: the session has too many.
            ServiceDown: the service does not accept the connection.
        """
        if service not in self.services:
            raise NoSuchService
        self._check_room(remote.association, service)
        dialled = await self._dial(service)
        try:
            tunnel = self._tunnel(remote, service)
        except (TooManyTunnels, ServiceDown):
            dialled[1].close()
            raise
        tunnel.keep_spare(dialled)
        asyncio.get_running_loop().call_later(TUNNEL_SPARE_SECONDS, _close_spare, tunnel, dialled)
        return tunnel

    def _check_room(self, association: Association, service: str) -> None:
        """Raise `TooManyTunnels` if a session can have no tunnel to this service."""
        session = self._sessions.get(association)
        if session is None or session.of(service) is not None:
            return
        if len(session.tunnels) >= self._limits.tunnels_per_session:
            raise TooManyTunnels

    def _tunnel(self, remote: CoapsRemote, service: str) -> Tunnel:
        """Return the tunnel of a session to a service, from now on if it has none."""
        if not remote.association.established:  # it ended during the dial
            raise ServiceDown("the session has ended")
        self._check_room(remote.association, service)
        self._streams.arm(remote.association)
        session = self._sessions.setdefault(remote.association, _Session(remote))
        if (known := session.of(service)) is not None:
            return known
        tunnel = Tunnel(self._random_bytes(TUNNEL_ID_BYTES), service)
        session.tunnels[tunnel.id] = tunnel
        return tunnel

    def close(self) -> None:
        """End all tunnels."""
        self._streams.close()

    async def _dial(self, service: str) -> Pair:
        """Connect to a service. Raises `ServiceDown`."""
        host, _, port = self.services[service].rpartition(":")
        try:
            async with asyncio.timeout(self._limits.dial_seconds):
                return await asyncio.open_connection(host.strip("[]"), int(port))
        except TimeoutError as error:
            raise ServiceDown(f"no answer within {self._limits.dial_seconds:g} s") from error
        except OSError as error:
            raise ServiceDown(connect_failure(error)) from error

    async def _serve(
        self, association: Association, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one stream: authenticate its header, decide, connect, and copy."""
        try:
            found = await self._admit_untrusted(association, reader)
            if isinstance(found, StreamOutcome):
                writer.write(bytes((found,)))
                return
            with suppress(OSError):
                writer.write(bytes((StreamOutcome.OPEN,)))
            await join((reader, writer), found)
        except (OSError, EOFError, Malformed, TimeoutError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _admit_untrusted(
        self, association: Association, reader: asyncio.StreamReader
    ) -> StreamOutcome | Pair:
        """Return the connection for a stream, or why there is none."""
        async with asyncio.timeout(self._limits.stream_header_seconds):
            header = StreamHeader.parse_untrusted(await reader.readexactly(HEADER_BYTES))
        session = self._sessions.get(association)
        tunnel = session.tunnels.get(header.tunnel_id) if session is not None else None
        is_of_session = header.is_of_session(association.session.exporter)
        if session is None or tunnel is None or not is_of_session:
            self._streams.counters["streams-unknown-tunnel"] += 1
            return StreamOutcome.UNKNOWN
        if not self._is_allowed(session.remote.peer, tunnel.service):
            return StreamOutcome.DENIED
        if self._streams.open_streams > self._limits.streams:
            self._streams.counters["streams-no-room"] += 1
            return StreamOutcome.NO_ROOM
        try:
            return tunnel.take_spare() or await self._dial(tunnel.service)
        except ServiceDown as error:
            _log.info("the service %s does not answer: %s", tunnel.service, error)
            return StreamOutcome.REFUSED

    def _session_ended(self, association: Association) -> None:
        session = self._sessions.pop(association, None)
        if session is not None:
            for tunnel in session.tunnels.values():
                tunnel.close_spare()


def _close_spare(tunnel: Tunnel, dialled: Pair) -> None:
    if tunnel.spare is dialled:
        tunnel.close_spare()
