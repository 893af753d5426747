"""A connection to an MQTT broker: subscriptions and messages.

MQTT 3.1.1 with QoS 0, a clean session, nothing retained and no will: what Mosquitto, NATS, EMQX,
VerneMQ and HiveMQ have in common. The client identifier is random: with a fixed one, a second
process or a copy of a device would disconnect the first.

What a broker sends is bounded: a message that is longer than the protocol allows is dropped, a full
inbox drops the newest message, and a packet that is far too long ends the connection.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import aiomqtt

from peer.remote.errors import BrokerError, ServerFailure
from peer.remote.limits import BROKER_ANSWER_SECONDS, BROKER_INBOX_MESSAGES, TOPICS_PER_PACKET
from peer.remote.mqtt_client import (
    FAILURE_CODE,
    Inbox,
    code_of,
    connect_tcp,
    create_client,
    end_connection,
    keeping_cancellation,
    log_in,
    log_out,
)
from peer.remote.settings import Server
from peer.remote.tls_pins import tls_context


class Broker:
    """An open connection. Create it with `connect`; leaving that context closes it."""

    def __init__(self, client: aiomqtt.Client, inbox: Inbox, name: str) -> None:
        self._client = client
        self._inbox = inbox
        self._name = name

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        server: Server,
        *,
        keep_alive: float = 60.0,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> AsyncIterator[Self]:
        """Connect to a broker; close the connection at the end of the context.

        Args:
            server: an `mqtts` or `wss` server. If it has a pin, the broker's key is checked before
                the password is sent.
            keep_alive: seconds of silence after which the connection is checked.
            random_bytes: the random source of the client identifier.

        Raises:
            BrokerError: the connection fails. Its `reason` is one of UNREACHABLE, PIN_MISMATCH,
                TLS_FAILED and REFUSED.
        """
        name = str(server.address)
        context = tls_context(server.pin)
        inbox = Inbox(BROKER_INBOX_MESSAGES)
        with (
            contextlib.closing(await connect_tcp(server, name)) as sock,
            # Another descriptor of the connection: to shut it down wakes aiomqtt's thread.
            contextlib.closing(sock.dup()) as connection,
        ):
            client = create_client(server, context, inbox, sock, keep_alive, random_bytes)
            try:
                await log_in(client, connection, context, name)
                yield cls(client, inbox, name)
                await log_out(client)
            finally:
                end_connection(connection)
                client._client._sock_close()  # noqa: SLF001  # aiomqtt keeps a lost one open

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Receive the messages of these topics. Raises `BrokerError` if one is refused.

        A broker may grant a topic and deliver nothing: see `hears_itself`.
        """
        for chunk in _chunks(topics):
            with self._failing("does not answer a subscription"):
                granted = await self._client.subscribe([(topic, 0) for topic in chunk])
            if any(code_of(one) >= FAILURE_CODE for one in granted):
                raise BrokerError(
                    f"the broker {self._name} refuses a topic", reason=ServerFailure.REFUSED
                )

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Stop receiving the messages of these topics."""
        for chunk in _chunks(topics):
            with self._failing("does not answer"):
                await self._client.unsubscribe(list(chunk))

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish a message. Raises `BrokerError` if the connection is lost.

        A broker does not confirm messages of QoS 0, nor report that it drops them.
        """
        with self._failing("does not take a message"):
            await self._client.publish(topic, data, qos=0, retain=False)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the topic and the data of each message. There can be one reader at a time.

        Raises `BrokerError` when the connection is lost.
        """
        with self._failing("was lost"):
            async for message in self._client.messages:
                data = message.payload
                if isinstance(data, (bytes, bytearray)):
                    yield message.topic.value, bytes(data)

    async def hears_itself(
        self, topic: str, *, wait_seconds: float = BROKER_ANSWER_SECONDS
    ) -> float:
        """Publish to a topic of one's own and wait for it; return the seconds that it took.

        Brokers that do not permit a topic grant it nevertheless, and drop its messages. Raises
        `BrokerError` with NOT_HEARD.
        """
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[None] = loop.create_future()
        self._inbox.watched[topic] = heard
        try:
            await self.subscribe([topic])
            start = loop.time()
            await self.publish(topic, secrets.token_bytes(16))
            async with asyncio.timeout(wait_seconds):
                await heard
            return loop.time() - start
        except TimeoutError:
            raise BrokerError(
                f"the broker {self._name} does not deliver what this account publishes",
                reason=ServerFailure.NOT_HEARD,
            ) from None
        finally:
            del self._inbox.watched[topic]
            with contextlib.suppress(BrokerError):
                await self.unsubscribe([topic])

    @property
    def dropped(self) -> int:
        """The number of messages that were too long, or for which the inbox had no room."""
        return self._inbox.dropped

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Turn an error of aiomqtt into `BrokerError`, and keep a cancellation."""
        try:
            with keeping_cancellation():
                yield
        except aiomqtt.MqttError as error:
            raise BrokerError(f"the broker {self._name} {what}: {error}") from error


def _chunks(topics: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(topics), TOPICS_PER_PACKET):
        yield topics[start : start + TOPICS_PER_PACKET]
