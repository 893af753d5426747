"""An ICE connection (RFC 8445) by aioice, with bounds and without its long waits.

`Ice` is the only subclass of aioice's connection. It overrides public methods; each says why.
`IceCarrier` (`ice_carrier.py`) makes a carrier of a path of it.
"""

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aioice import Candidate, Connection, TransportPolicy, stun
from aioice.ice import CandidatePair, StunProtocol, server_reflexive_candidate

from peer.errors import Unreachable
from peer.net.address import resolve
from peer.remote.candidates import is_checkable
from peer.remote.limits import IceLimits
from peer.remote.relay import Allocation, allocate, drop_malformed
from peer.remote.settings import Server

_COMPONENT: Final = 1
_ROLE_CONFLICT: Final = 487
_LAST_STUN: Final = 3
_STUN_SERVERS: Final = 2


@dataclass(frozen=True, slots=True)
class IceServers:
    """The servers of one ICE connection.

    Attributes:
        stun: as "host:port"; the first two are asked.
        turn: those over UDP start first.
        has_udp: false if UDP is known to be blocked; then those over TCP and TLS start first.
    """

    stun: tuple[str, ...] = ()
    turn: tuple[Server, ...] = ()
    has_udp: bool = True


class Ice(Connection):
    """aioice's connection with bounds, and without its long waits."""

    def __init__(
        self,
        *,
        controlling: bool,
        servers: IceServers,
        relay_only: bool,
        limits: IceLimits,
        local_addresses: Sequence[str] | None,
        on_datagram: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        policy = TransportPolicy.RELAY if relay_only else TransportPolicy.ALL
        super().__init__(controlling, transport_policy=policy)
        self._servers = servers
        self._relay_only = relay_only
        self._limits = limits
        self._use_addresses = local_addresses
        self._on_datagram = on_datagram
        self._on_lost = on_lost
        self._is_lost = False
        self._allocation: Allocation | None = None
        self._requests: dict[CandidatePair, stun.Message] = {}  # of checks that were not repeated

    @property
    def pair(self) -> CandidatePair | None:
        """The pair in use."""
        return self._nominated.get(_COMPONENT)

    @property
    def own_hosts(self) -> set[str]:
        """The IP addresses from which checks are sent."""
        return {one.local_candidate.host for one in self._protocols}

    def send_now(self, data: bytes) -> bool:
        """Send a datagram without waiting: aioice's `send` is a coroutine."""
        pair = self.pair
        if pair is None:
            return False
        if self._allocation is not None:
            return self._allocation.send(data, pair.remote_addr)
        transport = pair.protocol.transport
        waiting = transport.get_write_buffer_size()  # type: ignore[attr-defined]
        if transport.is_closing() or waiting > self._limits.relay_buffer_bytes:
            return False
        transport.sendto(data, pair.remote_addr)
        return True

    async def add_remote_line(self, line: str) -> None:
        """Add a candidate of the other side, as a line of SDP (RFC 8839)."""
        await self.add_remote_candidate(Candidate.from_sdp(line))

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """Gather host and server-reflexive candidates, or a relayed one.

        aioice waits 5 seconds for the answer of each server on each interface: with UDP blocked,
        or with an interface that has no way to the Internet, every connection would. It also uses
        all addresses of a machine, and one server of a kind.
        """
        if self._relay_only:
            self._allocation = await allocate(
                self._servers.turn,
                partial(StunProtocol, self),
                self._limits,
                first="udp" if self._servers.has_udp else "tcp",
            )
            self._protocols.append(drop_malformed(self._allocation.protocol))
            return [self._allocation.protocol.local_candidate]
        chosen = addresses if self._use_addresses is None else [*self._use_addresses]
        chosen = chosen[: self._limits.local_addresses]
        candidates = await _to_the_end(super().get_component_candidates(component, chosen, timeout))
        for protocol in self._protocols:
            drop_malformed(protocol)
        return candidates + await self._server_reflexive()

    async def query_consent(self) -> None:
        """Check consent (RFC 7675 §5.1): lost after 30 seconds without an answer.

        aioice does not repeat a consent check, and counts it as failed after 0.5 seconds: it ends a
        path with a longer round trip, or a congested one, within 36 seconds.
        """
        loop = asyncio.get_running_loop()
        limits = self._limits
        lost_at = loop.time() + limits.consent_lost_seconds
        with contextlib.suppress(TimeoutError):
            while (pair := self.pair) is not None:
                async with asyncio.timeout_at(lost_at):
                    jitter = 0.8 + 0.4 * secrets.randbelow(1000) / 1000
                    await asyncio.sleep(limits.consent_seconds * jitter)
                    if await self._has_consent(pair):
                        lost_at = loop.time() + limits.consent_lost_seconds
        self._lose()

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        """Build a check, and remember it: see `check_incoming`."""
        request = super().build_request(pair, nominate)
        if pair.state is CandidatePair.State.IN_PROGRESS:
            self._requests[pair] = request
        return request

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        """Handle a check of the other side.

        aioice learns any number of source addresses, and checks each of them: a peer that forges
        them would make this machine send to third parties. It also does not repeat a check in
        progress (RFC 8445 §7.3.1.4), so a side whose first packet was lost at the other's NAT
        waits half a second more.
        """
        if not self._is_permitted(message, addr):
            return
        super().check_incoming(message, addr, protocol)
        for pair in self._check_list:
            if pair.protocol is protocol and pair.remote_addr == addr:
                request = self._requests.pop(pair, None)
                if request is not None and request.transaction_id in protocol.transactions:
                    protocol.send_stun(request, addr)

    def respond_error(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        protocol: StunProtocol,
        error_code: tuple[int, str],
    ) -> None:
        """Answer a conflict of roles. aioice answers every stranger, who may forge the source."""
        if error_code[0] == _ROLE_CONFLICT:
            super().respond_error(request, addr, protocol, error_code)

    def data_received(self, data: bytes, component: int) -> None:  # noqa: ARG002  # there is one
        """Hand a datagram over. aioice adds it to a queue without a bound.

        It also takes a malformed STUN message, whose first byte is 0 to 3 (RFC 9443), for data.
        """
        if data and data[0] > _LAST_STUN:
            self._on_datagram(data)

    def protocol_lost(self, protocol: StunProtocol) -> None:
        """Report the loss of the socket, or of the relay, that is in use."""
        pair = self.pair
        if pair is not None and pair.protocol is protocol:
            self._lose()

    async def close(self) -> None:
        """Close the connection in 3 seconds: aioice waits a minute for a relay that is gone."""
        self._is_lost = True  # so that nothing is reported any more
        with contextlib.suppress(TimeoutError):
            if self._allocation is not None:
                await self._allocation.release()
        await super().close()

    async def _server_reflexive(self) -> list[Candidate]:
        """Ask the STUN servers on each IPv4 address; wait little for others after an answer."""
        tasks = {
            asyncio.create_task(server_reflexive_candidate(protocol, server))
            for server in await self._stun_servers()
            for protocol in self._protocols
            if ipaddress.ip_address(protocol.local_candidate.host).version == 4
        }
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._limits.gather_seconds
        found: list[Candidate] = []
        running = tasks
        try:
            while running and loop.time() < ends_at:
                done, running = await asyncio.wait(
                    running,
                    timeout=ends_at - loop.time(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                answers = [one.result()[0] for one in done if one.exception() is None]
                if answers and not found:
                    ends_at = min(ends_at, loop.time() + self._limits.gather_more_seconds)
                found += answers
        finally:
            for task in tasks:
                task.cancel()
        return found

    async def _stun_servers(self) -> list[tuple[str, int]]:
        """Look up the STUN servers. Those without an IPv4 address are left out."""
        found = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.gather_seconds):
                for server in self._servers.stun[:_STUN_SERVERS]:
                    host, _, port = server.rpartition(":")
                    with contextlib.suppress(Unreachable):
                        addresses = await resolve(host.strip("[]"), int(port))
                        found += [(one.host, one.port) for one in addresses if not one.is_ipv6][:1]
        return found

    async def _has_consent(self, pair: CandidatePair) -> bool:
        """Send a check, with repeats, on the pair in use."""
        assert self.remote_password is not None
        try:
            await pair.protocol.request(
                self.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=self.remote_password.encode(),
                retransmissions=self._limits.consent_repeats,
            )
        except stun.TransactionError:
            return False
        return True

    def _is_permitted(self, message: stun.Message, addr: tuple[str, int]) -> bool:
        """Whether the source of a check is known, or may be learned."""
        if "PRIORITY" not in message.attributes:  # aioice would raise KeyError
            return False
        known = self.remote_candidates
        if any((one.host, one.port) == addr for one in known):
            return True
        learned = sum(one.type == "prflx" for one in known)
        return learned < self._limits.peer_reflexive and is_checkable(*addr, self.own_hosts)

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._on_lost()


async def _to_the_end(work: Coroutine[object, object, list[Candidate]]) -> list[Candidate]:
    """Wait for the opening of sockets, also if this is cancelled: aioice would forget them."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
