"""The mark: a small file beside the store that repeats what the store should hold.

A store alone cannot tell that it is a copy from last week, or that its newest writes were lost. The
mark repeats the rows that rights depend on (`iam.rights`), the number of the commit that made them,
the head of the audit trail at that time, the time floor, and whether the device has ever had an
owner. It is written after the store: a store that is newer than its mark was interrupted in
between, and a store that is older has lost something.

The file is a log of changes, so that a change costs what it changes. Each line is a SHA-256 digest,
a space, and a JSON object; the digest is over the digest of the line before and the object. The
first line lists every row, each later one what was added and dropped. Reading stops at the first
invalid line. `Mark.write` replaces the file by one with a single line.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypedDict, final

from iam import files, rights
from iam.limits import MARK_CHANGE_BYTES, MARK_READ_BYTES
from iam.rights import Seal

_NO_LINE: Final = "0" * 64
_ROOM: Final = 3  # bytes for a character of a row: each is written twice at most, and escaped
Head = tuple[int, str]  # number and hex digest of an event


@final
class _Change(TypedDict):
    """The object of a line that adds and drops rows."""

    added: list[str]
    dropped: list[str]
    serial: int
    had_owner: bool
    seal: str
    head: Head
    floor: float
    schema: int


@final
class _Void(TypedDict):
    """The object of a line that reports a failed commit by its number."""

    void: int


@dataclass(frozen=True, slots=True)
class Marked:
    """The content of a mark.

    Attributes:
        schema: the version of the store that it belongs to.
        void: the number of a commit that was reported as failed.
        is_whole: every line is valid, except a last one that was not finished.
        last: the digest of the last line, or empty if no line can be appended.
    """

    rows: frozenset[str]
    seal: Seal
    head: Head
    time_floor: float
    schema: int
    void: int = 0
    is_whole: bool = True
    last: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a mark, to continue it: the digest of its last line and the length of its rows."""

    last: str
    row_characters: int

    @classmethod
    def of(cls, marked: Marked) -> End:
        """Return the end of a mark that was read whole."""
        return cls(marked.last, sum(map(len, marked.rows)))


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a mark whose lines are all valid, without its rows; `seal` is in hex."""

    seal: str
    head: Head
    time_floor: float
    schema: int
    last: str


def summary_untrusted(path: Path) -> Summary | None:
    """Return what the last line of a mark says, or None if that takes more than its end.

    Every digest is checked, and the rows are neither parsed nor kept. A store whose seal is the
    same has the same rows. Raises OSError, and ValueError, TypeError or KeyError for an invalid
    line.
    """
    content: dict[str, Any] = {"void": 0}
    digest, said, running, end = _NO_LINE.encode(), b"", None, b""
    with files.reading_own(path) as file:
        while part := file.readline(MARK_READ_BYTES):
            if running is None:
                said, _, part = part.partition(b" ")
                running, end = sha256(digest + b" "), b""
            running.update(part.removesuffix(b"\n"))
            end = end[-MARK_READ_BYTES:] + part
            if part.endswith(b"\n"):
                if said != running.hexdigest().encode():
                    return None
                digest, running, content = said, None, json.loads(_without_rows(end))
    if running is not None or "void" in content:
        return None
    number, head = content["head"]
    return Summary(
        str(content["seal"]),
        (int(number), str(head)),
        float(content["floor"]),
        int(content["schema"]),
        digest.decode("ascii"),
    )


def _without_rows(line: bytes) -> bytes:
    """The object at the end of a line, without the rows that it adds, if it drops none.

    A quote inside a row is escaped, so what this looks for is in no row.
    """
    _, found, rest = line.rpartition(b'],"dropped":[],"serial":')
    return b'{"serial":' + rest if found else line


def path_of(store: Path) -> Path:
    """Return the path of a store's mark."""
    return store.with_name(store.name + ".mark")


