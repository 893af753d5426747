"""An allocation at a TURN server (RFC 8656), which aioice makes and keeps.

aioice asks one server, and its transport creates a task for each datagram. Here several servers
race, the pin of a server is checked before the account is used, and what waits is bounded.
"""

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from aioice import Candidate, stun, turn
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol

from peer.errors import Unreachable
from peer.net.address import resolve
from peer.remote.errors import CarrierError, ServerFailure
from peer.remote.limits import CHANNEL_REFRESH_SECONDS, IceLimits
from peer.remote.settings import Server
from peer.remote.tls_pins import tls_context

_COMPONENT: Final = 1
_HIDDEN: Final = ("0.0.0.0", 9)  # noqa: S104  # the form of RFC 8839 §5.1, so that no address leaks


ProtocolT = TypeVar("ProtocolT", StunProtocol, turn.TurnClientProtocol)


class Allocation:
    """An address at a relay. `protocol` sends and receives checks with it."""

    def __init__(
        self, protocol: StunProtocol, client: turn.TurnClientProtocol, limits: IceLimits
    ) -> None:
        self.protocol = protocol
        self._client = client
        self._limits = limits
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, data: bytes, address: tuple[str, int]) -> bool:
        """Send a datagram, or drop it if too many wait. Return whether it was taken.

        While the channel of the address is bound, aioice's `send_data` does not wait, so it needs
        no task.
        """
        client = self._client
        waiting = client.transport.get_write_buffer_size()  # type: ignore[union-attr]
        if client.transport.is_closing() or waiting > self._limits.relay_buffer_bytes:
            return False
        sending = client.send_data(data, address)
        if self._is_bound(address):
            with contextlib.suppress(StopIteration):
                sending.send(None)
            return True
        if len(self._sending) >= self._limits.relay_sends:
            sending.close()
            return False
        task = asyncio.ensure_future(sending)
        self._sending.add(task)
        task.add_done_callback(self._sent)
        return True

    async def release(self) -> None:
        """Give the allocation back, for `close_seconds` at most, and close the connection."""
        for task in [*self._sending]:
            task.cancel()
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self._limits.close_seconds):
                    await self._client.delete()
        finally:
            self._client.transport.abort()  # TLS would wait 30 s

    def _is_bound(self, address: tuple[str, int]) -> bool:
        """Whether aioice sends to an address without a request to the relay before."""
        client = self._client
        channel = client.peer_to_channel.get(address)
        if channel is None or address in client.peer_connect_waiters:
            return False
        return time.time() <= client.channel_refresh_at[channel]  # noqa: TID251  # aioice's clock

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # a relay that is lost is noticed by the consent checks


async def allocate(
    servers: Sequence[Server],
    create_protocol: Callable[[], StunProtocol],
    limits: IceLimits,
    *,
    first: str = "udp",
) -> Allocation:
    """Allocate an address at the server that answers first.

    Servers over the transport `first` start first, `udp` or `tcp`; each next one after
    `next_relay_seconds`, or when the ones before have failed. Raises `CarrierError` with the
    failure of the last server.
    """
    waiting = deque(sorted(servers, key=lambda one: one.address.transport != first))
    running: set[asyncio.Task[Allocation]] = set()
    failure: CarrierError | None = None
    try:
        async with asyncio.timeout(limits.allocate_seconds):
            while waiting or running:
                if waiting:
                    server = waiting.popleft()
                    running.add(asyncio.create_task(_allocate(server, create_protocol, limits)))
                done, running = await asyncio.wait(
                    running,
                    timeout=limits.next_relay_seconds if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                winners = []
                for task in done:
                    match task.exception():
                        case None:
                            winners.append(task.result())
                        case CarrierError() as error:
                            failure = error
                        case error:
                            failure = CarrierError(
                                f"the relay fails: {error}", reason=ServerFailure.UNREACHABLE
                            )
                for loser in winners[1:]:
                    await loser.release()
                if winners:
                    return winners[0]
    except TimeoutError:
        failure = failure or CarrierError("no relay answers", reason=ServerFailure.UNREACHABLE)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    raise failure or CarrierError("no relay is set", reason=ServerFailure.NO_CANDIDATE)


async def _allocate(
    server: Server, create_protocol: Callable[[], StunProtocol], limits: IceLimits
) -> Allocation:
    """Allocate at one server. Raises `CarrierError`."""
    name = f"the relay {server.address}"
    client = await _connect(server, name)
    relay = turn.TurnTransport(client)
    protocol = create_protocol()
    try:
        await relay._connect(protocol)  # noqa: SLF001  # as aioice's create_turn_endpoint does
    except stun.TransactionFailed as error:
        client.transport.abort()
        text = f"{name} refuses an allocation: {error}"
        raise CarrierError(text, reason=ServerFailure.REFUSED) from error
    except (stun.TransactionError, ConnectionError) as error:
        client.transport.abort()
        text = f"{name} does not answer: {error}"
        raise CarrierError(text, reason=ServerFailure.UNREACHABLE) from error
    except BaseException:
        client.transport.abort()
        raise
    host, port = relay.get_extra_info("sockname")
    protocol.local_candidate = Candidate(
        foundation=candidate_foundation("relay", "udp", host),
        component=_COMPONENT,
        transport="udp",
        priority=candidate_priority(_COMPONENT, "relay"),
        host=host,
        port=port,
        type="relay",
        related_address=_HIDDEN[0],
        related_port=_HIDDEN[1],
    )
    return Allocation(protocol, client, limits)


async def _connect(server: Server, name: str) -> turn.TurnClientProtocol:
    """Open the connection to a server, and check its pin. Raises `CarrierError`."""
    address = server.address
    loop = asyncio.get_running_loop()
    context = tls_context(server.pin) if address.scheme == "turns" else None

    def create(kind: type[turn.TurnClientProtocol]) -> turn.TurnClientProtocol:
        client = kind(
            (address.host, address.port),
            username=server.username,
            password=server.password.reveal(),
            lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
            channel_refresh_time=CHANNEL_REFRESH_SECONDS,
        )
        return drop_malformed(client)

    try:
        host = (await resolve(address.host, address.port))[0].host
        if address.transport == "udp":
            _, client = await loop.create_datagram_endpoint(
                lambda: create(turn.TurnClientUdpProtocol), remote_addr=(host, address.port)
            )
        else:
            _, client = await loop.create_connection(
                lambda: create(turn.TurnClientTcpProtocol),
                host,
                address.port,
                ssl=context,
                server_hostname=address.host if context else None,
            )
    except (OSError, Unreachable) as error:
        reason = context.failure if context and context.failure else ServerFailure.UNREACHABLE
        text = context.failure_text if context and context.failure else str(error)
        what = "fails in TLS" if context and context.failure else "is unreachable"
        raise CarrierError(f"{name} {what}: {text}", reason=reason) from error
    return client


def drop_malformed(protocol: ProtocolT) -> ProtocolT:
    """Drop STUN messages that aioice cannot parse; return the protocol.

    It raises errors other than ValueError for some. asyncio would log each, with its traceback.
    """
    receive = protocol.datagram_received

    def receive_valid(data: bytes | str, addr: tuple[str, int]) -> None:
        with contextlib.suppress(struct.error, KeyError, IndexError):
            receive(data, addr)

    protocol.datagram_received = receive_valid  # type: ignore[method-assign]
    return protocol
