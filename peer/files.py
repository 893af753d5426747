"""Opening files: those that belong to this process's user, and those that people name.

`open_own` is for keys and for what a client keeps (CWE-59, CWE-367): a file is looked at after it
was opened, never before, and the last part of its path is no link. `iam.files` has the same rule
for the store; `peer` and `iam` share no code.

`open_regular` is for settings, policies and pictures. Administrators use symbolic links there, so
those are followed. But a FIFO makes whoever opens it wait for a writer, and opening a device may
start something: only regular files are opened, and never with waiting.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_PRIVATE = 0o600


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a regular file that belongs to this process's user; one that is made is 0600.

    Raises OSError, whose `strerror` says why: for a symbolic link, a FIFO or a device, a file of
    another user, and for one with a second name (a hard link) that is opened for writing.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, _PRIVATE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from error
        raise
    try:
        why = _objection(os.fstat(handle), writing=flags & os.O_ACCMODE != os.O_RDONLY)
        if why:
            raise PermissionError(errno.EPERM, why, str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_own(path: Path) -> tuple[bytes, int]:
    """The content of a file of ours, and its permission bits. Raises OSError as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises `OSError` for anything else; `strerror` says why."""
    _require_regular(path.stat(), path)  # before it is opened: opening a device may start something
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(os.fstat(file.fileno()), path)  # it may be another file by now
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


def _require_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _objection(found: os.stat_result, *, writing: bool) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_uid != os.geteuid():
        return f"it belongs to another user (uid {found.st_uid})"
    if writing and found.st_nlink > 1:
        return "it has a second name (a hard link)"
    return ""
