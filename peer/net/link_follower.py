"""Doing again what depends on this machine's links: when they change, and after a failure.

A daemon often starts before its network does, and another program may use UDP port 5353 for a
while. So multicast DNS that fails is tried again, with a pause that doubles, and whenever an
interface or an address changes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from peer.limits import (
    ADDRESS_SETTLE_SECONDS,
    MULTICAST_RETRY_MAX_SECONDS,
    MULTICAST_RETRY_SECONDS,
)
from peer.net.interfaces import InterfaceWatch
from peer.net.mdns import FAILURES
from peer.net.tasks import cancel_all


class LinkFollower:
    """Calls `reconcile` at the start, after changes of links, and with back-off while it fails.

    `failure` is the error of the last call: one of `FAILURES`, or None.

    Args:
        reconcile: updates something to the current links.
        on_attempt: called after each call of `reconcile`.
    """

    def __init__(
        self,
        reconcile: Callable[[], Awaitable[None]],
        *,
        on_attempt: Callable[[], None] = lambda: None,
    ) -> None:
        self.failure: Exception | None = None
        self._reconcile = reconcile
        self._on_attempt = on_attempt
        self._changed = asyncio.Event()
        self._watch: InterfaceWatch | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the first attempt; then follow in the background until `close`."""
        try:
            await self._attempt()
        except BaseException:  # also a cancellation
            await self.close()
            raise
        self._task = asyncio.create_task(self._follow(), name="changes of links")

    async def close(self) -> None:
        """Stop following. Safe to repeat."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task])

    async def _follow(self) -> None:
        pause = MULTICAST_RETRY_SECONDS
        while True:
            if await self._has_changed(None if self.failure is None else pause):
                await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
                pause = MULTICAST_RETRY_SECONDS
            else:
                pause = min(2 * pause, MULTICAST_RETRY_MAX_SECONDS)
            await self._attempt()

    async def _has_changed(self, timeout: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                return await self._changed.wait()
        return False

    async def _attempt(self) -> None:
        self._changed.clear()
        try:
            if self._watch is None:
                self._watch = InterfaceWatch(self._changed.set)
            await self._reconcile()
        except FAILURES as error:
            self.failure = error
        else:
            self.failure = None
        self._on_attempt()
