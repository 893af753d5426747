"""Open and write files that belong to one user (CWE-59, CWE-367).

A file in a state folder is opened only if it is a regular file of this process's own user and the
last part of its path is not a link; it is checked after it was opened, never before. New content
replaces the old content whole or not at all.

If root works on another user's folder, it acts as that user (`acting_as_owner_of`): it follows no
link that this user could not follow, and leaves no file that this user cannot open. `peer.files`
has the same rule for keys and the client's files; `peer` and `iam` share no code.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

_PRIVATE: Final = 0o600
_NO_SYNC: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def open_own(path: Path, flags: int, mode: int = _PRIVATE) -> int:
    """Open a regular file of this user; children do not inherit the descriptor.

    Raises OSError: for a symbolic link, a FIFO or a device, a file of another user, and for one
    with a second name (a hard link) that is opened for writing.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
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


def require_own(path: Path) -> None:
    """Raise OSError unless `path` is absent or `open_own` would open it.

    For SQLite, which opens files by name.
    """
    with suppress(FileNotFoundError):
        os.close(open_own(path, os.O_RDWR))


def _objection(found: os.stat_result, *, writing: bool) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_uid != os.geteuid():
        return f"it belongs to another user (uid {found.st_uid})"
    if writing and found.st_nlink > 1:
        return "it has a second name (a hard link)"
    return ""


def reading_own(path: Path) -> BinaryIO:
    """Open a file of this user for reading. Raises OSError as `open_own` does."""
    return os.fdopen(open_own(path, os.O_RDONLY), "rb")


def read_own(path: Path) -> bytes:
    """Return the content of a file of this user. Raises OSError as `open_own` does."""
    with reading_own(path) as file:
        return file.read()


def append_own(path: Path, data: bytes) -> None:
    """Append to an existing file, durably. Raises OSError; then any part may be written."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "wb", buffering=0) as file:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, "the disk stored only a part of it", str(path))
        os.fsync(file.fileno())


def atomic_write(path: Path, data: bytes, mode: int = _PRIVATE) -> None:
    """Replace the content durably, whole or not at all, through a new file beside it.

    The owner and the mode of a file that is replaced are kept, so that root takes it away from no
    service. `mode` is that of a new file, whatever the umask. Raises OSError; then the old content
    is still there.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    try:
        handle = open_own(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            with suppress(OSError):  # some file systems have no permissions
                os.fchmod(handle, mode)
            take_over(handle, path)
            file.write(data)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def take_over(handle: int, path: Path) -> None:
    """Give a new file the owner and the mode of the one that it replaces, as far as allowed."""
    with suppress(OSError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return
        with suppress(OSError):
            os.fchown(handle, -1, found.st_gid)
        with suppress(OSError):
            os.fchown(handle, found.st_uid, -1)
        os.fchmod(handle, stat.S_IMODE(found.st_mode))


def create_folder(path: Path, mode: int) -> None:
    """Create a folder with its parents, with this mode whatever the umask. Raises OSError."""
    for folder in (*reversed(path.parents), path):
        with suppress(FileExistsError):
            folder.mkdir(mode)
            folder.chmod(mode)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises OSError.

    Some file systems cannot do this for a folder; there, nothing is done.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC or not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise
    finally:
        os.close(handle)


_late_modules: set[str] = set()


def import_before_acting(*modules: str) -> None:
    """Name modules that are imported at first use. Root imports them before it changes its user.

    That user may not be able to read them.
    """
    _late_modules.update(modules)


def _import_late_modules() -> None:
    for module in sorted(_late_modules):
        with suppress(ImportError):  # it is an error where it is used
            importlib.import_module(module)


@contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """Give root the effective user and group of the folder's owner, inside the block.

    Nothing changes for other users, for a folder of root and for one that does not exist. It
    applies to the whole process, so it is for programs with one thread.
    """
    owner = other_owner(folder)
    if owner is None:
        yield
        return
    # Otherwise read at first use, as the other user, who may not be able to read them:
    for codec in ("ascii", "utf-8", "utf-8-sig", "idna"):
        codecs.lookup(codec)
    _import_late_modules()
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def become_owner_of(folder: Path) -> None:
    """Become the folder's owner for the rest of the process's life."""
    owner = other_owner(folder)
    if owner is not None:
        _import_late_modules()
        os.setgroups([owner.st_gid])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


def other_owner(folder: Path) -> os.stat_result | None:
    """Return the owner of the folder if this process is root and the owner is not; else None."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError, NotADirectoryError):
        found = folder.stat()
        return found if found.st_uid != 0 else None
    return None
