"""The standard streams of a process, which its caller may have closed or connected to a full disk.

Python sets a closed stream to None, and its descriptor is then given to the next file or socket
that is opened. Errors of standard output come at any print and again at the end of the process. So
a command line calls `prepare` before anything else: an error of standard output is then one
`OutputFailed`, with an exit code of its own, and an error of standard error, which cannot be
reported anywhere, is ignored.
"""

import errno
import io
import os
import select
import sys
from typing import ClassVar, Final

from peer.errors import PeerError

_STDERR = 2
_WORDS: Final = {errno.EBADF: "it is closed", errno.EPIPE: "its reader has closed it"}


class OutputFailed(PeerError):
    """Standard output is closed or full. The command itself was carried out."""

    exit_code: ClassVar[int] = 14


class ReaderGone(OutputFailed):
    """The reader of a pipe has closed it, as `| head` does: the command ends without a message."""

    exit_code: ClassVar[int] = 1


def prepare() -> None:
    """Replace the standard streams; does nothing to a stream that a caller has replaced.

    A closed stream gets a descriptor again, the lowest free number, which is its own: the number is
    not used for another file. That of standard output can be read and not written, so writing
    reports that it is closed.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open
    if sys.stdout is sys.__stdout__:
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        sys.stdout = standard_output(_descriptor(sys.stdout, os.O_RDONLY), encoding)
    if sys.stderr is sys.__stderr__:
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = _text(_Errors(_descriptor(sys.stderr, os.O_WRONLY)), encoding)


def standard_output(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Return a text stream for standard output, whose first error is `OutputFailed`."""
    return _text(_Output(descriptor), encoding)


class _Output(io.FileIO):
    """Standard output. After the first error, what is written is discarded."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._has_failed = False

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]  # no others come
        """Write; wait if the stream does not block. Raises `OutputFailed`."""
        size = memoryview(data).nbytes
        if self._has_failed:
            return size
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            self._has_failed = True
            self._report(error)
            return size
        return written

    def _report(self, error: OSError) -> None:
        why = _WORDS.get(error.errno or 0, error.strerror)
        failure = ReaderGone if error.errno == errno.EPIPE else OutputFailed
        raise failure(
            f"cannot write to standard output: {why}",
            advice="The command was carried out, but its output is missing or incomplete.",
        ) from error


class _Errors(_Output):
    """Standard error."""

    def _report(self, _error: OSError) -> None:
        """There is nowhere left to report it."""


def _text(raw: io.FileIO, encoding: str) -> io.TextIOWrapper:
    """A text stream; a character that the encoding does not have is escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=raw.fileno() == _STDERR or raw.isatty(),
        write_through=raw.fileno() == _STDERR,
    )


def _descriptor(stream: object, flags: int) -> int:
    """The descriptor of a stream; a new one if the stream is closed."""
    if isinstance(stream, io.TextIOWrapper):
        return stream.fileno()
    return os.open(os.devnull, flags)
