"""The client's attempts to agree on a path: one at each broker, until the device has answered one.

The device may be attached to several brokers, and one of them may be down. So an attempt starts at
each of them, and the first that gets a challenge continues; the others end.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import assert_never

from peer.errors import PeerError, Unreachable
from peer.net.tasks import run_until_one_ends
from peer.remote.broker_link import BrokerConnection, ConnectBroker, RandomBytes
from peer.remote.client_rendezvous import ClientRendezvous
from peer.remote.effects import (
    AddRemote,
    Challenged,
    ClientEffect,
    ClientStage,
    GaveUp,
    PathAgreed,
    Publish,
    Refused,
)
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer
from peer.remote.pair_keys import PairKeys
from peer.remote.route_errors import gave_up, progress, refused
from peer.remote.settings import RemoteSettings, Server


class SignallingEvents:
    """The events of a `ClientSignalling`. Each method does nothing unless it is overridden."""

    def broker_done(self, server: Server, reason: str) -> None:
        """Handle that a broker is connected; or is not, with the reason."""

    def challenged(self, revision: int, addresses: Sequence[str]) -> None:
        """Handle the device's challenge, once."""

    def agreed(self, agreed: PathAgreed) -> None:
        """Handle the agreement on a path, once."""

    def remote_known(self, kind: CarrierKind, offer: CarrierOffer) -> None:
        """Handle the device's half of a carrier, after the agreement."""

    def failed(self, error: PeerError) -> None:
        """Handle the end of all attempts before an agreement, once."""


class ClientSignalling:
    """One attempt at each broker.

    Args:
        settings: the remote settings of the client.
        path_id: the path that shall continue; None for a new one.
        connect: opens a connection with a broker.
        events: gets what happens.
        limits: the bounds.
        random_bytes: returns that many random bytes.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        *,
        path_id: bytes | None,
        connect: ConnectBroker,
        events: SignallingEvents,
        limits: RemoteLimits,
        random_bytes: RandomBytes,
    ) -> None:
        self._events = events
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        keys = PairKeys(settings.secret)
        self._attempts = [
            _Attempt(
                server,
                ClientRendezvous(
                    keys,
                    prefix=settings.prefix,
                    limits=limits,
                    random_bytes=random_bytes,
                    path_id=path_id,
                ),
                self._happened,
            )
            for server in settings.brokers
        ]
        self._gathered: dict[CarrierKind, CarrierOffer | None] = {}
        self._errors: list[PeerError] = []
        self._tasks = {
            attempt: self._loop.create_task(self._run(attempt), name=f"broker {attempt.server.url}")
            for attempt in self._attempts
        }

    def gathered(self, kind: CarrierKind, offer: CarrierOffer | None) -> None:
        """Take this client's half of a carrier; None if there is none."""
        self._gathered[kind] = offer
        for attempt in [*self._attempts]:
            attempt.gathered(kind, offer)

    def close(self) -> None:
        """End every attempt. Safe to repeat."""
        for attempt, task in self._tasks.items():
            attempt.finish()
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until every broker is disconnected, after `close`."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, attempt: "_Attempt") -> None:
        server = attempt.server
        try:
            async with self._connect(server) as broker:
                await broker.subscribe([attempt.reply_topic])
                self._events.broker_done(server, "")
                for kind, offer in self._gathered.items():
                    attempt.gathered(kind, offer)
                await attempt.run(broker)
        except PeerError as error:
            if not attempt.is_connected:
                self._events.broker_done(server, str(getattr(error, "reason", "unreachable")))
            self._end(attempt, error)

    def _happened(self, attempt: "_Attempt", effect: ClientEffect) -> None:
        if attempt not in self._attempts:
            return
        match effect:
            case Challenged(revision, addresses):
                self._keep_only(attempt)
                self._events.challenged(revision, addresses)
            case PathAgreed():
                self._events.agreed(effect)
            case AddRemote(_, kind, offer):
                self._events.remote_known(kind, offer)
            case Refused(reason, seconds):
                self._end(attempt, refused(reason, seconds))
            case GaveUp(step):
                self._end(attempt, gave_up(step))
            case Publish():
                raise AssertionError("an attempt publishes by itself")
            case _:
                assert_never(effect)

    def _keep_only(self, attempt: "_Attempt") -> None:
        for other in self._attempts:
            if other is not attempt:
                other.finish()
                self._tasks[other].cancel()
        self._attempts = [attempt]

    def _end(self, attempt: "_Attempt", error: PeerError) -> None:
        """Note the end of an attempt. The error of the one that came furthest is reported."""
        if attempt not in self._attempts:
            return
        self._attempts.remove(attempt)
        is_agreed = attempt.is_agreed
        attempt.finish()
        if not attempt.is_connected:
            self._tasks[attempt].cancel()
        self._errors.append(error)
        if not self._attempts and not is_agreed:
            self._events.failed(max(self._errors, key=progress))


class _Attempt:
    """One attempt at one broker: a rendezvous with its timer and its messages."""

    def __init__(
        self,
        server: Server,
        rendezvous: ClientRendezvous,
        on_effect: Callable[["_Attempt", ClientEffect], None],
    ) -> None:
        self.server = server
        self.is_connected = False
        self.is_agreed = False
        self._rendezvous = rendezvous
        self._on_effect = on_effect
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: asyncio.Queue[Publish] = asyncio.Queue()  # bounded by the rendezvous
        self._finished = asyncio.Event()

    @property
    def reply_topic(self) -> str:
        """The topic on which the device answers."""
        return self._rendezvous.reply_topic

    async def run(self, broker: BrokerConnection) -> None:
        """Exchange messages over a broker until `finish`. Raises `PeerError` if it is lost."""
        self.is_connected = True
        self._act(self._rendezvous.start(self._loop.time()))
        await run_until_one_ends(self._read(broker), self._write(broker), self._wait_finished())

    def gathered(self, kind: CarrierKind, offer: CarrierOffer | None) -> None:
        """Take this client's half of a carrier."""
        if self.is_connected or self._rendezvous.stage is ClientStage.NEW:
            self._act(self._rendezvous.gathered(kind, offer, self._loop.time()))

    def finish(self) -> None:
        """End the attempt. Safe to repeat."""
        if not self._rendezvous.is_over:
            self._rendezvous.finish()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._finished.set()

    async def _wait_finished(self) -> None:
        await self._finished.wait()

    async def _read(self, broker: BrokerConnection) -> None:
        async for topic, data in broker.messages():
            if topic == self.reply_topic:
                self._act(self._rendezvous.receive_untrusted(data, self._loop.time()))
        raise Unreachable("the broker has ended the connection", advice="Try again.")

    async def _write(self, broker: BrokerConnection) -> None:
        while True:
            message = await self._outgoing.get()
            await broker.publish(message.topic, message.data)

    def _act(self, effects: Sequence[ClientEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Publish):
                self._outgoing.put_nowait(effect)
                continue
            self.is_agreed |= isinstance(effect, PathAgreed)
            self._on_effect(self, effect)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._rendezvous.next_timeout()
        if due is not None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._act(self._rendezvous.handle_timeout(self._loop.time()))
