"""The audit trail: an append-only, bounded table of events, each chained to the one before.

The body of a record is JSON with sorted keys, so that equal events have equal bytes. It contains
its number and the digest of the body before it, so changing, removing, adding or reordering a
record requires recomputing every later one. Both ends are stored in a second table: the head, so
that a truncated trail is noticed, and the base (number and digest of the last removed record), so
that the rest can be verified. The chain has no key. It reveals damage and careless editing; a
complete rewrite is noticed only by comparing the head with a copy that was noted elsewhere.

Events have no field for a code, a token or a key, only for fingerprints.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Final

from iam.errors import StoreCorrupt
from iam.limits import AUDIT_PAGE_RECORDS, EVENT_FIELD_CHARACTERS_MAX

TABLES: Final = {
    "events": "CREATE TABLE events"
    " (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL)",
    "ends": "CREATE TABLE ends"
    " (place TEXT PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL)",
}
SCHEMA: Final = (
    *TABLES.values(),
    "INSERT INTO ends VALUES ('base', 0, zeroblob(32)), ('head', 0, zeroblob(32))",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: its `kind` (a slug), its time and its user. Fields that do not apply are empty.

    `wall` is seconds since 1970 and may be wrong on a board without a clock; `boot` (an ID of this
    start of the machine) with `monotonic` (seconds) gives the true order. `boot` is empty where the
    kernel hides that ID, as in some containers.
    """

    kind: str
    boot: str = ""
    monotonic: float
    wall: float
    actor: str = ""
    user: str = ""
    role: str = ""
    fingerprint: str = ""
    address: str = ""
    interface: str = ""
    hop_limit: int | None = None
    method: str = ""
    action: str = ""
    result: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its number in the chain; `digest` and `previous` are hex."""

    seq: int
    event: Event
    digest: str
    previous: str


@dataclass(frozen=True, slots=True)
class Break:
    """The first place at which the chain is broken."""

    seq: int
    why: str


class AuditTrail:
    """The events of one store, which owns the connection and every transaction."""

    def __init__(self, db: sqlite3.Connection, *, keep: int) -> None:
        self._db = db
        self._keep = keep

    def attach(self, db: sqlite3.Connection) -> None:
        """Continue on another connection to the same trail."""
        self._db = db

    @property
    def head(self) -> tuple[int, str]:
        """Number and hex digest of the newest record. Note it elsewhere to detect a rewrite."""
        seq, digest = self._end("head")
        return seq, digest.hex()

    def holds(self, seq: int, digest: str) -> bool:
        """Return whether event `seq` was appended with this hex digest.

        True if it has been removed since, and for 0, which precedes the first event.
        """
        last, newest = self._end("head")
        if seq >= last:
            return (seq, digest) == (last, newest.hex())
        with _readable():
            found = self._db.execute("SELECT digest FROM events WHERE seq = ?", (seq,)).fetchone()
        return found is None or bytes(found[0]).hex() == digest

    def clear(self) -> None:
        """Remove every event, inside the caller's transaction; the next one has number 1."""
        self._db.execute("DELETE FROM events")
        self._db.execute("DELETE FROM ends")
        for place in ("base", "head"):
            self._db.execute("INSERT INTO ends VALUES (?, 0, zeroblob(32))", (place,))

    def begin_at(self, seq: int, digest: str) -> None:
        """Continue the numbers and the chain of an empty trail after this event."""
        for place in ("base", "head"):
            self._move(place, seq, bytes.fromhex(digest))

    def append(self, event: Event) -> int:
        """Append an event inside the caller's transaction, remove the oldest, return its number."""
        last, previous = self._end("head")
        seq = last + 1
        body = _encode(seq, previous, event)
        digest = sha256(body).digest()
        self._db.execute("INSERT INTO events VALUES (?, ?, ?)", (seq, body, digest))
        self._move("head", seq, digest)
        base = seq - self._keep
        pruned = self._db.execute("SELECT digest FROM events WHERE seq = ?", (base,)).fetchone()
        if pruned:
            self._move("base", base, pruned[0])
            self._db.execute("DELETE FROM events WHERE seq <= ?", (base,))
        return seq

    def iterate(self, since: int = 0) -> Iterator[Record]:
        """Yield the records after number `since`, oldest first.

        Reads page by page, so that a slow reader holds no lock; records that are removed meanwhile
        are missing. Raises StoreCorrupt.
        """
        while rows := self._rows(since):
            for seq, body, digest in rows:
                yield _decode(seq, body, digest)
            since = rows[-1][0]

    def latest(self, count: int) -> list[Record]:
        """Return the newest `count` records, oldest first. Raises StoreCorrupt."""
        query = "SELECT seq, body, digest FROM events ORDER BY seq DESC LIMIT ?"
        rows = self._fetch(query, max(count, 0))
        return [_decode(*row) for row in reversed(rows)]

    def verify(self) -> Break | None:
        """Check the whole chain; return the first break, or None."""
        seq, previous = self._end("base")
        while rows := self._rows(seq):
            for found, body, digest in rows:
                if found != seq + 1:
                    return Break(seq + 1, "the record is missing")
                if sha256(body).digest() != digest or not _follows(body, found, previous):
                    return Break(found, "the record was changed")
                seq, previous = found, digest
        if (seq, previous) != self._end("head"):
            return Break(seq + 1, "the end of the trail is missing")
        return None

    def _rows(self, since: int) -> list[tuple[int, bytes, bytes]]:
        query = "SELECT seq, body, digest FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._fetch(query, since, AUDIT_PAGE_RECORDS)

    def _fetch(self, query: str, *values: int) -> list[tuple[int, bytes, bytes]]:
        with _readable():
            return self._db.execute(query, values).fetchall()

    def _end(self, place: str) -> tuple[int, bytes]:
        query = "SELECT seq, digest FROM ends WHERE place = ?"
        with _readable():
            found = self._db.execute(query, (place,)).fetchone()
        if found is None:
            raise StoreCorrupt(f"the audit trail has lost its {place}", advice="Restore a copy.")
        return int(found[0]), bytes(found[1])

    def _move(self, place: str, seq: int, digest: bytes) -> None:
        self._db.execute(
            "UPDATE ends SET seq = ?, digest = ? WHERE place = ?", (seq, digest, place)
        )


