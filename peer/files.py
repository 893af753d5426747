"""Opening files that belong to one user: keys, and what a client keeps (CWE-59, CWE-367).

A file is looked at after it was opened, never before, and the last part of its path is no link.
`iam.files` has the same rule for the store; `peer` and `iam` share no code.
"""

import errno
import os
import stat
from pathlib import Path

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


def _objection(found: os.stat_result, *, writing: bool) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_uid != os.geteuid():
        return f"it belongs to another user (uid {found.st_uid})"
    if writing and found.st_nlink > 1:
        return "it has a second name (a hard link)"
    return ""
