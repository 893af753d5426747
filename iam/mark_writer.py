"""Keep the mark of an open store in agreement with its file.

After each commit that changes rights, the mark is extended or rewritten, and SQLite's log is moved
into the file. So neither a damaged log nor an old copy of the file restores a right that was taken
away. The change itself is durable by then: an error here is logged and kept as `fault`, and is not
raised. The next change of rights tries again, and so does `MarkWriter.repair`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from iam import schema
from iam.audit import AuditTrail
from iam.database import DISK_ERRORS, reason
from iam.errors import StoreError
from iam.last_seen import LastSeen
from iam.mark import End, Mark
from iam.rights import Seal
from iam.storefile import StoreFile

_TOLERATED: Final = (*DISK_ERRORS, StoreError)
_log = logging.getLogger(__name__)


class MarkWriter:
    """Writes the mark of one open store.

    `seal` is the one of the last commit. `fault` says what could not be written, or is empty.
    """

    def __init__(
        self,
        file: StoreFile,
        audit: AuditTrail,
        last_seen: LastSeen,
        *,
        seal: Seal,
        end: End | None,
    ) -> None:
        """Continue a mark that ends like this; with None, the next update rewrites it."""
        self.seal = seal
        self.fault = ""
        self._file = file
        self._audit = audit
        self._last_seen = last_seen
        self._mark = Mark(file.path, schema=len(schema.MIGRATIONS), end=end)
        self._is_current = end is not None

    def invalidate(self) -> None:
        """Have the next update rewrite the mark."""
        self._is_current = False

    def follow(
        self, seal: Seal, added: Collection[str], dropped: Collection[str], rows: Iterable[str]
    ) -> None:
        """Write the mark after a commit with this seal.

        Args:
            seal: the seal that the commit stored.
            added: the rows (`iam.rights`) that the commit added.
            dropped: the rows that it removed.
            rows: all rows; read only if the mark has to be rewritten.
        """
        self.seal = seal
        self._is_current = self._is_current and self._append(added, dropped)
        self.update(rows)

    def update(self, rows: Iterable[str]) -> None:
        """Rewrite the mark with these rows unless it is current, and empty SQLite's log."""
        self.fault = ""
        with self.tolerating("a change of rights is stored, but its mark is not"):
            if not self._is_current:
                self._mark.write(rows, self.seal, self._audit.head, self._last_seen.time_floor)
                self._is_current = True
        with self.tolerating("a change of rights is stored, but only in SQLite's log"):
            self._file.checkpoint()

    def repair(self, rows: Iterable[str]) -> None:
        """Update again if the last update failed, or if the mark was removed."""
        self._is_current = self._is_current and self._mark.exists()
        if self.fault or not self._is_current:
            self.update(rows)

    def on_failed_commit(self, serial: int, *, undone: bool) -> None:
        """Do not use the number of a failed commit again.

        Unless the commit was undone, the next start could find it, so the mark records that it
        failed. `serial` is 0 if the commit changed no rights.
        """
        if serial > self.seal.serial:
            if not undone:
                with suppress(OSError):
                    self._mark.void(serial)
            self.seal = replace(self.seal, serial=serial)
            self._is_current = False

    @contextmanager
    def tolerating(self, what: str) -> Iterator[None]:
        """Log an error and keep it as `fault`, with `what` it means; do not raise it."""
        try:
            yield
        except _TOLERATED as error:
            self.fault = f"{what}: {reason(error)}"
            _log.error("%s: %s", self._file.path, self.fault)

    def _append(self, added: Collection[str], dropped: Collection[str]) -> bool:
        with suppress(*_TOLERATED):
            head, time_floor = self._audit.head, self._last_seen.time_floor
            return self._mark.append(added, dropped, self.seal, head, time_floor)
        return False
