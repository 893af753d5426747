"""End a command that follows something when the reader of its output has left, as `| head` does.

A command notices a closed pipe when it prints. One that waits for the next event may have nothing
to print for hours, and a shell waits for every command of a pipeline.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from peer.terminal.streams import ReaderGone

_ResultT = TypeVar("_ResultT")


async def while_read(work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
    """Await `work`, and return its result.

    Raises:
        ReaderGone: standard output is a pipe, and its reader has closed it; `work` is cancelled.
    """
    loop = asyncio.get_running_loop()
    task, is_gone = asyncio.ensure_future(work), False

    def end() -> None:
        nonlocal is_gone
        is_gone = True
        loop.remove_reader(pipe)
        task.cancel()

    pipe = _pipe()
    if pipe >= 0:
        loop.add_reader(pipe, end)  # epoll reports an error of the end that writes like this
    try:
        return await task
    except asyncio.CancelledError:
        if is_gone:
            raise ReaderGone("the reader of standard output has closed it") from None
        task.cancel()
        raise
    finally:
        if pipe >= 0:
            loop.remove_reader(pipe)


def _pipe() -> int:
    """The descriptor of standard output if it is a pipe, or -1."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else -1
    except (OSError, ValueError):  # it is no file, as in a test
        return -1
