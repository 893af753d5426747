"""A client of aiomqtt, from the TCP connection until it is logged in at a broker.

aiomqtt connects in a thread that cannot be cancelled, waits for answers on connections that have
ended, and forgets some losses. Here every step can be cancelled, and every end is noticed.
"""

import asyncio
import contextlib
import logging
import math
import socket
from base64 import b32encode
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import aiomqtt

from peer.errors import Unreachable
from peer.net.address import connect_failure, resolve
from peer.remote.errors import BrokerError, ServerFailure
from peer.remote.limits import (
    BROKER_ANSWER_SECONDS,
    BROKER_CALLS,
    BROKER_CLOSE_SECONDS,
    BROKER_CONNECT_SECONDS,
    BROKER_THREAD_SECONDS,
    BROKER_TOPIC_CHARS,
    MAX_SEALED_BYTES,
)
from peer.remote.settings import Server
from peer.remote.tls_pins import TlsContext

FAILURE_CODE: Final = 0x80
"""The first return code of SUBACK that is a failure."""
_UNAVAILABLE: Final = 136  # the code of paho-mqtt for return code 3 of CONNACK

_log = logging.getLogger(f"{__name__}.mqtt")
_log.setLevel(logging.CRITICAL + 1)  # a broker chooses how often paho-mqtt logs, and partly what


class Inbox(asyncio.Queue[aiomqtt.Message]):
    """The received messages, and those that a caller waits for."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.dropped = 0
        self.watched: dict[str, asyncio.Future[None]] = {}

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Add a message, or drop it if it is too long or the inbox is full."""
        topic, data = item.topic.value, item.payload
        if (heard := self.watched.get(topic)) is not None:
            if not heard.done():
                heard.set_result(None)
        elif self.full() or not _is_permitted(topic, data):
            self.dropped += 1
        else:
            super().put_nowait(item)


def _is_permitted(topic: str, data: object) -> bool:
    is_short = isinstance(data, bytes) and len(data) <= MAX_SEALED_BYTES
    return is_short and len(topic) <= BROKER_TOPIC_CHARS


async def connect_tcp(server: Server, name: str) -> socket.socket:
    """Open a TCP connection. paho-mqtt would do this in a thread that cannot be cancelled."""
    try:
        addresses = await resolve(server.address.host, server.address.port)
    except Unreachable as error:
        raise BrokerError(f"the broker {name} is unreachable: {error}") from error
    reason: OSError = OSError("no address")
    for address in addresses:
        family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
        target = (address.host, address.port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(BROKER_CONNECT_SECONDS / len(addresses)):
                await asyncio.get_running_loop().sock_connect(sock, target)
        except (OSError, TimeoutError) as error:
            sock.close()
            reason = error
        except BaseException:
            sock.close()
            raise
        else:
            sock.setblocking(True)
            return sock
    raise BrokerError(f"the broker {name} is unreachable: {connect_failure(reason)}") from reason


def create_client(
    server: Server,
    context: TlsContext,
    inbox: Inbox,
    sock: socket.socket,
    keep_alive: float,
    random_bytes: Callable[[int], bytes],
) -> aiomqtt.Client:
    """Create a client of aiomqtt that uses an open TCP connection and our inbox."""
    address = server.address
    has_account = bool(server.username)
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=server.username if has_account else None,
        password=server.password.reveal() if has_account else None,
        logger=_log,
        identifier=b32encode(random_bytes(10)).decode(),
        queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: inbox),  # noqa: ARG005
        protocol=aiomqtt.ProtocolVersion.V311,
        clean_session=True,
        transport="websockets" if address.scheme == "wss" else "tcp",
        websocket_path=address.path or None,
        timeout=BROKER_ANSWER_SECONDS,
        keepalive=math.ceil(keep_alive),
        max_concurrent_outgoing_calls=BROKER_CALLS,
        tls_context=context,
    )
    paho = client._client  # noqa: SLF001
    paho.connect_timeout = BROKER_CONNECT_SECONDS
    paho._create_socket_connection = lambda: sock  # type: ignore[method-assign]  # noqa: SLF001
    return client


