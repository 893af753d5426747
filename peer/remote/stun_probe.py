"""Probes of this machine's network: its public address, its NAT, and a datagram through a relay."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from aioice import stun

from peer.errors import Malformed, Unreachable
from peer.net.address import Address, resolve
from peer.remote.errors import CarrierError, ServerFailure
from peer.remote.ice import IceServers
from peer.remote.ice_carrier import IceCarrier
from peer.remote.limits import DEFAULT_ICE_LIMITS, IceLimits
from peer.remote.messages import CarrierKind
from peer.remote.settings import Server

_DATAGRAM = b"\x80"  # a first byte that is not STUN's (RFC 9443)


@unique
class NatKind(StrEnum):
    """How the NAT between this machine and the Internet maps a UDP port (RFC 4787 §4.1)."""

    NONE = "none"  # the public address is an address of this machine
    CONE = "cone"  # one mapping for all destinations, so direct paths are possible
    SYMMETRIC = "symmetric"  # a mapping for each destination: direct paths to few networks
    UNKNOWN = "unknown"  # fewer than two STUN servers answered


@dataclass(frozen=True, slots=True)
class NetworkProbe:
    """The result of a STUN probe.

    Attributes:
        public_address: the address that the first STUN server saw, or None without an answer.
        nat: the kind of NAT.
        answered: the STUN servers that answered, as "host:port".
    """

    public_address: Address | None
    nat: NatKind
    answered: tuple[str, ...]

    @property
    def has_udp(self) -> bool:
        """Whether UDP packets reach a STUN server, and its answers this machine."""
        return self.public_address is not None


@dataclass(frozen=True, slots=True)
class RelayProbe:
    """The result of a test of one relay.

    Attributes:
        address: the address that the relay allocated.
        allocate_seconds: how long the two allocations took.
        datagram_seconds: how long a datagram took from one to the other.
    """

    address: Address
    allocate_seconds: float
    datagram_seconds: float


async def probe_network(
    servers: Sequence[str], *, limits: IceLimits = DEFAULT_ICE_LIMITS
) -> NetworkProbe:
    """Ask STUN servers, "host:port", for the public address of one socket (RFC 8489).

    The answers of two servers, at different addresses or ports, tell the kind of NAT. Takes
    `gather_seconds` at most, plus the look-up of names. Never raises for a server that is gone.
    """
    targets = await _look_up(servers)
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("", 0))
    own_port = int(sock.getsockname()[1])
    transport, client = await loop.create_datagram_endpoint(_StunClient, sock=sock)
    try:
        requests = {
            asyncio.create_task(client.public_address(target, limits.gather_seconds)): name
            for name, target in targets.items()
        }
        found = {}
        if requests:
            await asyncio.wait(requests)
            found = {name: task.result() for task, name in requests.items() if task.result()}
    finally:
        transport.close()
    answered = tuple(name for name in servers if name in found)
    if not answered:
        return NetworkProbe(None, NatKind.UNKNOWN, ())
    first = found[answered[0]]
    assert first is not None
    if first.port == own_port and _own_host(targets[answered[0]]) == first.host:
        kind = NatKind.NONE
    elif len({targets[name] for name in answered}) < 2:
        kind = NatKind.UNKNOWN
    else:
        kind = NatKind.CONE if len({*found.values()}) == 1 else NatKind.SYMMETRIC
    return NetworkProbe(first, kind, answered)


async def probe_relay(server: Server, *, limits: IceLimits = DEFAULT_ICE_LIMITS) -> RelayProbe:
    """Send a datagram through a relay, from one allocation to another.

    This works wherever the relay does, also if UDP is blocked here. Raises `CarrierError`: the
    relay does not answer, refuses the account, has another key, or relays nothing.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    text = _DATAGRAM + secrets.token_bytes(15)

    def receive(data: bytes) -> None:
        if data == text and not arrived.done():
            arrived.set_result(None)

    def end(is_controlling: bool, on_datagram: Callable[[bytes], None]) -> IceCarrier:
        return IceCarrier(
            CarrierKind.RELAY,
            controlling=is_controlling,
            servers=IceServers(turn=(server,)),
            relay_only=True,
            on_datagram=on_datagram,
            on_lost=lambda: None,
            limits=limits,
            check_seconds=limits.allocate_seconds,
        )

    sender, receiver = end(True, lambda _: None), end(False, receive)
    start = loop.time()
    try:
        offers = await sender.gather(), await receiver.gather()
        allocated = loop.time()
        await asyncio.gather(sender.connect(offers[1]), receiver.connect(offers[0]))
        sent = loop.time()
        sender.send(text)
        async with asyncio.timeout(limits.allocate_seconds):
            await arrived
        address = receiver.remote_address
        assert address is not None
        return RelayProbe(address, allocated - start, loop.time() - sent)
    except (TimeoutError, CarrierError) as error:
        if isinstance(error, CarrierError) and error.reason is not ServerFailure.NO_PATH:
            raise
        raise CarrierError(
            f"the relay {server.address} allocates addresses, but relays nothing between them",
            advice="Check that the relay has a route to its own address, and permits it as a peer. "
            "If the server does not have its public address itself, name it (`external-ip` of "
            "coturn).",
            reason=ServerFailure.NO_PATH,
        ) from error
    finally:
        await asyncio.gather(sender.close(), receiver.close())


class _StunClient(asyncio.DatagramProtocol):
    """Sends binding requests from one socket; aioice repeats them and reads the answers."""

    def __init__(self) -> None:
        self._transactions: dict[bytes, stun.Transaction] = {}
        self._answers: dict[bytes, stun.Message] = {}
        self._udp: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._udp = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # aioice also raises struct.error and others for some malformed messages.
        with contextlib.suppress(Exception):
            message = stun.parse_message(data)
            transaction = self._transactions.get(message.transaction_id)
            if transaction is not None and message.message_class is not stun.Class.REQUEST:
                self._answers.setdefault(message.transaction_id, message)  # the first one counts
                transaction.response_received(message, addr)

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        """Send a message, for aioice."""
        assert self._udp is not None
        self._udp.sendto(bytes(message), addr)

    async def public_address(self, server: tuple[str, int], seconds: float) -> Address | None:
        """Return the address that a server sees, or None if it does not answer in time."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        transaction = stun.Transaction(request, server, self)
        self._transactions[request.transaction_id] = transaction
        try:
            # An answer that arrives in the turn of the deadline is stored, and counts.
            with contextlib.suppress(TimeoutError, stun.TransactionError):
                async with asyncio.timeout(seconds):
                    await transaction.run()
        finally:
            del self._transactions[request.transaction_id]
        answer = self._answers.pop(request.transaction_id, None)
        if answer is None or answer.message_class is not stun.Class.RESPONSE:
            return None
        try:
            host, port = answer.attributes["XOR-MAPPED-ADDRESS"]
            return Address(host, port)
        except (KeyError, Malformed):
            return None


async def _look_up(servers: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return the IPv4 addresses of servers by their names. Those without one are left out."""
    found = {}
    for server in servers:
        host, _, port = server.rpartition(":")
        with contextlib.suppress(Unreachable):
            addresses = await resolve(host.strip("[]"), int(port))
            for address in addresses:
                if not address.is_ipv6:
                    found[server] = (address.host, address.port)
                    break
    return found


def _own_host(target: tuple[str, int]) -> str:
    """Return the address from which the kernel sends to a server; nothing is sent."""
    with (
        contextlib.suppress(OSError),  # no route any more
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(target)
        return str(sock.getsockname()[0])
    return ""
