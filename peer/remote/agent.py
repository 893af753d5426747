"""The remote agent of a device: it listens at the brokers, and opens paths for clients.

    BrokerLink, one for each broker ──messages──▶ DeviceRendezvous ──effects──▶ RemoteAgent
                                                                                   │
                             AgentPath: a CarrierSet and a Path ◀──────────────────┘
                                        │
                                  CoapsServer.attach

The agent owns the brokers' connections, the carriers and the paths. Which clients may connect, and
what they may do, is the caller's affair.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import assert_never

from peer.fingerprint import Fingerprint
from peer.limits import ADDRESS_SETTLE_SECONDS
from peer.net.tasks import cancel_all
from peer.remote.agent_needs import AgentNeeds
from peer.remote.agent_path import AgentPath, AgentServer
from peer.remote.agent_view import AgentSettings, AgentView, BrokerView, LinkState, NetworkFacts
from peer.remote.broker_link import BrokerLink, ConnectBroker, RandomBytes
from peer.remote.carrier_set import MakeCarrier
from peer.remote.device_rendezvous import DeviceRendezvous
from peer.remote.effects import AddRemote, DeviceEffect, EndPath, OpenPath, Publish, RenewPath
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.link_watch import WatchLinks
from peer.remote.messages import NONCE_BYTES
from peer.remote.pair_keys import PairKeys, client_topic, device_topic


class RemoteAgent:
    """The device's side of remote reach. Call its methods in the event loop.

    Args:
        server: the server of the regular port.
        needs: what it asks the device, and reports to it.
        connect: opens a connection with a broker.
        carriers: returns what makes the carriers, by the settings and what is known of the network.
        probe: finds out about the network, by the settings; never raises.
        watch_links: calls a function whenever the links of this machine change.
        random_bytes: returns that many random bytes.
        limits: the bounds.
    """

    def __init__(
        self,
        server: AgentServer,
        needs: AgentNeeds,
        *,
        connect: ConnectBroker,
        carriers: Callable[[AgentSettings, NetworkFacts], MakeCarrier],
        probe: Callable[[AgentSettings], Awaitable[NetworkFacts]],
        watch_links: WatchLinks,
        random_bytes: RandomBytes,
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._server = server
        self._needs = needs
        self._connect = connect
        self._carriers = carriers
        self._probe = probe
        self._watch_links = watch_links
        self._random_bytes = random_bytes
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._settings: AgentSettings | None = None
        self._network = NetworkFacts()
        self._clients: dict[str, tuple[Fingerprint, PairKeys]] = {}  # by topic
        self._links: list[BrokerLink] = []
        self._rendezvous: DeviceRendezvous | None = None
        self._paths: dict[bytes, AgentPath] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._follower: asyncio.Task[None] | None = None
        self._probe_due = asyncio.Event()
        self._have_links_changed = False

    # -- what the device tells it ---------------------------------------------------------------

    async def apply(self, settings: AgentSettings | None) -> None:
        """Begin with these settings, or stop for None. Paths of other settings end.

        Nothing happens for the settings that it has already.
        """
        if settings == self._settings:
            return
        await self._stop()
        self._settings = settings
        if settings is None:
            return
        self._rendezvous = DeviceRendezvous(
            prefix=settings.prefix,
            random_bytes=self._random_bytes,
            find=self._clients.get,
            refuse=self._needs.may_connect,
            revision=self._needs.revision,
            addresses=self._needs.addresses,
            limits=self._limits,
        )
        self._links = [self._link(settings, number) for number in range(len(settings.brokers))]
        for link in self._links:
            link.start()
        self._follower = self._loop.create_task(self._follow(settings), name="remote network")
        self._sweep()

    def set_clients(self, clients: Mapping[Fingerprint, PairKeys]) -> None:
        """Listen for these client keys, and for no others, from this turn on.

        It ends no path: call `end_client` for a key that has lost the right.
        """
        self._clients.clear()
        self._clients.update((keys.topic, (key, keys)) for key, keys in clients.items())
        for link in self._links:
            link.topics_changed()

    def end_client(self, key: Fingerprint) -> None:
        """End the attempts, paths and sessions of a client key at once."""
        if self._rendezvous is not None:
            self._act(self._rendezvous.end_client(key, self._loop.time()))

    async def close(self) -> None:
        """End every path, and disconnect from the brokers. Safe to repeat."""
        self._settings = None
        await self._stop()

    def view(self) -> AgentView:
        """Return the present state."""
        now = self._loop.time()
        brokers = tuple(
            BrokerView(link.server.url, link.state, now - link.since, link.why)
            for link in self._links
        )
        order = (LinkState.ATTACHED, LinkState.CONNECTING, LinkState.WAITING, LinkState.OFF)
        best = min(
            brokers,
            key=lambda one: order.index(one.state),
            default=BrokerView("", LinkState.OFF, 0.0, ""),
        )
        return AgentView(
            state=best.state,
            since_seconds=best.since_seconds,
            broker=best.url,
            why=best.why,
            network=self._network,
            brokers=brokers,
            paths=tuple(one.view(now) for one in self._paths.values()),
            counters=self._counts(),
        )

    def _counts(self) -> dict[str, int]:
        dropped = self._rendezvous.dropped if self._rendezvous is not None else {}
        return {**self.counters, **{f"messages-{one}": count for one, count in dropped.items()}}

    async def _stop(self) -> None:
        for timer in (self._timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweep_timer = None
        follower, self._follower = self._follower, None
        if follower is not None:
            await cancel_all([follower])
        self._rendezvous = None
        paths = [*self._paths.values()]
        for path in paths:
            path.end()
        self._paths.clear()
        links, self._links = self._links, []
        await asyncio.gather(*(link.close() for link in links))
        await asyncio.gather(*(path.wait_closed() for path in paths))

    # -- brokers --------------------------------------------------------------------------------

    def _link(self, settings: AgentSettings, number: int) -> BrokerLink:
        return BrokerLink(
            settings.brokers[number],
            connect=self._connect,
            limits=self._limits,
            random_bytes=self._random_bytes,
            topics=lambda: [device_topic(settings.prefix, one) for one in self._clients],
            own_topic=lambda: client_topic(settings.prefix, self._random_bytes(NONCE_BYTES)),
            on_message=lambda topic, data: self._received_untrusted(topic, data, number),
            on_change=self._link_changed,
        )

    def _link_changed(self, link: BrokerLink) -> None:
        match link.state:
            case LinkState.ATTACHED:
                self._probe_due.set()
                self._needs.on_attached(link.server)
            case LinkState.WAITING if link.was_attached:
                self._needs.on_detached(link.server, link.why)
            case LinkState.WAITING:
                self._needs.on_failed(link.server, link.why)
            case _:
                pass

    def _received_untrusted(self, topic: str, data: bytes, number: int) -> None:
        if self._rendezvous is not None:
            now = self._loop.time()
            self._act(self._rendezvous.receive_untrusted(topic, data, now, broker=number))

    # -- effects --------------------------------------------------------------------------------

    def _act(self, effects: Sequence[DeviceEffect]) -> None:
        for effect in effects:
            match effect:
                case Publish(topic, data, number):
                    if not self._links[number].publish(topic, data):
                        self.counters["messages-not-sent"] += 1
                case OpenPath():
                    self._open(effect)
                case RenewPath(path_id, remote):
                    self._paths[path_id].renew(remote)
                case AddRemote(path_id, kind, offer):
                    if (path := self._paths.get(path_id)) is not None:
                        path.add_remote(kind, offer)
                case EndPath(path_id):
                    if (path := self._paths.get(path_id)) is not None:
                        path.end()
                case _:
                    assert_never(effect)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._rendezvous.next_timeout() if self._rendezvous is not None else None
        if due is not None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._rendezvous is not None:
            self._act(self._rendezvous.handle_timeout(self._loop.time()))

    # -- paths ----------------------------------------------------------------------------------

    def _open(self, effect: OpenPath) -> None:
        settings, rendezvous = self._settings, self._rendezvous
        if settings is None or rendezvous is None:
            return
        self._paths[effect.path_id] = AgentPath(
            effect,
            server=self._server,
            make=lambda: self._carriers(settings, self._network),
            limits=self._limits,
            counters=self.counters,
            on_gathered=lambda kind, offer: self._act(
                rendezvous.gathered(effect.path_id, kind, offer, self._loop.time())
            ),
            on_change=self._path_changed,
        )

    def _path_changed(self, path: AgentPath) -> None:
        """Tell the rendezvous the new state of a path."""
        rendezvous, now = self._rendezvous, self._loop.time()
        if path.is_closed:
            self._paths.pop(path.path_id, None)
        if rendezvous is None:
            return
        if path.is_closed:
            self._act(rendezvous.path_ended(path.path_id, now))
        else:
            self._act(rendezvous.path_state(path.path_id, is_live=path.is_live, now=now))

    def _sweep(self) -> None:
        """End the paths that are not used, and schedule the next sweep."""
        longest = self._limits.path_idle_seconds
        for path in [*self._paths.values()]:
            if path.unused_seconds >= longest:
                self.counters["paths-idle"] += 1
                path.end()
        self._sweep_timer = self._loop.call_later(longest / 4, self._sweep)

    # -- the network ----------------------------------------------------------------------------

    def _links_have_changed(self) -> None:
        self._have_links_changed = True
        self._probe_due.set()

    async def _follow(self, settings: AgentSettings) -> None:
        """Probe the network at the start, after each change or attachment, and now and then."""
        watch = self._watch_links(self._links_have_changed)
        try:
            while True:
                self._probe_due.clear()
                self._network = await self._probe(settings)
                try:
                    async with asyncio.timeout(self._limits.probe_seconds):
                        await self._probe_due.wait()
                except TimeoutError:
                    continue
                if self._have_links_changed:
                    self._have_links_changed = False
                    await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
                    for link in self._links:
                        link.retry_now()
        finally:
            watch.close()
