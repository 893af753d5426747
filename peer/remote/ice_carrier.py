"""A carrier of a path: an ICE connection that hands datagrams over by callbacks."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from peer.errors import Malformed
from peer.net.address import Address
from peer.remote.candidates import checkable_untrusted
from peer.remote.errors import CarrierError, ServerFailure
from peer.remote.ice import Ice, IceServers
from peer.remote.limits import DEFAULT_ICE_LIMITS, DEFAULT_REMOTE_LIMITS, MAX_CANDIDATES, IceLimits
from peer.remote.messages import CarrierKind, CarrierOffer


class IceCarrier:
    """One ICE connection of a path.

    Call `gather`, exchange the offers, then `connect`, and in any case `close`.

    Args:
        kind: which of the two carriers of the path this is.
        controlling: true on the client's side.
        servers: the STUN and TURN servers.
        relay_only: use an address at a relay, and no other.
        on_datagram: called with each datagram, after `connect` has returned. Datagrams are not
            authenticated: anyone can send one to the port.
        on_lost: called once if the connection breaks after `connect`, not by `close`.
        limits: the limits of ICE.
        check_seconds: how long `connect` tries.
        local_addresses: the addresses to use instead of those of all interfaces.
    """

    def __init__(
        self,
        kind: CarrierKind,
        *,
        controlling: bool,
        servers: IceServers,
        relay_only: bool,
        on_datagram: Callable[[bytes], None],
        on_lost: Callable[[], None],
        limits: IceLimits = DEFAULT_ICE_LIMITS,
        check_seconds: float = DEFAULT_REMOTE_LIMITS.check_seconds,
        local_addresses: Sequence[str] | None = None,
    ) -> None:
        self.kind = kind
        self._on_datagram = on_datagram
        self._on_lost = on_lost
        self._check_seconds = check_seconds
        self._early: deque[bytes] | None = deque(maxlen=limits.early_datagrams)
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._limits = limits
        self._ice = Ice(
            controlling=controlling,
            servers=servers,
            relay_only=relay_only,
            limits=limits,
            local_addresses=local_addresses,
            on_datagram=self._receive,
            on_lost=self._lose,
        )

    async def gather(self) -> CarrierOffer:
        """Gather candidates, and return the offer for the other side.

        Takes `gather_seconds` at most, or `allocate_seconds` at a relay. Raises `CarrierError` if
        there is no candidate.
        """
        await self._ice.gather_candidates()
        found = sorted(self._ice.local_candidates, key=lambda one: -one.priority)
        try:
            return CarrierOffer.select(
                self._ice.local_username,
                self._ice.local_password,
                [one.to_sdp() for one in found],
            )
        except Malformed:
            raise CarrierError(
                "this machine has no address for a remote path", reason=ServerFailure.NO_CANDIDATE
            ) from None

    async def connect(self, remote: CarrierOffer) -> None:
        """Connect to the other side. Raises `CarrierError` after `check_seconds`."""
        ice = self._ice
        ice.remote_username, ice.remote_password = remote.ufrag, remote.pwd
        await self._add(remote)
        try:
            async with asyncio.timeout(self._check_seconds):
                await ice.connect()
        except (TimeoutError, ConnectionError) as error:
            raise CarrierError(
                "no pair of addresses works", reason=ServerFailure.NO_PATH
            ) from error
        asyncio.get_running_loop().call_soon(self._deliver_early)

    def add_remote(self, remote: CarrierOffer) -> None:
        """Add candidates of the other side while `connect` runs. Known ones are ignored."""
        if not self._is_closed:
            task = asyncio.ensure_future(self._add(remote))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def send(self, data: bytes) -> bool:
        """Send a datagram. Return False if it was dropped: not connected, or too much waits."""
        return not self._is_closed and self._ice.send_now(data)

    @property
    def remote_address(self) -> Address | None:
        """The address of the other side, while connected: its own, its NAT's, or its relay's."""
        pair = self._ice.pair
        return None if pair is None else Address(*pair.remote_addr)

    @property
    def kind_in_use(self) -> str:
        """`relay` if either address of the pair in use is at a relay, otherwise `direct`."""
        pair = self._ice.pair
        if pair is None:
            return "relay" if self.kind is CarrierKind.RELAY else "direct"
        types = {pair.local_candidate.type, pair.remote_candidate.type}
        return "relay" if "relay" in types else "direct"

    async def close(self) -> None:
        """Close the connection, and give the relay back. Takes at most 3 seconds."""
        self._is_closed = True
        self._early = None
        for task in [*self._tasks]:
            task.cancel()
        await self._ice.close()

    async def _add(self, remote: CarrierOffer) -> None:
        """Add the candidates that may be checked, MAX_CANDIDATES in all."""
        for line in checkable_untrusted(remote, self._ice.own_hosts):
            if len(self._ice.remote_candidates) < MAX_CANDIDATES + self._limits.peer_reflexive:
                await self._ice.add_remote_line(line)

    def _receive(self, data: bytes) -> None:
        if self._is_closed:
            return
        if self._early is not None:
            self._early.append(data)
        else:
            self._on_datagram(data)

    def _deliver_early(self) -> None:
        """Hand over what came before `connect` had returned."""
        waiting, self._early = self._early, None
        for data in waiting or ():
            self._receive(data)

    def _lose(self) -> None:
        if not self._is_closed:
            self._on_lost()
