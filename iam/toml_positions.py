"""The line of every key and value in a TOML text.

tomllib returns no lines. `PositionScanner` walks over a text that tomllib has accepted, and notes
where each key and each element begins. It only has to know what can hide a bracket or the end of a
line (strings, comments), and how tables nest.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from iam.errors import PolicyFileError
from iam.limits import TOML_DEPTH_MAX


@dataclass(slots=True)
class Position:
    """The line of a value, with the positions of what a table or an array contains."""

    line: int
    table: dict[str, Position] | None = None
    array: list[Position] | None = None


_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


class PositionScanner:
    """One pass over a text that tomllib accepts."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line = 1

    def positions(self) -> Position:
        """Return the positions of all keys and values."""
        root = table = Position(1, {})
        while self._skip(_SPACE) and self._at < len(self._text):
            if self._peek("[["):
                table = self._header(root, 2)
            elif self._peek("["):
                table = self._header(root, 1)
            else:
                self._assignment(table)
        return root

    def _header(self, root: Position, brackets: int) -> Position:
        line = self._line
        self._at += brackets
        *path, last = self._key()
        self._at += brackets
        parent = _descend(root, path, line)
        assert parent.table is not None
        if brackets == 1:
            return parent.table.setdefault(last, Position(line, {}))
        listed = parent.table.setdefault(last, Position(line, None, []))
        assert listed.array is not None
        listed.array.append(Position(line, {}))
        return listed.array[-1]

    def _assignment(self, table: Position) -> None:
        line = self._line
        *path, last = self._key()
        self._at += 1  # =
        self._skip(_BLANK)
        parent = _descend(table, path, line)
        assert parent.table is not None
        parent.table[last] = self._value()

    def _key(self) -> list[str]:
        """The parts of a key up to its = or ]."""
        parts = []
        while True:
            self._skip(_BLANK)
            start = self._at
            if self._text[start] in "\"'":
                self._skip(_STRING)
                parts.append(_unquoted(self._text[start : self._at]))
            else:
                self._skip(_BARE)
                parts.append(self._text[start : self._at])
            self._skip(_BLANK)
            if not self._peek("."):
                return parts
            if len(parts) == TOML_DEPTH_MAX:
                why = f"a key has more than {TOML_DEPTH_MAX} parts"
                raise PolicyFileError(why, file=self._file, line=self._line, advice="Shorten it.")
            self._at += 1

    def _value(self) -> Position:
        position = Position(self._line)
        if self._peek("["):
            position.array = []
            for _ in self._elements("]"):
                position.array.append(self._value())
        elif self._peek("{"):
            position.table = {}
            for _ in self._elements("}"):
                self._assignment(position)
        elif self._text[self._at] in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)
        return position

    def _elements(self, end: str) -> Iterator[None]:
        """Go past the opening bracket, then once to each element, then past the end."""
        self._at += 1
        while self._skip(_SPACE) and not self._peek(end):
            yield
            self._skip(_SPACE)
            self._at += self._peek(",")
        self._at += 1

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._line += self._text.count("\n", self._at, found.end())
            self._at = found.end()
        return found is not None


def _descend(position: Position, path: list[str], line: int) -> Position:
    """The table that a dotted name is in: of an array of tables it is the last."""
    for part in path:
        assert position.table is not None
        position = position.table.setdefault(part, Position(line, {}))
        if position.array is not None:
            position = position.array[-1]
    return position


def _unquoted(key: str) -> str:
    """A quoted key without its quotes and escapes."""
    return str(tomllib.loads(f"key = {key}")["key"]) if "\\" in key else key[1:-1]
