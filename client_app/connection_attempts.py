"""Finding the one device that holds a key, at whichever of its addresses it answers.

Several addresses are tried at once (in the manner of RFC 8305): the next one starts when the one
before has failed or has been silent for a moment, and the first session with the pinned key wins.
A *different* device at an address does not hide the right one elsewhere: a wrong key is a failed
try, and never gets more than a handshake.

Addresses come from somebody: from this client's own records and user, or from announcements, which
any host on the link can send. So announcements take turns with each other, as many as `Limits`
says are tried, and they take no turn of the others. A wrong key is an alarm (`PinMismatch`) only
where it was not an announcement that led there (protocol §2.6).
"""

import asyncio
import contextlib
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peer.errors import HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.connection import CoapsConnection

STAGGER_SECONDS: Final = 0.25
"""RFC 8305 §5: how long one attempt has before the next one starts beside it."""

MOST_CANDIDATES: Final = 32
"""Of addresses that nobody announced."""


MOST_TOLD: Final = 4
"""Failures that an error tells one by one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address to try. Those of one `origin` take one turn together; `is_hint` if it is an
    announcement."""

    address: Address
    origin: object = None
    is_hint: bool = False


Attempt = Callable[[Address], Awaitable[CoapsConnection]]
Source = AsyncIterator[Candidate]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try, or a source, gave no session."""

    error: PeerError
    is_hint: bool = False


class Race:
    """One search: addresses come from several sources, the first good session ends it."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        limits: Limits = DEFAULT_LIMITS,
        stagger: float = STAGGER_SECONDS,
    ) -> None:
        self._attempt = attempt
        self._limits = limits
        self._stagger = stagger
        self._seen: set[Address] = set()
        self._waiting: dict[tuple[bool, object], deque[Address]] = {}
        self._turns: Counter[tuple[bool, object]] = Counter()
        self._news = asyncio.Event()
        self._failed = asyncio.Event()
        self._tries: set[asyncio.Task[CoapsConnection]] = set()
        self._won: asyncio.Future[CoapsConnection] = asyncio.get_running_loop().create_future()
        self.failures: list[Failure] = []

    @property
    def tried(self) -> int:
        """How many addresses were tried."""
        return len(self._seen)

    async def run(self, sources: Sequence[Source]) -> CoapsConnection:
        """The first session. Raises what says most about why there is none."""
        feeders = [asyncio.create_task(self._feed(source)) for source in sources]
        for feeder in feeders:
            feeder.add_done_callback(lambda _feeder: self._news.set())
        starter = asyncio.create_task(self._start_each(feeders))
        try:
            ends: set[asyncio.Future[Any]] = {starter, self._won}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._won.done():
                starter.result()  # a fault of ours comes out here
                raise _verdict(self.failures)
            return self._won.result()
        finally:
            await self._stop([*feeders, starter])

    async def _feed(self, source: Source) -> None:
        try:
            async for candidate in source:
                self._offer(candidate)
        except PeerError as error:
            self.failures.append(Failure(error))

    def _offer(self, candidate: Candidate) -> None:
        """Put an address behind the others of its origin. Too many origins of announcements lose
        one at random, so that nobody can aim at one."""
        key = (candidate.is_hint, candidate.origin)
        if key not in self._waiting and candidate.is_hint:
            hints = [one for one in self._waiting if one[0]]
            if len(hints) >= self._limits.announced_addresses:
                del self._waiting[secrets.choice(hints)]
        queue = self._waiting.setdefault(key, deque())
        most = self._limits.announced_addresses_each if candidate.is_hint else MOST_CANDIDATES
        if len(queue) < most:
            queue.append(candidate.address)
        self._news.set()

    async def _start_each(self, feeders: Sequence[asyncio.Task[None]]) -> None:
        while True:
            self._news.clear()
            candidate = self._next()
            if candidate is not None:
                self._start(candidate)
                await self._moment()
            elif all(feeder.done() for feeder in feeders):
                break
            else:
                await self._news.wait()
                await asyncio.sleep(0)  # a feeder that is at its end is done in the next turn
        while self._tries:
            await asyncio.wait(self._tries, return_when=asyncio.FIRST_COMPLETED)

    def _next(self) -> Candidate | None:
        """What to try now: no announcement before the others, then who had the fewest turns."""
        for key in sorted(self._waiting, key=lambda one: (one[0], self._turns[one])):
            is_hint, origin = key
            spent = sum(turns for (hint, _), turns in self._turns.items() if hint == is_hint)
            if spent >= (self._limits.announced_addresses if is_hint else MOST_CANDIDATES):
                continue
            if is_hint and self._turns[key] >= self._limits.announced_addresses_each:
                continue
            queue = self._waiting[key]
            while queue:
                address = queue.popleft()
                if not queue:
                    del self._waiting[key]
                if address not in self._seen:
                    self._seen.add(address)
                    self._turns[key] += 1
                    return Candidate(address, origin, is_hint)
        return None

    def _start(self, candidate: Candidate) -> None:
        self._failed.clear()
        task = asyncio.ensure_future(self._attempt(candidate.address))
        self._tries.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, candidate))

    async def _moment(self) -> None:
        """Until an attempt fails, and not longer than the stagger."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stagger):
                await self._failed.wait()

    def _ended(self, task: asyncio.Task[CoapsConnection], candidate: Candidate) -> None:
        self._tries.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None and not self._won.done():
            self._won.set_result(task.result())
        elif isinstance(error, PeerError):
            self.failures.append(Failure(error, candidate.is_hint))
            self._failed.set()
        elif error is not None and not self._won.done():
            self._won.set_exception(error)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        tries = list(self._tries)
        for task in (*tasks, *tries):
            task.cancel()
        ended = await asyncio.gather(*tries, return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        winner = self._won.result() if self._won.done() and not self._won.exception() else None
        for late in ended:  # two sessions came about in the same moment: one is enough
            if isinstance(late, CoapsConnection) and late is not winner:
                await late.close()


def _verdict(failures: Sequence[Failure]) -> PeerError:
    """The failure that says most: a wrong key where no announcement led, an answer of any kind,
    then silence. Announced places with another key are told of and are no alarm."""
    strangers = sum(one.is_hint and isinstance(one.error, PinMismatch) for one in failures)
    errors = [
        one.error
        for one in sorted(failures, key=lambda one: one.is_hint)
        if not (one.is_hint and isinstance(one.error, PinMismatch))
    ]
    for kind in (PinMismatch, HandshakeFailed):
        for error in errors:
            if isinstance(error, kind):
                return error
    if strangers:
        errors.insert(0, another_key(strangers))
    if not errors:
        return Unreachable(
            "the device was not found on this network, and no address of it is stored",
            advice="Check that the device is on and on this network, or add an address with "
            "`handfast address`.",
        )
    if len(errors) == 1:
        return errors[0]
    each = list(dict.fromkeys(str(error) for error in errors))
    more = [f"and {len(each) - MOST_TOLD} more"] if len(each) > MOST_TOLD else []
    said = "; ".join([*each[:MOST_TOLD], *more])
    advice = next((error.advice for error in errors if error.advice), "")
    if all(isinstance(error, TimedOut) for error in errors):
        return TimedOut(said, advice=advice)
    refused = any(isinstance(one, Unreachable) and one.refused for one in errors)
    return Unreachable(said, advice=advice, refused=refused)


def another_key(places: int) -> Unreachable:
    """The error for places that were announced as the device's, and are another's."""
    return Unreachable(
        f"a device with another key answered at {places} announced "
        f"{'address' if places == 1 else 'addresses'}",
        advice="Any host on this network can announce a device, so this may be a wrong "
        "announcement. No request was sent to it. If you know the device's address, add it with "
        "`handfast address`.",
    )
