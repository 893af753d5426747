"""Connecting to the one device that holds a key, at any of several addresses (RFC 8305).

The addresses are tried in parallel: the next attempt starts when the one before has failed or
after a short delay, and the first session with the pinned key wins. A device with another key at
one address does not hide the right device at another: a wrong key is a failed attempt, and receives
no more than a handshake.

Addresses are stated by this client's user and files, or they are announced, which any host on the
link can do. Announcements take turns with each other, within `Limits`, and never take the turn of a
stated address. A wrong key is reported as `PinMismatch` only for a stated address (protocol §2.6).

An address of this machine is tried only if no other one leads to the device: two machines often
have the same address on a network of their own, for example 172.17.0.1 for containers.
"""

import asyncio
import contextlib
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from client_app.deadline import explain_timeout
from client_app.failures import (
    Failure,
    blocked_advice,
    most_significant,
    other_key_here,
    stated,
    without_unusable,
)
from client_app.limits import (
    ATTEMPT_DELAY_SECONDS,
    REPORTED_FAILURES,
    SILENT_ATTEMPT_SECONDS,
    STATED_ADDRESSES,
)
from peer.errors import PeerError, PinMismatch, TimedOut, Unreachable
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.connection import CoapsConnection
from peer.net.tasks import cancel_all


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address to try.

    Attributes:
        address: the address.
        origin: addresses of one origin share its turns.
        is_hint: whether it was announced.
        is_own: whether it is an address of this machine, so that a wrong key there is no alarm.
        is_last: whether to try it only after all others have failed.
    """

    address: Address
    origin: object = None
    is_hint: bool = False
    is_own: bool = False
    is_last: bool = False


Connect = Callable[[Address], Awaitable[CoapsConnection]]
Source = AsyncIterator[Candidate]
_Turn = tuple[bool, object]
"""`is_hint` and `origin`."""


class ConnectionAttempts:
    """One search: addresses come from several sources, and the first session ends it. One-shot.

    Args:
        connect: opens a session at one address.
        limits: how many announced addresses are tried.
        delay: seconds before the next attempt starts beside a pending one.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        limits: Limits = DEFAULT_LIMITS,
        delay: float = ATTEMPT_DELAY_SECONDS,
    ) -> None:
        self._connect = connect
        self._limits = limits
        self._delay = delay
        self._seen: set[Address] = set()
        self._waiting: dict[_Turn, deque[Address]] = {}
        self._last: deque[Candidate] = deque(maxlen=STATED_ADDRESSES)
        self._own: set[Address] = set()
        self._stated: set[Address] = set()
        self._is_announced = False
        self._turns: Counter[_Turn] = Counter()
        self._has_candidate = asyncio.Event()
        self._has_failed = asyncio.Event()
        self._attempts: set[asyncio.Task[CoapsConnection]] = set()
        self._silent: dict[Address, float] = {}  # since when each pending attempt has no answer
        self._outcome: asyncio.Future[CoapsConnection] = asyncio.get_running_loop().create_future()
        self.failures: list[Failure] = []

    @property
    def tried(self) -> int:
        """The number of addresses that were tried."""
        return len(self._seen)

    def has_tried(self, address: Address) -> bool:
        """Whether an attempt at an address was started."""
        return address in self._seen

    async def run(self, sources: Sequence[Source]) -> CoapsConnection:
        """Return the first session. Raises the most significant error if there is none."""
        feeders = [asyncio.create_task(self._feed(source)) for source in sources]
        starter = asyncio.create_task(self._start_each(feeders))
        starter.add_done_callback(self._starter_ended)
        winner: CoapsConnection | None = None
        try:
            winner = await asyncio.shield(self._outcome)
            return winner
        except asyncio.CancelledError:  # perhaps by a deadline
            self._explain_silence()
            raise
        finally:
            await self._stop([*feeders, starter], winner)

    async def _feed(self, source: Source) -> None:
        try:
            async for candidate in source:
                self._offer(candidate)
        except PeerError as error:
            self.failures.append(Failure(error))
        finally:
            self._has_candidate.set()

    def _offer(self, candidate: Candidate) -> None:
        """Queue an address.

        Beyond the limit an announcement is dropped at random, so that no one can choose which.
        """
        if candidate.is_own:
            self._own.add(candidate.address)
        if candidate.is_hint:
            self._is_announced = True
        else:
            self._stated.add(candidate.address)
        if candidate.is_last:
            self._last.append(replace(candidate, is_last=False))
            return
        turn = (candidate.is_hint, candidate.origin)
        if turn not in self._waiting and candidate.is_hint:
            hints = [one for one in self._waiting if one[0]]
            if len(hints) >= self._limits.announced_addresses:
                del self._waiting[secrets.choice(hints)]
        queue = self._waiting.setdefault(turn, deque())
        most = self._limits.announced_addresses_each if candidate.is_hint else STATED_ADDRESSES
        if len(queue) < most:
            queue.append(candidate.address)
        self._has_candidate.set()

    async def _start_each(self, feeders: Sequence[asyncio.Task[None]]) -> None:
        while True:
            self._has_candidate.clear()
            candidate = self._next()
            if candidate is not None:
                self._start(candidate)
                await self._pause()
            elif not all(feeder.done() for feeder in feeders):
                await self._has_candidate.wait()
                await asyncio.sleep(0)  # a feeder at its end is done in the next iteration
            elif self._attempts:
                await asyncio.wait(self._attempts, return_when=asyncio.FIRST_COMPLETED)
            elif self._last:
                self._offer(self._last.popleft())
            else:
                return

    def _starter_ended(self, starter: asyncio.Task[None]) -> None:
        if not (starter.cancelled() or self._outcome.done()):
            # An announcement of a stated address must not turn an alarm into a hint.
            failures = stated(without_unusable(self.failures), self._stated)
            error = most_significant(failures, is_announced=self._is_announced)
            self._outcome.set_exception(starter.exception() or error)

    def _next(self) -> Candidate | None:
        """Choose the next address: stated ones first, then the origin with the fewest turns."""
        for turn in sorted(self._waiting, key=lambda one: (one[0], self._turns[one])):
            is_hint, origin = turn
            spent = sum(turns for (hint, _), turns in self._turns.items() if hint == is_hint)
            if spent >= (self._limits.announced_addresses if is_hint else STATED_ADDRESSES):
                continue
            if is_hint and self._turns[turn] >= self._limits.announced_addresses_each:
                continue
            queue = self._waiting[turn]
            while queue:
                address = queue.popleft()
                if not queue:
                    del self._waiting[turn]
                if address not in self._seen:
                    self._seen.add(address)
                    self._turns[turn] += 1
                    return Candidate(address, origin, is_hint)
        return None

    def _start(self, candidate: Candidate) -> None:
        self._has_failed.clear()
        attempt = asyncio.ensure_future(self._connect(candidate.address))
        self._silent[candidate.address] = asyncio.get_running_loop().time()
        self._attempts.add(attempt)
        attempt.add_done_callback(lambda ended: self._attempt_ended(ended, candidate))

    async def _pause(self) -> None:
        """Wait until an attempt fails, or for the delay."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._delay):
                await self._has_failed.wait()

    def _explain_silence(self) -> None:
        """Say which addresses have not answered so far, and whether the device is announced."""
        if not self._silent:
            return
        texts = [f"{address} has not answered" for address in self._silent]
        waited = asyncio.get_running_loop().time() - min(self._silent.values())
        is_blocked = self._is_announced and waited >= SILENT_ATTEMPT_SECONDS
        port = next(iter(self._silent)).port
        explain_timeout(
            "; ".join(texts[:REPORTED_FAILURES]),
            advice=blocked_advice(port) if is_blocked else "",
        )

    def _attempt_ended(self, attempt: asyncio.Task[CoapsConnection], candidate: Candidate) -> None:
        if not attempt.cancelled():
            self._silent.pop(candidate.address, None)
        if attempt.cancelled():
            self._attempts.discard(attempt)
            return
        error = attempt.exception()
        if error is None:
            if not self._outcome.done():
                self._attempts.discard(attempt)
                self._outcome.set_result(attempt.result())
            return  # a second session is closed by `_stop`
        self._attempts.discard(attempt)
        if isinstance(error, PinMismatch) and candidate.address in self._own:
            error = other_key_here(candidate.address)
        if isinstance(error, PeerError):
            is_answer = not isinstance(error, (PinMismatch, TimedOut, Unreachable))
            failure = Failure(error, candidate.is_hint, is_answer, candidate.address)
            self.failures.append(failure)
            self._has_failed.set()
        elif not self._outcome.done():
            self._outcome.set_exception(error)

    async def _stop(
        self, tasks: Sequence[asyncio.Task[None]], winner: CoapsConnection | None
    ) -> None:
        """Cancel what is pending; close every session but the winner."""
        ended = await cancel_all((*self._attempts, *tasks))
        if self._outcome.done() and self._outcome.exception() is None:
            ended.append(self._outcome.result())
        for session in ended:
            if isinstance(session, CoapsConnection) and session is not winner:
                await session.close()