async def log_in(
    client: aiomqtt.Client, connection: socket.socket, context: TlsContext, name: str
) -> None:
    """Do the TLS handshake, and log in to the broker."""
    _expect_loss(client)
    ending = asyncio.ensure_future(_closing_of(client).wait())
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        async with asyncio.timeout(2 * BROKER_CONNECT_SECONDS):
            await asyncio.wait([entering, ending], return_when=asyncio.FIRST_COMPLETED)
            # The answer to CONNECT comes before the end, but wakes aiomqtt after it.
            await asyncio.wait({entering}, timeout=BROKER_THREAD_SECONDS)
        if not entering.done():
            raise BrokerError(f"the broker {name} ended the connection")
        entering.result()
        _expect_loss(client)
        if client._client.socket() is None:  # noqa: SLF001
            # aiomqtt forgets a loss that comes in one turn with the answer to CONNECT.
            raise BrokerError(f"the broker {name} ended the connection")
    except TimeoutError:
        raise BrokerError(f"the broker {name} is unreachable: no answer") from None
    except aiomqtt.exceptions.MqttConnectError as error:
        if code_of(error.rc) == _UNAVAILABLE:
            raise BrokerError(f"the broker {name} is not available now") from error
        raise BrokerError(
            f"the broker {name} refuses: {error}", reason=ServerFailure.REFUSED
        ) from error
    except aiomqtt.MqttError as error:
        reason = context.failure or ServerFailure.UNREACHABLE
        text = context.failure_text or str(error)
        what = "fails in TLS" if context.failure else "is unreachable"
        raise BrokerError(f"the broker {name} {what}: {text}", reason=reason) from error
    finally:
        ending.cancel()
        if not entering.done():
            end_connection(connection)
            await asyncio.wait({entering}, timeout=BROKER_THREAD_SECONDS)
            entering.cancel()
            await asyncio.wait({entering})
        if not entering.cancelled():
            entering.exception()  # or asyncio would report it


def _closing_of(client: aiomqtt.Client) -> asyncio.Event:
    """Return an event that is set when paho-mqtt closes the connection.

    aiomqtt waits for the answer to CONNECT although the broker has closed the connection.
    """
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    paho = client._client  # noqa: SLF001
    report = paho.on_socket_close
    assert report is not None

    def close(*reported: Any) -> None:  # noqa: ANN401  # types of paho-mqtt
        report(*reported)
        loop.call_soon_threadsafe(closed.set)

    paho.on_socket_close = close
    return closed


def _expect_loss(client: aiomqtt.Client) -> None:
    """Keep asyncio from reporting a loss of the connection that no call has waited for."""
    lost = client._disconnected  # noqa: SLF001
    lost.add_done_callback(lambda future: None if future.cancelled() else future.exception())


async def log_out(client: aiomqtt.Client) -> None:
    """Say DISCONNECT, for at most a second."""
    with contextlib.suppress(OSError, TimeoutError, aiomqtt.MqttError):
        async with asyncio.timeout(BROKER_CLOSE_SECONDS):
            with keeping_cancellation():
                await client.__aexit__(None, None, None)


@contextlib.contextmanager
def keeping_cancellation() -> Iterator[None]:
    """Raise `CancelledError` at the end if this task was cancelled meanwhile.

    aiomqtt waits with `asyncio.wait_for`. In Python 3.11, that loses a cancellation that arrives in
    the same turn of the loop as the result, and a task that works in a loop would never end.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    except Exception:
        if task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task.cancelling() > before:
        raise asyncio.CancelledError


def end_connection(connection: socket.socket) -> None:
    """Shut a connection down, which wakes the thread that waits for it."""
    with contextlib.suppress(OSError):  # the broker has closed it
        connection.shutdown(socket.SHUT_RDWR)


def code_of(granted: object) -> int:
    """Return a code of CONNACK or SUBACK, which paho-mqtt wraps."""
    return granted if isinstance(granted, int) else int(getattr(granted, "value", FAILURE_CODE))
