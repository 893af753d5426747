"""TOML with the line of every key and value: what tomllib parses, and where it stands.

tomllib decides what is valid and returns the values, but no lines. A second pass over the same
text, which is known to be valid by then, notes where each key and each element begins. It only has
to know what can hide a bracket or a line end (strings, comments) and how tables nest. Both results
are merged; if they ever disagree, the text is refused and no line is guessed.

The characters of a text and of a line, and the depth of brackets, are bounded, so that neither pass
can be made to recurse deeply or to parse a number for minutes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iam.errors import PolicyFileError
from iam.limits import (
    TOML_CHARACTERS_MAX,
    TOML_DEPTH_MAX,
    TOML_ENTRIES_MAX,
    TOML_LINE_CHARACTERS_MAX,
)


@dataclass(frozen=True, slots=True)
class TomlNode:
    """A value and the line where it begins, which is also that of its key.

    A table is a dict of nodes (with a header, it begins there), an array a list of nodes.
    """

    file: str
    line: int
    value: Any

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, why: str, advice: str = "") -> PolicyFileError:
        """Return the error to raise about this node."""
        advice = advice or "Correct that line."
        return PolicyFileError(why, file=self.file, line=self.line, advice=advice)

    def plain(self) -> object:
        """Return the value without lines, as tomllib does."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def text(self, what: str) -> str:
        """Return the value, which has to be text; `what` names it in the error."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} has to be text, in quotes", _example(self.value))
        return self.value

    def list_of(self, what: str, most: int, least: int = 1) -> list[TomlNode]:
        """Return the elements, of which there have to be `least` to `most`."""
        found = self.value
        if not isinstance(found, list):
            advice = f"Write {what} above each." if what.startswith("[") else "Write it in [ ]."
            raise self.error(f"{what} has to be a list", advice)
        if not least <= len(found) <= most:
            advice = f"Give at least {least} and at most {most}."
            raise self.error(f"{what} has {len(found)} entries", advice)
        return found

    def table(self, what: str, known: Collection[str] = ()) -> dict[str, TomlNode]:
        """Return the entries of a table; if `known` is given, only these keys are valid."""
        if not isinstance(self.value, dict):
            raise self.error(f"{what} has to be a table", "Write it in { }.")
        found: dict[str, TomlNode] = self.value
        for key, node in found.items():
            if known and key not in known:
                raise node.error(
                    f"{what} has no key {key[:80]!r}", f"There are: {', '.join(known)}."
                )
        return found

    def single_entry(self, what: str) -> tuple[str, TomlNode]:
        """Return the only entry of a table."""
        found = self.table(what)
        if not found:
            raise self.error(f"{what} is empty", "Give one entry.")
        if len(found) > 1:
            second = list(found.values())[1]
            raise second.error(f"{what} has more than one entry", "Write each in { } of its own.")
        return next(iter(found.items()))

    def required(self, found: Mapping[str, TomlNode], key: str, what: str) -> TomlNode:
        """Return the entry with this key, which has to be there."""
        if key not in found:
            raise self.error(f"{what} has no {key}", f"Add: {key} = …")
        return found[key]


def _example(value: object) -> str:
    if isinstance(value, bool):
        return f'Write "{str(value).lower()}".'
    return f'Write "{value}".' if isinstance(value, int | float) else "Write it in quotes."


# What the second walk finds: a table is a dict, an array a list, anything else nothing.
@dataclass(slots=True)
class _Position:
    line: int
    table: dict[str, _Position] | None = None
    array: list[_Position] | None = None


def read(text: str, *, file: str) -> TomlNode:
    """Parse a whole file as one table. Raises PolicyFileError."""
    text = text.replace("\r\n", "\n")
    _check_bounds(text, file)
    try:
        return _with_positions(tomllib.loads(text), _PositionScanner(text, file).positions(), file)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        line = int(at[1]) if (at := _AT.search(said)) else text.rstrip().count("\n") + 1
        why = _AT.sub("", said).replace(" (at end of document)", "")
        raise PolicyFileError(
            f"this is not TOML: {why}", file=file, line=line, advice="Correct that line."
        ) from error
    except RecursionError:  # by means that the bounds do not see; nothing that a person writes
        why = "something in this file is nested too deep"
        raise PolicyFileError(why, file=file, line=1, advice="Write it plainer.") from None


_AT = re.compile(r" \(at line ([0-9]+), column [0-9]+\)")


def _check_bounds(text: str, file: str) -> None:
    if len(text) > TOML_CHARACTERS_MAX:
        raise PolicyFileError(
            f"the file is longer than {TOML_CHARACTERS_MAX} characters",
            file=file,
            line=1,
            advice="Split it.",
        )
    if sum(map(text.count, ",=[")) > TOML_ENTRIES_MAX:
        why = f"the file has more than {TOML_ENTRIES_MAX} entries"
        raise PolicyFileError(why, file=file, line=1, advice="Split it, or say less.")
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > TOML_LINE_CHARACTERS_MAX:
            why = f"the line is longer than {TOML_LINE_CHARACTERS_MAX} characters"
            raise PolicyFileError(why, file=file, line=number, advice="Break the list into lines.")
        for bracket in _BRACKET.findall(_HIDING.sub("", line)):
            depth = max(0, depth + (1 if bracket in "[{" else -1))
            if depth > TOML_DEPTH_MAX:
                raise PolicyFileError(
                    "brackets are nested too deep", file=file, line=number, advice="Close some."
                )


_BRACKET = re.compile(r"[\[\]{}]")
# Roughly: inside a string of several lines this may count too much, and then refuses too early.
_HIDING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*')


def _with_positions(value: object, position: _Position, file: str) -> TomlNode:
    if isinstance(value, dict):
        if position.table is None or value.keys() != position.table.keys():
            raise _mismatch(position, file)
        inner = {
            key: _with_positions(found, position.table[key], file) for key, found in value.items()
        }
        return TomlNode(file, position.line, inner)
    if isinstance(value, list):
        if position.array is None or len(value) != len(position.array):
            raise _mismatch(position, file)
        pairs = zip(value, position.array, strict=True)
        return TomlNode(
            file, position.line, [_with_positions(found, at, file) for found, at in pairs]
        )
    return TomlNode(file, position.line, value)


def _mismatch(position: _Position, file: str) -> PolicyFileError:
    return PolicyFileError(
        "the lines below cannot be told apart",
        file=file,
        line=position.line,
        advice="Write it plainer.",
    )


_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


class _PositionScanner:
    """One pass over a text that tomllib accepts."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line = 1

    def positions(self) -> _Position:
        """Return the positions of all keys and values."""
        root = table = _Position(1, {})
        while self._skip(_SPACE) and self._at < len(self._text):
            if self._peek("[["):
                table = self._header(root, 2)
            elif self._peek("["):
                table = self._header(root, 1)
            else:
                self._assignment(table)
        return root

    def _header(self, root: _Position, brackets: int) -> _Position:
        line = self._line
        self._at += brackets
        *path, last = self._key()
        self._at += brackets
        parent = _descend(root, path, line)
        assert parent.table is not None
        if brackets == 1:
            return parent.table.setdefault(last, _Position(line, {}))
        listed = parent.table.setdefault(last, _Position(line, None, []))
        assert listed.array is not None
        listed.array.append(_Position(line, {}))
        return listed.array[-1]

    def _assignment(self, table: _Position) -> None:
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

    def _value(self) -> _Position:
        position = _Position(self._line)
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


def _descend(position: _Position, path: list[str], line: int) -> _Position:
    """The table that a dotted name is in: of an array of tables it is the last."""
    for part in path:
        assert position.table is not None
        position = position.table.setdefault(part, _Position(line, {}))
        if position.array is not None:
            position = position.array[-1]
    return position


def _unquoted(key: str) -> str:
    """A quoted key without its quotes and escapes."""
    return str(tomllib.loads(f"key = {key}")["key"]) if "\\" in key else key[1:-1]
