"""Remote reach over real sockets of loopback: the agent of a device, and sessions with it."""

from collections.abc import Callable, Collection

from peer.fingerprint import Fingerprint
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.server import CoapsServer
from peer.net.session_route import SessionRoute
from peer.remote.agent import RemoteAgent
from peer.remote.agent_needs import AgentNeeds
from peer.remote.agent_view import AgentSettings, LinkState
from peer.remote.limits import RemoteLimits
from peer.remote.network import create_agent, open_session
from peer.remote.pair_keys import PairKeys
from peer.remote.route_steps import RouteStep
from peer.remote.settings import RemoteSettings
from tests.kit.carriers import LOOPBACK
from tests.kit.waiting import until


def _ignore(*_: object) -> None:
    """Take what no test looks at."""


async def start_agent(
    server: CoapsServer, settings: RemoteSettings, client: Fingerprint, *, limits: RemoteLimits
) -> RemoteAgent:
    """Attach a device to its broker, for one client, by the settings of that client."""
    needs = AgentNeeds(
        may_connect=lambda _key: None,
        revision=lambda _key: settings.revision,
        addresses=list,
        on_attached=_ignore,
        on_detached=_ignore,
        on_failed=_ignore,
    )
    agent = create_agent(server, needs, limits=limits, local_addresses=[LOOPBACK])
    agent.set_clients({client: PairKeys(settings.secret)})
    await agent.apply(
        AgentSettings(
            prefix=settings.prefix,
            brokers=settings.brokers,
            stun=settings.stun,
            turn=settings.turn,
        )
    )
    await until(lambda: agent.view().state is LinkState.ATTACHED)
    return agent


async def connect(
    settings: RemoteSettings,
    coaps: CoapsClient,
    pinned: Fingerprint,
    via: Collection[SessionRoute],
    *,
    limits: RemoteLimits,
    on_step: Callable[[RouteStep], None] = _ignore,
) -> CoapsConnection:
    """Open a session over a path."""
    return await open_session(
        settings,
        coaps=coaps,
        pinned=pinned,
        via=via,
        on_step=on_step,
        on_addresses=_ignore,
        on_revision=_ignore,
        limits=limits,
        local_addresses=[LOOPBACK],
    )
