"""A file to restore, copied into the state folder, where the daemon's user can read it.

The person who restores may name a file that only root can read, while the daemon and root's
commands act as another user.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from device_app.errors import AppError, NoDevice, unreadable, unwritable
from device_app.limits import BACKUP_BYTES_MAX
from iam import files, mark, salvage
from peer.files import open_regular
from peer.terminal.exit_codes import ExitCode


@contextmanager
def copied(file: Path, store: Path) -> Iterator[Path]:
    """Yield the path of a copy of `file` beside the store, with its log and its mark.

    Raises:
        AppError: it cannot be read or copied, or there is no state folder.
    """
    if not store.parent.is_dir():
        raise NoDevice(store.parent)
    with ExitStack() as stack:
        sources = dict(_opened(file, salvage.incoming_of(store), stack))
        with files.acting_as_owner_of(store.parent):
            salvage.remove(store, salvage.INCOMING)
            try:
                for path, source in sources.items():
                    _write(path, source)
            except OSError as error:
                salvage.remove(store, salvage.INCOMING)
                raise AppError(
                    f"{file} cannot be copied to {store.parent}: {error.strerror}",
                    advice="Check the permissions of that folder, and the space on its disk.",
                ) from error
        try:
            yield salvage.incoming_of(store)
        finally:
            with files.acting_as_owner_of(store.parent), suppress(OSError):
                salvage.remove(store, salvage.INCOMING)


@contextmanager
def placed(data: bytes, store: Path) -> Iterator[Path]:
    """Yield the path of a file with this copy of a store, beside the store. Raises as `copied`."""
    if not store.parent.is_dir():
        raise NoDevice(store.parent)
    path = salvage.incoming_of(store)
    with files.acting_as_owner_of(store.parent):
        salvage.remove(store, salvage.INCOMING)
        try:
            files.atomic_write(path, data)
        except OSError as error:
            raise unwritable(path, error) from error
    try:
        yield path
    finally:
        with files.acting_as_owner_of(store.parent), suppress(OSError):
            salvage.remove(store, salvage.INCOMING)


def _opened(file: Path, to: Path, stack: ExitStack) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the file, its log and its mark as the person who runs the command."""
    for source, target in (
        (file, to),
        (file.with_name(f"{file.name}-wal"), to.with_name(f"{to.name}-wal")),
        (mark.path_of(file), mark.path_of(to)),
    ):
        try:
            yield target, stack.enter_context(open_regular(source))
        except FileNotFoundError as error:
            if source == file:
                raise AppError(
                    f"there is no file {file}",
                    advice="Name a backup, or a copy of device.db: `handfast-device restore FILE`.",
                    code=ExitCode.USAGE,
                ) from error
        except OSError as error:
            raise unreadable(source, error) from error


def _write(path: Path, source: BinaryIO) -> None:
    if os.fstat(source.fileno()).st_size > BACKUP_BYTES_MAX:
        raise OSError(0, f"it is longer than {BACKUP_BYTES_MAX} bytes")
    handle = files.open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(handle, "wb") as target:
        shutil.copyfileobj(source, target)
