"""The file of paired devices: JSON with mode 0600, replaced atomically.

The fingerprints in this file are trusted: a device has to prove its key before a request is sent
to it. A file that does not parse, that other users can write, or that a newer version wrote is
therefore rejected and never overwritten. A symbolic link of this user, as dotfile managers and
synchronized folders make it, is followed: the file at its end is replaced, and the link stays.
Writers exclude each other with a lock file beside that file. Reading and writing take time in
proportion to its length.
"""

import contextlib
import errno
import fcntl
import glob
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from client_app.aliases import alias_taken, check_new_alias, same_alias
from client_app.errors import BookError, NotKnown
from client_app.known_device import KnownDevice
from client_app.known_devices_format import Book, book_bytes, book_untrusted
from client_app.limits import LOCK_SECONDS
from peer.errors import Malformed
from peer.files import (
    atomic_write,
    check_writable,
    draft_prefix,
    follow_own_links,
    open_own,
    read_own,
    sync_folder,
)
from peer.fingerprint import Fingerprint
from peer.pasted import crockford

_LOCK_POLL_SECONDS: Final = 0.02
_RESTORE: Final = (
    "The file was not changed. Restore it from a backup, or move it away and pair again."
)


class StoredFile:
    """A file of this client, with mode 0600. It is replaced atomically, by one writer at a time.

    All methods raise `BookError` if the file cannot be read, trusted or written.
    """

    is_secret: ClassVar[bool] = False
    """Whether other users must not read the file either."""
    content: ClassVar[str] = "fingerprints"
    """The content in one word, for errors."""

    def __init__(self, path: Path, *, lock_seconds: float = LOCK_SECONDS) -> None:
        self.path = path
        self._lock_seconds = lock_seconds

    def read(self) -> bytes | None:
        """Return the content, or None if there is no file."""
        try:
            data, mode = read_own(self._target)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("read", error) from error
        if mode & 0o022:
            raise BookError(
                f"{self.path} is writable by other users, so its {self.content} cannot be trusted",
                advice=f"Check its content. If it is correct, run: chmod 600 {self.path}",
            )
        if self.is_secret and mode & 0o044:
            raise BookError(
                f"{self.path} is readable by other users, so its {self.content} are not secret",
                advice=f"Remove it: rm {self.path}. handfast fetches the settings again.",
            )
        return data

    def write(self, data: bytes) -> None:
        """Replace the file atomically: a reader sees the old content or the new.

        Call it under `locked`.
        """
        path = self._target
        try:
            for orphan in path.parent.glob(f"{glob.escape(draft_prefix(path))}*"):
                orphan.unlink()  # a writer was killed; this one holds the lock
            atomic_write(path, data, is_secret=self.is_secret)
        except OSError as error:
            raise self._cannot("write", error) from error

    def check_writable(self) -> None:
        """Raise `BookError` if the file could not be written; called before a pairing starts."""
        with self.locked():
            self.read()
            try:
                check_writable(self._target)
            except OSError as error:
                raise self._cannot("write", error) from error

    @property
    def _target(self) -> Path:
        """The file at the end of the links. Raises `BookError`."""
        try:
            return follow_own_links(self.path)
        except OSError as error:
            raise self._cannot("read", error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other writers, and create the folder. Reading needs no lock."""
        path = self._target
        lock = path.with_suffix(".lock")
        try:
            if path == self.path and not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(path.parent.parent)
            descriptor = open_own(lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._cannot("write", error) from error
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        until = time.monotonic() + self._lock_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise BookError(
                        f"{self.path} is locked by another program",
                        advice="Try again when the other program has finished.",
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                return

    def _cannot(self, verb: str, error: OSError) -> BookError:
        advice = "Check the owner and free space of the folder, or use another folder (--home)."
        if error.errno == errno.ELOOP:
            advice = "Replace the link with the file, or give the folder of the file (--home)."
        elif error.errno == errno.EROFS:
            advice = "Use another folder (--home), or make this file system writable."
        elif error.errno == errno.ENOENT and self.path.is_symlink():
            advice = "It is a symbolic link. Create the folder of its target, or remove the link."
        path = error.filename if error.errno in {errno.ELOOP, errno.EPERM} else self.path
        return BookError(f"cannot {verb} {path}: {error.strerror or error}", advice=advice)


class DeviceBook(StoredFile):
    """The file. Each call reads it again, because another process may have changed it.

    All methods raise `BookError` if the file cannot be read, trusted or written.
    """

    def all(self) -> list[KnownDevice]:
        """All devices, sorted by alias."""
        return sorted(self._read().values(), key=lambda device: device.alias)

    def find(self, alias: str) -> KnownDevice:
        """Find a device by alias, fingerprint or device ID. Raises `NotKnown`."""
        return _found(self._read(), alias)

    def has(self, text: str) -> bool:
        """Whether a text is the alias, the ID or the fingerprint of a device."""
        return _match(self._read(), text) is not None

    def by_fingerprint(self, fingerprint: Fingerprint) -> KnownDevice | None:
        """Find a device by its key; None if there is none."""
        held = [one for one in self._read().values() if one.fingerprint == fingerprint]
        return held[0] if held else None

    def put(self, device: KnownDevice) -> None:
        """Add a device, or replace the entry of the same key.

        Raises `UsageError` if another device has the alias.
        """

        def change(book: dict[str, KnownDevice]) -> None:
            holder = book.get(same_alias(device.alias, book) or "")
            if holder is not None and holder.fingerprint != device.fingerprint:
                raise alias_taken(holder.alias)
            if holder is None:
                check_new_alias(device.alias, device.fingerprint, book.values())
            for alias in [a for a, one in book.items() if one.fingerprint == device.fingerprint]:
                del book[alias]
            book[device.alias] = device

        self.change(change)

    def rename(self, old: str, new: str) -> KnownDevice:
        """Change an alias. Raises `NotKnown`, or `UsageError` if `new` is invalid or in use."""
        renamed: list[KnownDevice] = []

        def change(book: dict[str, KnownDevice]) -> None:
            device = _found(book, old)
            alias = check_new_alias(new, device.fingerprint, book.values())
            holder = same_alias(alias, book)
            if holder is not None and holder != device.alias:
                raise alias_taken(holder)
            del book[device.alias]
            book[alias] = replace(device, alias=alias)
            renamed.append(book[alias])

        self.change(change)
        return renamed[0]

    def forget(self, alias: str) -> KnownDevice:
        """Remove a device and return its entry. Raises `NotKnown`."""
        gone: list[KnownDevice] = []

        def change(book: dict[str, KnownDevice]) -> None:
            gone.append(book.pop(_found(book, alias).alias))

        self.change(change)
        return gone[0]

    def update(
        self, fingerprint: Fingerprint, edit: Callable[[KnownDevice], KnownDevice]
    ) -> KnownDevice | None:
        """Replace the entry of a key by `edit(entry)`; return it, or None if there is no entry."""
        edited: list[KnownDevice] = []

        def change(book: dict[str, KnownDevice]) -> None:
            for alias, device in book.items():
                if device.fingerprint == fingerprint:
                    book[alias] = edit(device)
                    edited.append(book[alias])

        self.change(change)
        return edited[0] if edited else None

    def check_writable(self) -> None:
        """Raise `BookError` if the file could not be used or written."""
        self._read()
        super().check_writable()

    def change(self, edit: Callable[[dict[str, KnownDevice]], None]) -> None:
        """Read, edit and write under the lock. If `edit` raises, nothing is written."""
        with self.locked():
            book = self._read()
            before = dict(book)
            edit(book)
            if book != before:
                self.write(book_bytes(book))

    def _read(self) -> dict[str, KnownDevice]:
        data = self.read()
        if data is None:
            return {}
        try:
            return book_untrusted(data)
        except Malformed as error:
            raise BookError(
                f"{self.path} cannot be used: {error}", advice=error.advice or _RESTORE
            ) from error


def _keys_meant(text: str) -> set[str]:
    """The device ID or the fingerprint that a text can mean."""
    meant = {crockford(text)}
    with contextlib.suppress(Malformed):
        meant.add(Fingerprint.parse(text).hex)
    return meant


def _match(book: Book, alias: str) -> KnownDevice | None:
    if (known := same_alias(alias, book)) is not None:
        return book[known]
    wanted = _keys_meant(alias)
    ids = [
        one
        for one in book.values()
        if one.fingerprint.device_id in wanted or one.fingerprint.hex in wanted
    ]
    return ids[0] if len(ids) == 1 else None


def _found(book: Book, alias: str) -> KnownDevice:
    if (known := _match(book, alias)) is not None:
        return known
    paired = f"Paired devices: {', '.join(sorted(book))}." if book else "No devices are paired yet."
    from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

    like = get_close_matches(alias.casefold(), book, n=1)
    meant = f"Did you mean {like[0]}? " if like else ""
    raise NotKnown(
        f"no paired device has the alias or ID {alias!r}",
        advice=f"{meant}{paired} Run `handfast pair` to add one.",
    )
