"""Reading files that people name or put into a folder: settings, policies, pictures.

A FIFO makes whoever opens it wait for a writer, and to open a device may start something. So only
regular files are opened, and never with waiting. A symbolic link to a regular file is one, because
administrators use them. What is read is bounded.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises `OSError` for anything else; `strerror` says why."""
    _check(path.stat(), path)  # before it is opened: opening a device may start something
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()), path)  # it may be another file by now
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path, most: int) -> bytes:
    """All of a regular file of at most `most` bytes. Raises `OSError` as `open_regular` does."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most} bytes", str(path))
    return data


def _check(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
