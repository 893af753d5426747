"""A CoAP server over DTLS: the device's regular port, or its pairing port."""

from __future__ import annotations  # `Locality` imports kernel tables, which only a device needs

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from peer.limits import DEFAULT_LIMITS
from peer.net.coaps import CoapsLayer
from peer.net.endpoint import Endpoint
from peer.net.site import GuardedSite
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from aiocoap import interfaces

    from peer.identity import Fingerprint, Identity
    from peer.limits import Limits
    from peer.net.address import Address
    from peer.net.admission import SessionPriority
    from peer.net.association import PeerAddress
    from peer.net.datagram import Net
    from peer.net.onlink import Locality
    from peer.net.session_route import PathSocket, SessionRoute


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """An established session. `idle_seconds` is the time since its last datagram.

    `path` is how it reaches the client, and `address` where its datagrams go.
    """

    session_id: int
    fingerprint: Fingerprint
    address: Address
    interface: str
    is_local: bool
    priority: SessionPriority
    idle_seconds: float
    path: SessionRoute


class CoapsServer:
    """A running server. Create it with `start`."""

    def __init__(self, endpoint: Endpoint, layer: CoapsLayer) -> None:
        self._endpoint = endpoint
        self._layer = layer

    @classmethod
    async def start(
        cls,
        site: interfaces.Resource,
        *,
        identity: Identity,
        listen: Sequence[tuple[str, int]],
        locality: Locality,
        priority: Callable[[Fingerprint], SessionPriority],
        limits: Limits = DEFAULT_LIMITS,
        pairing: bool = False,
        ccm8: bool = False,
        net: Net = UdpSocket,
        on_session_end: Callable[[int], None] = lambda _session_id: None,
        counters: Counter[str] | None = None,
        is_direct: bool = True,
    ) -> Self:
        """Listen on UDP and serve a tree of resources.

        Args:
            site: the root resource.
            identity: the device's key.
            listen: hosts and ports; several hosts with port 0 share one port.
            locality: decides whether a datagram is local.
            priority: the priority of a key's sessions.
            limits: the limits of this server.
            pairing: require extended master secret (RFC 7627), and never resume a session.
            ccm8: also offer AES-128-CCM-8, the mandatory suite of RFC 7252 §9.1.3.3.
            net: opens the sockets.
            on_session_end: called with the ID of each session that has ended.
            counters: continues the counters of another server.
            is_direct: answer plain requests without aiocoap. Only tests, which compare, turn it
                off.

        Raises:
            PeerError: an address cannot be bound.
        """
        counters = Counter() if counters is None else counters
        layer = CoapsLayer(
            site=site,
            limits=limits,
            counters=counters,
            direct_site=site if is_direct and isinstance(site, GuardedSite) else None,
            interface_name=locality.interface_name,
            on_session_end=on_session_end,
        )
        endpoint = Endpoint(
            identity,
            upper=layer,
            locality=locality,
            limits=limits,
            priority=priority,
            counters=counters,
            pairing=pairing,
            ccm8=ccm8,
            net=net,
        )
        endpoint.bind(listen)
        return cls(endpoint, layer)

    @property
    def port(self) -> int:
        """The bound UDP port."""
        return self._endpoint.addresses[0].port

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses."""
        return self._endpoint.addresses

    def is_serving(self) -> bool:
        """Return whether every socket is open and read."""
        return self._endpoint.is_serving()

    @property
    def counters(self) -> Counter[str]:
        """Counters of events and dropped datagrams since the start, by kind."""
        return self._endpoint.counters

    def sessions(self) -> list[SessionInfo]:
        """Return the established sessions, least recently active first."""
        now = asyncio.get_running_loop().time()
        found = []
        for association in self._endpoint.associations():
            remote = self._layer.remotes[association]
            peer = remote.peer
            found.append(
                SessionInfo(
                    remote.number,
                    peer.fingerprint,
                    peer.address,
                    peer.interface,
                    peer.is_local,
                    self._endpoint.priority_of(association),
                    now - association.last_seen,
                    peer.path,
                )
            )
        return found

    def attach(self, path: PathSocket, expected: Fingerprint) -> PeerAddress:
        """Serve one session with the key `expected` on a remote path; see `Endpoint.attach`."""
        return self._endpoint.attach(path, expected)

    def unused_seconds(self, peer: PeerAddress) -> float:
        """Return how long an attached path has been silent; 0 while its session is in use.

        A session with a request, an observation or a stream is in use.
        """
        return self._endpoint.unused_seconds(peer)

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End the sessions, requests and observations of some keys at once; return how many.

        No session can be resumed afterwards, whatever its key.
        """
        return sum(self._endpoint.ending(which))

    def ending_sessions(self, which: Callable[[Fingerprint], bool]) -> Iterator[int]:
        """Do the same in steps, for a caller that lets other tasks take their turn in between.

        Each step yields how many sessions it has ended. A session that was opened after this call
        stays.
        """
        return self._endpoint.ending(which)

    async def close(self) -> None:
        """End every session with close_notify and free the ports. Safe to repeat."""
        self._endpoint.close()
        await self._layer.close()
