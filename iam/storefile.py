"""The open file of a store: its lock, its connection, and transactions that are all or nothing.

SQLite writes a commit to its log and then waits for the disk. If that fails, it reports an error,
but the log can contain the whole commit, and the next start would find it. Therefore a failed
commit is removed from the log before the next one is made.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from iam import database, files, openfile
from iam.errors import StoreError, StoreWriteFailed

_RESTART: Final = "Restart the device: it continues with what is safe, and reports what is missing."
log = logging.getLogger(__name__)


class StoreFile:
    """Owns the lock and the connection `db`, which `prepare` can replace."""

    def __init__(self, path: Path, lock: int, db: sqlite3.Connection) -> None:
        self.path = path
        self.db = db
        self._lock = lock
        self._identity = _identity_of(path)
        self._is_doubtful = False  # the last commit failed, and the log may hold it

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._lock < 0

    @property
    def fault(self) -> str:
        """The current fault of the file, or an empty text. Looks at the folder."""
        if self.is_closed:
            return ""
        if _identity_of(self.path) != self._identity:
            return f"{self.path} was removed or replaced while it was in use"
        if not openfile.is_locked(self.path, self._lock):
            return f"the lock of {self.path} was removed while it was in use"
        if self._is_doubtful:
            return f"{self.path} may hold a change that could not be stored"
        return ""

    @contextmanager
    def transaction(self, on_failed: Callable[[bool], None]) -> Iterator[sqlite3.Connection]:
        """Run one transaction; call `prepare` first.

        If the commit fails, `on_failed` is called with whether it could be undone. Raises
        StoreWriteFailed; then nothing has changed.
        """
        with self.explained():
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
            except BaseException:
                self._roll_back()
                raise
            try:
                self.db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                on_failed(self._undo())
                raise

    def prepare(self) -> None:
        """Check that the file is the one that the next start opens, without a failed commit.

        Raises StoreWriteFailed.
        """
        self._require_file()
        if self._is_doubtful:
            with self.explained():
                self.checkpoint()
            self._is_doubtful = False

    def checkpoint(self) -> None:
        """Empty the log, durably. Raises sqlite3.Error or OSError."""
        [(is_busy, *_)] = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if is_busy:
            raise sqlite3.OperationalError("another program is reading the file")
        with suppress(FileNotFoundError):
            files.sync(database.beside(self.path, "-wal"))

    def leave_note(self, note: bytes) -> None:
        """Tell other processes something about this one, until the file is closed.

        Does nothing if the disk is full: the lock itself does not depend on it.
        """
        with suppress(OSError):
            openfile.leave_note(self._lock, note)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the disk into StoreWriteFailed."""
        try:
            yield
        except database.DISK_ERRORS as error:
            raise StoreWriteFailed(
                f"the change could not be stored in {self.path}: {database.reason(error)}",
                advice="Check for a full or read-only disk, and try again. Nothing was changed.",
            ) from error

    def close(self) -> None:
        """Close the file and release the lock; a second call does nothing."""
        if not self.is_closed:
            self.db.close()
            os.close(self._lock)
            self._lock = -1

    def _roll_back(self) -> None:
        # A failed COMMIT may have rolled back by itself, then there is nothing left to do.
        with suppress(sqlite3.Error):
            self.db.execute("ROLLBACK")

    def _undo(self) -> bool:
        self._is_doubtful = True
        try:
            self.checkpoint()
            self._is_doubtful = False
        except database.DISK_ERRORS as error:
            log.error("%s may hold a change that could not be stored: %s", self.path, error)
        return not self._is_doubtful

    def _require_file(self) -> None:
        """Write the file again if it was removed, and lock it again.

        Raises StoreWriteFailed if another file is in its place, or another process holds the lock.
        """
        found = _identity_of(self.path)
        if found == self._identity and openfile.is_locked(self.path, self._lock):
            return
        try:
            if not openfile.is_locked(self.path, self._lock):
                self._lock, before = openfile.lock(self.path), self._lock
                os.close(before)
            if found is None:
                self._put_back()
        except (StoreError, *database.DISK_ERRORS) as error:
            raise StoreWriteFailed(str(error), advice=_RESTART) from error
        if _identity_of(self.path) != self._identity:
            raise StoreWriteFailed(f"{self.path} was replaced while in use", advice=_RESTART)

    def _put_back(self) -> None:
        log.error("%s was removed while it was in use; it is rewritten", self.path)
        with database.draft(self.path) as copy:
            self.db.backup(copy)
            self.db.close()
            for suffix in database.BESIDE[1:]:
                database.beside(self.path, suffix).unlink(missing_ok=True)
        self.db = database.connect_for_writing(self.path)
        self._identity = _identity_of(self.path)


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
