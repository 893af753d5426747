"""The connection of a device with one broker: attached for as long as possible.

    OFF ──start──▶ CONNECTING ──heard itself──▶ ATTACHED
                     ▲  │                          │
       pause is over │  │ failed                   │ lost
                     │  ▼                          ▼
                    WAITING ◀───────────────────────

The pause is random, between 0 and a bound that doubles with each failure: a broker that comes back
must not meet all its devices at once. It ends at once when the addresses of this machine change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from peer.errors import PeerError
from peer.net.tasks import cancel_all, run_until_one_ends
from peer.remote.agent_view import LinkState
from peer.remote.limits import MESSAGES_PER_TURN, QUEUED_MESSAGES, RemoteLimits
from peer.remote.settings import Server

RandomBytes = Callable[[int], bytes]

_log = logging.getLogger(__name__)


class BrokerConnection(Protocol):
    """An open connection with a broker; see `Broker`. Each method raises `BrokerError`."""

    async def subscribe(self, topics: Sequence[str], /) -> None:
        """Receive what is published to these topics."""

    async def unsubscribe(self, topics: Sequence[str], /) -> None:
        """Receive it no more."""

    async def publish(self, topic: str, data: bytes, /) -> None:
        """Publish a message."""

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Iterate over topic and data of each message until the connection is lost."""

    async def hears_itself(self, topic: str, /) -> float:
        """Publish to a topic, and return after how many seconds the message came back."""


ConnectBroker = Callable[[Server], AbstractAsyncContextManager[BrokerConnection]]


class BrokerLink:
    """Keeps a device attached to one broker.

    Attributes:
        state: the state.
        since: when it began, in monotonic seconds.
        why: why it is not attached: the reason of the last error, or empty.
        was_attached: whether it was attached before its present state.

    Args:
        server: the broker.
        connect: opens a connection.
        limits: for the pauses.
        random_bytes: returns that many random bytes.
        topics: returns the topics to be subscribed now.
        own_topic: returns a topic to which no one else publishes.
        on_message: called with topic and data of each message.
        on_change: called when the state has changed.
    """

    def __init__(
        self,
        server: Server,
        *,
        connect: ConnectBroker,
        limits: RemoteLimits,
        random_bytes: RandomBytes,
        topics: Callable[[], Sequence[str]],
        own_topic: Callable[[], str],
        on_message: Callable[[str, bytes], None],
        on_change: Callable[["BrokerLink"], None],
    ) -> None:
        self.server = server
        self._connect = connect
        self._limits = limits
        self._random_bytes = random_bytes
        self._topics = topics
        self._own_topic = own_topic
        self._on_message = on_message
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self.state = LinkState.OFF
        self.since = self._loop.time()
        self.why = ""
        self.was_attached = False
        self._has_failed = False
        self._queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(QUEUED_MESSAGES)
        self._retry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, and again after each failure."""
        self._task = self._loop.create_task(self._run(), name=f"broker {self.server.url}")

    async def close(self) -> None:
        """Disconnect. Safe to repeat."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task])
        self._move(LinkState.OFF, "")

    def publish(self, topic: str, data: bytes) -> bool:
        """Publish a message soon; return False if it was dropped."""
        if self.state is not LinkState.ATTACHED or self._queue.full():
            return False
        self._queue.put_nowait((topic, data))
        return True

    def topics_changed(self) -> None:
        """Subscribe what is new in `topics`, and unsubscribe what is not there any more."""
        if self.state is LinkState.ATTACHED and not self._queue.full():
            self._queue.put_nowait(None)  # if it is full, the topics are looked at anyway

    def retry_now(self) -> None:
        """Connect without waiting for the end of the pause, or check the connection now.

        Call it when the addresses of this machine have changed.
        """
        self._retry.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._move(LinkState.CONNECTING, self.why)
            attached_at: float | None = None
            try:
                async with self._connect(self.server) as broker:
                    await broker.hears_itself(self._own_topic())
                    subscribed = frozenset(self._topics())
                    await broker.subscribe(sorted(subscribed))
                    self._empty_queue()
                    attached_at = self._loop.time()
                    self._move(LinkState.ATTACHED, "")
                    self.topics_changed()  # they may have changed while it subscribed
                    await self._serve(broker, subscribed)
            except PeerError as error:
                why = str(getattr(error, "reason", "unreachable"))
            except Exception:
                _log.exception("the connection with the broker %s failed", self.server.url)
                why = "internal"
            else:
                why = "unreachable"  # it has ended the connection
            longest = self._limits.attach_max_seconds
            if attached_at is not None and self._loop.time() - attached_at >= longest:
                failures = 0
            failures += 1
            self._move(LinkState.WAITING, why)
            await self._pause(pause_seconds(failures, longest, self._random_bytes))

    async def _serve(self, broker: BrokerConnection, subscribed: frozenset[str]) -> None:
        """Pass messages on until the connection is lost, or a message cannot be sent."""
        await run_until_one_ends(
            self._read(broker), self._write(broker, subscribed), self._check(broker)
        )

    async def _check(self, broker: BrokerConnection) -> None:
        """Find out after a change of addresses whether the connection still works."""
        self._retry.clear()
        while await self._retry.wait():
            self._retry.clear()
            await broker.hears_itself(self._own_topic())

    async def _read(self, broker: BrokerConnection) -> None:
        count = 0
        async for topic, data in broker.messages():
            try:
                self._on_message(topic, data)
            except Exception:
                # An internal error in one message must not stop the others.
                self._message_failed()
            count += 1
            if count % MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)  # a flood must not stop the other tasks

    def _message_failed(self) -> None:
        """Log the first message that could not be processed: a client may send it again."""
        if not self._has_failed:
            self._has_failed = True
            _log.exception("cannot process a message of %s (logged once)", self.server.url)

    async def _write(self, broker: BrokerConnection, subscribed: frozenset[str]) -> None:
        while True:
            message = await self._queue.get()
            wanted = frozenset(self._topics())
            if gone := subscribed - wanted:
                await broker.unsubscribe(sorted(gone))
            if new := wanted - subscribed:
                await broker.subscribe(sorted(new))
            subscribed = wanted
            if message is not None:
                await broker.publish(*message)

    def _empty_queue(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _pause(self, seconds: float) -> None:
        self._retry.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._retry.wait()
        except TimeoutError:
            pass

    def _move(self, state: LinkState, why: str) -> None:
        before, self.state, self.why = self.state, state, why
        if state is not before:
            self.was_attached = before is LinkState.ATTACHED
            self.since = self._loop.time()
            self._on_change(self)


def pause_seconds(failures: int, longest: float, random_bytes: RandomBytes) -> float:
    """Return a random pause after that many failures in a row: at most 2^failures, or `longest`."""
    share = int.from_bytes(random_bytes(4), "big") / 2**32
    return share * min(longest, 2.0 ** min(failures, 30))