@contextmanager
def _readable() -> Iterator[None]:
    """Turn damage that SQLite detects into StoreCorrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        raise StoreCorrupt(
            f"the audit trail cannot be read: {error}", advice="Restore a copy."
        ) from error


#: The value of each field that a record leaves out. A field without a default is always written.
_LEFT_OUT: Final = {field.name: field.default for field in fields(Event)}


def _encode(seq: int, previous: bytes, event: Event) -> bytes:
    content: dict[str, object] = {"seq": seq, "previous": previous.hex()}
    for name, value in asdict(event).items():
        if value != _LEFT_OUT[name]:
            content[name] = _text(value) if isinstance(value, str) else value
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _text(value: str) -> str:
    """A text of an event: not too long, and without surrogates, which UTF-8 cannot express.

    The name of a file that is not valid UTF-8 has some (PEP 383).
    """
    most = EVENT_FIELD_CHARACTERS_MAX
    return value[:most].encode(errors="backslashreplace").decode()[:most]


def _decode(seq: int, body: bytes, digest: bytes) -> Record:
    try:
        content = json.loads(body)
        previous = content.pop("previous")
        del content["seq"]
        for name, value in content.items():
            if isinstance(value, str) and not value.isascii():  # older versions kept surrogates
                content[name] = value.encode(errors="backslashreplace").decode()
        return Record(seq, Event(**content), digest.hex(), previous)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreCorrupt(
            f"event {seq} cannot be read", advice="Verify the trail to see what was changed."
        ) from error


def _follows(body: bytes, seq: int, previous: bytes) -> bool:
    try:
        content = json.loads(body)
        return bool(content["seq"] == seq and content["previous"] == previous.hex())
    except (ValueError, TypeError, KeyError):
        return False
