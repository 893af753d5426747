"""Reading lines from a terminal, for questions that can be withdrawn.

A line is read without a thread, so a question can be cancelled while a person is typing; what was
typed before a question is discarded, so it cannot answer it.
"""

import codecs
import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from typing import Final

from peer.errors import UsageError
from peer.pasted import compact, decode_pasted

_LINE_BYTES: Final = 1024

YES_OR_NO: Final = {"y": True, "yes": True, "n": False, "no": False}
"""The answers to a yes-or-no question, in lower case."""


PLEASE_ANSWER: Final = "Please answer yes or no: "
"""The question that follows an answer that is neither."""


def ask_yes_or_no(question: str) -> bool:
    """Ask a yes-or-no question on stderr and read the answer from stdin; its end counts as no."""
    sys.stderr.write(f"{question} [yes/no] ")
    while True:
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            return False
        answer = yes_or_no(line)
        if answer is not None:
            return answer
        sys.stderr.write(PLEASE_ANSWER)


def can_ask() -> bool:
    """Whether a person can be asked: stdin and stderr are both a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def discard_typed_input(descriptor: int = 0) -> None:
    """Discard what was typed and not yet read; does nothing without a terminal."""
    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)


def yes_or_no(line: str) -> bool | None:
    """Read an answer to a yes-or-no question; None if it is neither."""
    return YES_OR_NO.get(compact(line).lower())


def read_all(most: int) -> str:
    """Read a text that may have several lines: one line of a terminal, or all of a pipe or file.

    At most `most` bytes are read. A byte order mark is not part of the text, and UTF-16 is decoded.
    Raises `UsageError` if it cannot be read.
    """
    if sys.stdin.isatty():
        return sys.stdin.readline(most)
    with _explained():
        return decode_pasted(sys.stdin.buffer.read(most))


def read_first_line(most: int) -> str:
    """Read the first line of standard input, as `read_all` does."""
    if sys.stdin.isatty():
        return sys.stdin.readline(most)
    with _explained():
        line = sys.stdin.buffer.readline(most)
        if line.startswith(codecs.BOM_UTF16_LE):  # its line break has one more byte
            line += sys.stdin.buffer.read(1)
        return decode_pasted(line)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a folder, for example
        raise UsageError(
            f"standard input cannot be read: {error.strerror}", advice="Give a file or a pipe."
        ) from error


async def read_line(descriptor: int = 0) -> str | None:
    """Read the next line; None at the end of input. If cancelled, nothing is read."""
    import asyncio  # noqa: PLC0415 - loaded already if there is a loop; slow for other commands

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
