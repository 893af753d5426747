"""How long a test waits for something that must happen, and waiting for a condition."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

TIMEOUT_SECONDS: Final = 60.0
"""Seconds until a test stops waiting; generous, for busy machines."""


async def until(holds: Callable[[], object]) -> None:
    """Let other tasks and threads run until a condition holds that no event announces."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def skip_time(seconds: float) -> None:
    """Set the clock of the running loop forward: timers become due, and what is idle is so longer.

    Only for the rest of a test, which has a loop of its own.
    """
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


def stop_time() -> None:
    """Let the clock of the running loop stand still: no timer fires in the rest of a test."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now  # type: ignore[method-assign]


def block_until(holds: Callable[[], object]) -> None:
    """Block this thread until a condition holds that another thread or a process brings about."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
