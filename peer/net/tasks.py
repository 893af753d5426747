"""Tasks that end together with their owner."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> list[object]:
    """Cancel tasks, and wait until each has ended; return their results and errors."""
    ending = [*tasks]
    for one in ending:
        one.cancel()
    found: list[object] = await asyncio.gather(*ending, return_exceptions=True)
    return found


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end, also if the caller is cancelled meanwhile; return its result.

    The cancellation is raised after that end.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait({task})


async def run_until_one_ends(*works: Coroutine[object, object, object]) -> None:
    """Run coroutines side by side until one of them ends, and cancel the others.

    Raises the error of the one that has ended.
    """
    tasks = {asyncio.ensure_future(one) for one in works}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        await cancel_all(tasks)
