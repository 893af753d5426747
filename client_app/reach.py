"""Finding the one device that holds a key, at whichever of its addresses it answers.

Several addresses are tried at once (in the manner of RFC 8305): the next one starts when the one
before has failed or has been silent for a moment, and the first session with the pinned key wins.
A *different* device at an old address does not hide the right one elsewhere: a wrong key is
remembered, and told only if nobody had the right one. A wrong one never gets more than a handshake.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from peer.errors import HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.net.client import CoapsConnection
from peer.net.udp import Address

STAGGER_SECONDS: Final = 0.25
"""RFC 8305 §5: how long one attempt has before the next one starts beside it."""

MOST_CANDIDATES: Final = 32

Attempt = Callable[[Address], Awaitable[CoapsConnection]]
Source = AsyncIterator[Address]


class Race:
    """One search: addresses come from several sources, the first good session ends it."""

    def __init__(self, attempt: Attempt, *, stagger: float = STAGGER_SECONDS) -> None:
        self._attempt = attempt
        self._stagger = stagger
        self._seen: set[Address] = set()
        self._waiting: asyncio.Queue[Address | None] = asyncio.Queue()
        self._failed = asyncio.Event()
        self._tries: set[asyncio.Task[CoapsConnection]] = set()
        self._won: asyncio.Future[CoapsConnection] = asyncio.get_running_loop().create_future()
        self.failures: list[PeerError] = []

    async def run(self, sources: Sequence[Source]) -> CoapsConnection:
        """The first session. Raises what says most about why there is none."""
        feeders = [asyncio.create_task(self._feed(source)) for source in sources]
        starter = asyncio.create_task(self._start_each(len(feeders)))
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
            async for address in source:
                await self._waiting.put(address)
        except PeerError as error:
            self.failures.append(error)
        finally:
            self._waiting.put_nowait(None)

    async def _start_each(self, sources: int) -> None:
        while sources:
            address = await self._waiting.get()
            if address is None:
                sources -= 1
            elif address not in self._seen and len(self._seen) < MOST_CANDIDATES:
                self._seen.add(address)
                self._start(address)
                await self._moment()
        while self._tries:
            await asyncio.wait(self._tries, return_when=asyncio.FIRST_COMPLETED)

    def _start(self, address: Address) -> None:
        self._failed.clear()
        task = asyncio.ensure_future(self._attempt(address))
        self._tries.add(task)
        task.add_done_callback(self._ended)

    async def _moment(self) -> None:
        """Until an attempt fails, and not longer than the stagger."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stagger):
                await self._failed.wait()

    def _ended(self, task: asyncio.Task[CoapsConnection]) -> None:
        self._tries.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None and not self._won.done():
            self._won.set_result(task.result())
        elif isinstance(error, PeerError):
            self.failures.append(error)
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


def _verdict(failures: Sequence[PeerError]) -> PeerError:
    """The failure that says most: a wrong key, then an answer of any kind, then silence."""
    for kind in (PinMismatch, HandshakeFailed):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    if not failures:
        return Unreachable(
            "nobody knows where it is",
            advice="Is it on, and on this network? `handfast address` names other places to look.",
        )
    if len(failures) == 1:
        return failures[0]
    said = "; ".join(dict.fromkeys(str(failure) for failure in failures))
    advice = next((failure.advice for failure in failures if failure.advice), "")
    if all(isinstance(failure, TimedOut) for failure in failures):
        return TimedOut(said, advice=advice)
    refused = any(isinstance(one, Unreachable) and one.refused for one in failures)
    return Unreachable(said, advice=advice, refused=refused)
