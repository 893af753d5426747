"""Blocking calls in daemon threads, which may never return.

A thread of asyncio's own executor is joined at the end of the program. So a call that blocks, such
as a question to a person or to a name server, would keep a program running after its time.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def call_in_thread(work: Callable[[], T]) -> T:
    """Call a function in a daemon thread and return its result. If cancelled, it is left alone."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if answer.done() else set_outcome())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failed = error
            settle(lambda: answer.set_exception(failed))
        else:
            settle(lambda: answer.set_result(result))

    threading.Thread(target=run, name="handfast call", daemon=True).start()
    return await answer
