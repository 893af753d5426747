"""The drivers of remote reach on a real network. Importing this module needs the extra `remote`.

The drivers take brokers, carriers and probes as arguments; here they get `broker`, `ice` and
`stun_probe`.
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from peer.fingerprint import Fingerprint
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.interfaces import InterfaceWatch
from peer.net.session_route import SessionRoute
from peer.remote.agent import RemoteAgent
from peer.remote.agent_needs import AgentNeeds
from peer.remote.agent_path import AgentServer
from peer.remote.agent_view import AgentSettings, NetworkFacts
from peer.remote.broker import Broker
from peer.remote.carrier_set import MakeCarrier
from peer.remote.ice import IceServers
from peer.remote.ice_carrier import IceCarrier
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.messages import CarrierKind
from peer.remote.route import RemoteRoute
from peer.remote.route_steps import RouteStep
from peer.remote.settings import RemoteSettings, Server
from peer.remote.stun_probe import probe_network


def create_agent(
    server: AgentServer,
    needs: AgentNeeds,
    *,
    limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
    local_addresses: Sequence[str] | None = None,
) -> RemoteAgent:
    """Return an agent that is off until `apply`; `RemoteAgent` describes the arguments.

    `local_addresses` are the addresses of this machine to use; by default all of them.
    """
    return RemoteAgent(
        server,
        needs,
        connect=_connect_broker(limits),
        carriers=partial(_device_carriers, local_addresses),
        probe=_probe,
        watch_links=InterfaceWatch,
        random_bytes=secrets.token_bytes,
        limits=limits,
    )


async def open_session(
    settings: RemoteSettings,
    *,
    coaps: CoapsClient,
    pinned: Fingerprint,
    via: Collection[SessionRoute],
    on_step: Callable[[RouteStep], None],
    on_addresses: Callable[[Sequence[str]], None],
    on_revision: Callable[[int], None],
    limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
    local_addresses: Sequence[str] | None = None,
) -> CoapsConnection:
    """Open a session over a path, which is kept alive as long as the session is open.

    `RemoteRoute` describes the arguments, and the errors of `RemoteRoute.open` are raised. If it is
    cancelled, everything is freed. `local_addresses` are the addresses of this machine to use; by
    default all of them.
    """
    route = RemoteRoute(
        settings,
        coaps=coaps,
        pinned=pinned,
        connect=_connect_broker(limits),
        carriers=_client_carriers(local_addresses, settings),
        watch_links=InterfaceWatch,
        random_bytes=secrets.token_bytes,
        via=via,
        on_step=on_step,
        on_addresses=on_addresses,
        on_revision=on_revision,
        limits=limits,
    )
    return await route.open()


def _connect_broker(
    limits: RemoteLimits,
) -> Callable[[Server], AbstractAsyncContextManager[Broker]]:
    return partial(Broker.connect, keep_alive=limits.keep_alive_seconds)


def _device_carriers(
    local_addresses: Sequence[str] | None, settings: AgentSettings, network: NetworkFacts
) -> MakeCarrier:
    """Return what makes a device's carriers.

    Its second carrier goes to the client's relay from an own port: one allocation is paid, not two.
    It allocates one of its own unless it knows that UDP gets out.
    """
    needs_relay = not network.has_udp and bool(settings.turn)

    def make(
        kind: CarrierKind, *, on_datagram: Callable[[bytes], None], on_lost: Callable[[], None]
    ) -> IceCarrier:
        relay_only = kind is CarrierKind.RELAY and needs_relay
        turn = settings.turn if relay_only else ()
        return IceCarrier(
            kind,
            controlling=False,
            servers=IceServers(settings.stun, turn, has_udp=network.has_udp is not False),
            relay_only=relay_only,
            on_datagram=on_datagram,
            on_lost=on_lost,
            local_addresses=local_addresses,
        )

    return make


def _client_carriers(
    local_addresses: Sequence[str] | None, settings: RemoteSettings
) -> MakeCarrier:
    """Return what makes a client's carriers: the second one is an allocation at a relay."""

    def make(
        kind: CarrierKind, *, on_datagram: Callable[[bytes], None], on_lost: Callable[[], None]
    ) -> IceCarrier:
        relay_only = kind is CarrierKind.RELAY
        return IceCarrier(
            kind,
            controlling=True,
            servers=IceServers(settings.stun, settings.turn if relay_only else ()),
            relay_only=relay_only,
            on_datagram=on_datagram,
            on_lost=on_lost,
            local_addresses=local_addresses,
        )

    return make


async def _probe(settings: AgentSettings) -> NetworkFacts:
    """Ask the STUN servers. Without any, nothing is known."""
    if not settings.stun:
        return NetworkFacts()
    found = await probe_network(settings.stun)
    return NetworkFacts(found.public_address, found.has_udp)
