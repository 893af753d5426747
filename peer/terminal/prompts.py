"""Reading lines from a terminal, for questions that can be withdrawn.

A line is read without a thread, so a question can be cancelled while a person is typing; what was
typed before a question is discarded, so it cannot answer it.
"""

import asyncio
import contextlib
import os
import sys
import termios
from typing import Final

_LINE_BYTES: Final = 1024

YES_OR_NO: Final = {"y": True, "yes": True, "n": False, "no": False}
"""The answers to a yes-or-no question, in lower case."""


def can_ask() -> bool:
    """Whether a person can be asked: stdin and stderr are both a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def discard_typed_input(descriptor: int = 0) -> None:
    """Discard what was typed and not yet read; does nothing without a terminal."""
    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)


async def read_line(descriptor: int = 0) -> str | None:
    """Read the next line; None at the end of input. If cancelled, nothing is read."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        if not typed.done():
            try:
                typed.set_result(os.read(descriptor, _LINE_BYTES))
            except OSError:
                typed.set_result(b"")

    loop.add_reader(descriptor, readable)
    try:
        data = await typed
    finally:
        loop.remove_reader(descriptor)
    return data.decode("utf-8", "replace") if data else None
