"""A device with a remote agent, and a client: real DTLS over a broker and carriers in memory."""

import secrets
from collections.abc import Callable, Collection
from typing import Any

from peer.fingerprint import Fingerprint
from peer.identity import Identity
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import SessionRoute
from peer.remote.agent import RemoteAgent
from peer.remote.agent_needs import AgentNeeds
from peer.remote.agent_view import AgentSettings, NetworkFacts
from peer.remote.limits import RemoteLimits
from peer.remote.messages import RefusalReason
from peer.remote.pair_keys import PairKeys, pair_secret
from peer.remote.route import RemoteRoute
from peer.remote.route_steps import RouteStep
from peer.remote.settings import RemoteSettings, Server
from peer.secret import Secret
from tests.kit.memory_remote import MemoryBroker, MemoryIce
from tests.kit.serve import Served, Servers
from tests.kit.waiting import until

LIMITS = RemoteLimits(
    relay_head_seconds=0.0,
    relay_linger_seconds=0.05,
    attach_max_seconds=0.01,
)
BOTH = frozenset({SessionRoute.DIRECT, SessionRoute.RELAY})
PREFIX = "hf1/home"


class Refusals(dict[Fingerprint, RefusalReason]):
    """The keys that are refused. `fails` makes the decision fail with an internal error."""

    fails = False

    def of(self, key: Fingerprint) -> RefusalReason | None:
        if self.fails:
            raise LookupError("an internal error")
        return self.get(key)


class Watch:
    """A watch of links that a test fires by hand."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.fire = on_change

    def close(self) -> None:
        """Nothing is open."""


class RemotePair:
    """A device, its agent, and one client key."""

    def __init__(self, servers: Servers, served: Served, limits: RemoteLimits) -> None:
        self.servers = servers
        self.served = served
        self.limits = limits
        self.brokers = {"mqtts://one.example": MemoryBroker()}
        self.ice = MemoryIce()
        self.client = Identity.create()
        self.coaps = CoapsClient(self.client)
        self.master = Secret(secrets.token_bytes(32))
        self.refusals = Refusals()
        self.attached: list[str] = []
        self.detached: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.steps: list[RouteStep] = []
        self.addresses: list[str] = []
        self.revisions: list[int] = []
        self.watches: list[Watch] = []
        self.has_udp = True
        self.agent = RemoteAgent(
            served.server,
            AgentNeeds(
                may_connect=self.refusals.of,
                revision=lambda _key: 77,
                addresses=lambda: ["192.0.2.1:5684"],
                on_attached=lambda server: self.attached.append(server.url),
                on_detached=lambda server, why: self.detached.append((server.url, why)),
                on_failed=lambda server, why: self.failed.append((server.url, why)),
            ),
            connect=self.connect,
            carriers=lambda _settings, _network: self.ice.maker("203.0.113.7"),
            probe=self._probe,
            watch_links=self.watch,
            random_bytes=secrets.token_bytes,
            limits=limits,
        )

    @classmethod
    async def start(cls, limits: RemoteLimits = LIMITS) -> "RemotePair":
        """Start the device, and attach it to its broker."""
        servers = Servers(Identity.create())
        pair = cls(servers, await servers.start(), limits)
        pair.allow(pair.client.fingerprint)
        await pair.agent.apply(pair.settings())
        await until(lambda: pair.attached)
        return pair

    @property
    def broker(self) -> MemoryBroker:
        """The only broker."""
        (broker,) = self.brokers.values()
        return broker

    def connect(self, server: Server) -> Any:
        return self.brokers[server.url].connect(server)

    def watch(self, on_change: Callable[[], None]) -> Watch:
        self.watches.append(Watch(on_change))
        return self.watches[-1]

    async def _probe(self, _settings: AgentSettings) -> NetworkFacts:
        return NetworkFacts(None, has_udp=self.has_udp)

    def settings(self) -> AgentSettings:
        """The settings of the agent."""
        return AgentSettings(prefix=PREFIX, brokers=tuple(Server(url) for url in self.brokers))

    def allow(self, *keys: Fingerprint) -> None:
        """Let these keys connect, and no others."""
        self.agent.set_clients({key: PairKeys(self.secret(key)) for key in keys})

    def secret(self, key: Fingerprint) -> Secret[bytes]:
        """The pair secret of a key."""
        return pair_secret(self.master, 0, key)

    def route(
        self,
        *,
        secret: Secret[bytes] | None = None,
        coaps: CoapsClient | None = None,
        via: Collection[SessionRoute] = BOTH,
        pinned: Fingerprint | None = None,
    ) -> RemoteRoute:
        """A route of the client, or of another one that has a secret."""
        return RemoteRoute(
            RemoteSettings(
                secret=secret or self.secret(self.client.fingerprint),
                prefix=PREFIX,
                brokers=tuple(Server(url) for url in self.brokers),
            ),
            coaps=coaps or self.coaps,
            pinned=pinned or self.served.identity.fingerprint,
            connect=self.connect,
            carriers=self.ice.maker("198.51.100.3"),
            watch_links=self.watch,
            random_bytes=secrets.token_bytes,
            via=via,
            on_step=self.steps.append,
            on_addresses=self.addresses.extend,
            on_revision=self.revisions.append,
            limits=self.limits,
        )

    async def open(self, **options: Any) -> CoapsConnection:
        """Open a session over a path."""
        return await self.route(**options).open()

    async def close(self) -> None:
        """Close both sides, and check that nothing is left open."""
        await self.coaps.close()
        await self.agent.close()
        await self.servers.close()
        await until(lambda: not self.broker_connections())
        await until(lambda: not self.ice.open_carriers())

    def broker_connections(self) -> int:
        """The number of open connections with brokers."""
        return sum(len(broker.connections) for broker in self.brokers.values())