def load_untrusted(path: Path) -> Marked | None:
    """Return what the valid lines of the file say, or None if there are none.

    Raises OSError if it cannot be read.
    """
    try:
        data = files.read_own(path)
    except FileNotFoundError:
        return None
    read = _Reader()
    *lines, unfinished = data.split(b"\n")
    for line in lines:
        try:
            read.line(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return read.marked(is_whole=False)
    return read.marked(is_whole=True, can_go_on=not unfinished)


class _Reader:
    """The content of the lines so far."""

    def __init__(self) -> None:
        self._rows: set[str] = set()
        self._last: Marked | None = None
        self._digest = _NO_LINE

    def line(self, line: bytes) -> None:
        """Read one more line; raises, and changes nothing, if it is not valid."""
        digest, _, body = line.decode("ascii").partition(" ")
        if digest != _chained(self._digest, body):
            raise ValueError("the chain is broken")
        content: _Change | _Void = json.loads(body)
        if "void" in content:
            if self._last is None:
                raise ValueError("no commit precedes the failed one")
            self._last = replace(self._last, void=int(content["void"]))
        else:
            self._change(content)
        self._digest = digest

    def _change(self, content: _Change) -> None:
        added, dropped = set(content["added"]), set(content["dropped"])
        total = self._last.seal.total if self._last is not None else 0
        if not dropped <= self._rows or added & self._rows:
            raise ValueError("the rows are not those before")
        total = rights.total_after(total, added, dropped)
        seal = Seal(total, int(content["serial"]), bool(content["had_owner"]))
        if content["seal"] != seal.digest.hex():
            raise ValueError("the rows are not those that were sealed")
        number, digest = content["head"]
        time_floor, schema = float(content["floor"]), int(content["schema"])
        self._last = Marked(frozenset(), seal, (int(number), str(digest)), time_floor, schema)
        self._rows -= dropped
        self._rows |= added

    def marked(self, *, is_whole: bool, can_go_on: bool = False) -> Marked | None:
        """The content of the lines read; None if there were none."""
        if self._last is None:
            return None
        last = self._digest if can_go_on else ""
        return replace(self._last, rows=frozenset(self._rows), is_whole=is_whole, last=last)


class Mark:
    """The mark of one open store. Every method may raise OSError; then it has written no line."""

    def __init__(self, store: Path, *, schema: int, end: End | None = None) -> None:
        """Continue a file that ends like this, or start a new one."""
        self._path = path_of(store)
        self._schema = schema
        self._last = ""  # digest of the last line; empty: the file has to be rewritten
        self._size = self._room = 0
        if end is not None:
            self._last = end.last
            self._size = self._path.stat().st_size
            self._room = MARK_CHANGE_BYTES + _ROOM * end.row_characters

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self._path.exists()

    def write(self, rows: Iterable[str], seal: Seal, head: Head, time_floor: float) -> None:
        """Replace the file by one line with all rows."""
        self._last = ""
        every = list(rows)
        digest, line = self._line(_NO_LINE, every, (), seal, head, time_floor)
        files.atomic_write(self._path, line)
        self._last, self._size, self._room = digest, len(line), MARK_CHANGE_BYTES + _room_for(every)

    def append(
        self,
        added: Collection[str],
        dropped: Collection[str],
        seal: Seal,
        head: Head,
        time_floor: float,
    ) -> bool:
        """Append what has changed; return False if the file has to be replaced instead."""
        if not self._last or self._size > self._room:
            return False
        line = self._line(self._last, added, dropped, seal, head, time_floor)
        self._room += _room_for(added) - _room_for(dropped)
        return self._append(*line)

    def void(self, serial: int) -> bool:
        """Append that this commit was reported as failed; return False as `append` does."""
        body = json.dumps(_Void(void=serial))
        digest = _chained(self._last, body)
        return bool(self._last) and self._append(digest, f"{digest} {body}\n".encode())

    def _append(self, digest: str, line: bytes) -> bool:
        self._last, before = "", self._last
        try:
            files.append_own(self._path, line)
        except FileNotFoundError:  # the file was removed
            return False
        assert before
        self._last = digest
        self._size += len(line)
        return True

    def _line(
        self,
        previous: str,
        added: Collection[str],
        dropped: Collection[str],
        seal: Seal,
        head: Head,
        time_floor: float,
    ) -> tuple[str, bytes]:
        content: _Change = {
            "added": sorted(added),
            "dropped": sorted(dropped),
            "serial": seal.serial,
            "had_owner": seal.had_owner,
            "seal": seal.digest.hex(),
            "head": head,
            "floor": time_floor,
            "schema": self._schema,
        }
        body = json.dumps(content, separators=(",", ":"))
        digest = _chained(previous, body)
        return digest, f"{digest} {body}\n".encode()


def _room_for(rows: Collection[str]) -> int:
    """The bytes that these rows may take."""
    return _ROOM * sum(map(len, rows))


def _chained(previous: str, body: str) -> str:
    return sha256(f"{previous} {body}".encode()).hexdigest()
