"""Open and write files safely: the program's own files, and files that a user names.

`open_own` and `atomic_write` are for keys and for what a client stores (CWE-59, CWE-367): a file is
checked after it was opened, never before, and the last part of its path is not a symbolic link.
`follow_own_links` is for a file that its user may have moved and linked.
`iam.files` has the same functions for the store, since `peer` and `iam` never import each other;
tests/peer/test_files.py holds both to the same behaviour.

`open_regular` is for settings, policies and pictures. Administrators use symbolic links there, so
they are followed. Only regular files are opened, and without blocking: opening a FIFO would wait
for a writer, and opening a device file may have side effects.
"""

import codecs
import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from peer.errors import Malformed
from peer.limits import MAX_LINKS

_PRIVATE = 0o600
_UNSUPPORTED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
"""Errors of file systems that have no permissions, no hard links, or no sync of folders."""


def open_own(path: Path, flags: int) -> int:
    """Open a regular file that belongs to this process's user; a new one has mode 0600.

    Raises `OSError`, whose `strerror` says why: for a symbolic link, a FIFO or a device file, a
    file of another user, and a file with a second hard link that is opened for writing.
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


def follow_own_links(path: Path) -> Path:
    """Return the file to which a symbolic link leads, or `path` if it is none.

    The links have to belong to this process's user or to root: no other user decides which file is
    used. The file need not exist. Raises `OSError`, whose `strerror` says why.
    """
    for _ in range(MAX_LINKS):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if found.st_uid not in {os.geteuid(), 0}:
            why = f"it is a symbolic link of another user (uid {found.st_uid})"
            raise PermissionError(errno.EPERM, why, str(path))
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def read_own(path: Path) -> tuple[bytes, int]:
    """Return the content and the permission bits of an own file. Raises as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def atomic_write(
    path: Path,
    data: bytes,
    *,
    mode: int = _PRIVATE,
    replace: bool = True,
    is_secret: bool = False,
) -> None:
    """Write a file durably: after this, or after a crash, its content is the old one or `data`.

    The data goes to a new file in the same folder, which is synchronized (fsync) and then takes
    the name. A symbolic link at `path` is replaced, not followed. A process that is killed may
    leave the new file behind, with the prefix of `draft_prefix`.

    Args:
        path: the file.
        data: its new content.
        mode: its permission bits.
        replace: if false, an existing file stays as it is.
        is_secret: if true, the file is not written where other users could read it, because its
            file system stores no permissions (FAT, exFAT).

    Raises:
        FileExistsError: `replace` is false, and there is a file.
        OSError: the file cannot be written; the old content is still there.
    """
    handle, name = _mkstemp(path.parent, draft_prefix(path))  # 0600, O_EXCL
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _set_mode(handle, mode, is_secret=is_secret)
            file.write(data)
            file.flush()
            os.fsync(handle)
        if replace:
            draft.replace(path)
        else:
            _rename_to_new(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _set_mode(handle: int, mode: int, *, is_secret: bool) -> None:
    """Set permission bits. Raises `OSError` if they cannot be set and grant too much."""
    try:
        os.fchmod(handle, mode)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    excess = stat.S_IMODE(os.fstat(handle).st_mode) & ~mode
    if excess & 0o022 or (is_secret and excess & 0o077):
        what = "change it" if excess & 0o022 else "read it"
        why = f"its file system stores no permissions, so other users could {what}"
        raise PermissionError(errno.EPERM, why)


def _rename_to_new(draft: Path, path: Path) -> None:
    """Give a file a name that no file has. Raises `FileExistsError` if one has it."""
    try:
        os.link(draft, path)  # unlike a rename, it fails if there is a file
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _rename_under_lock(draft, path)
    else:
        draft.unlink()


def _rename_under_lock(draft: Path, path: Path) -> None:
    """Do the same without hard links: the processes that do this lock the folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems have no locks either
            fcntl.flock(folder, fcntl.LOCK_EX)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        draft.replace(path)
    finally:
        os.close(folder)


def check_writable(path: Path) -> None:
    """Raise `OSError` if `atomic_write` could not create its new file in the folder of `path`."""
    handle, name = _mkstemp(path.parent, draft_prefix(path))
    os.close(handle)
    Path(name).unlink()


def draft_prefix(path: Path) -> str:
    """Return the prefix of the names that `atomic_write` uses before a file has its own."""
    return f".{path.name}-"


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on stable storage (fsync). Raises `OSError`.

    Some file systems cannot do this for a folder; there, nothing is done.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


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
    """Read a regular file of at most `most` bytes. Raises as `open_regular` does."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most} bytes", str(path))
    return data


def read_text(path: Path, most: int) -> str:
    """Read a regular text file of at most `most` bytes that people edit.

    A byte order mark of UTF-8 is not part of the text. Raises as `open_regular` does, and
    `Malformed` for another encoding; the error names UTF-16, which editors of other systems write.
    """
    return decode_text(read_regular(path, most))


def decode_text(data: bytes) -> str:
    """Decode the content of a text file as `read_text` does.

    A file of zero bytes, which some file systems leave after a power failure, is `Malformed` too.
    """
    if data and not data.strip(b"\0"):
        raise Malformed(
            "it has nothing but zero bytes",
            advice="A power failure can leave such a file. Restore it from a backup.",
        )
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:2]
    try:
        if not utf16:
            return data.removeprefix(codecs.BOM_UTF8).decode()
        why = "it is UTF-16"
    except UnicodeDecodeError as error:
        why = f"{error.reason} at byte {error.start}"
    raise Malformed(f"not UTF-8: {why}", advice="Save it as UTF-8.")


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


def _mkstemp(folder: Path, prefix: str) -> tuple[int, str]:
    import tempfile  # noqa: PLC0415 - slow to import, and most commands write no file

    return tempfile.mkstemp(dir=folder, prefix=prefix)
