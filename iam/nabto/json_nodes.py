"""JSON in which every value has its position, for files from another program.

`read` parses one JSON text (RFC 8259) into a tree of `JsonNode`: the value, its first line and its
path (`Policies[1].Id`). It rejects what other parsers accept in different ways: a key that occurs
twice in an object, anything after the end, a number that JSON does not have, half a surrogate pair
and unlimited nesting. Size and depth are bounded.

Such files contain passwords and tokens. So no error shows a value; it says what kind of value is
there, and what is expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from iam.errors import PolicyFileError
from iam.limits import (
    NABTO_DEPTH_MAX,
    NABTO_FILE_CHARACTERS_MAX,
    NABTO_NUMBER_CHARACTERS_MAX,
    NABTO_SHOWN_CHARACTERS_MAX,
)

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = r'[^"\\\x00-\x1f]*'
_STRING: Final = re.compile(rf'"{_PLAIN}(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{{4}}){_PLAIN})*"')
_KEY: Final = re.compile(rf"[A-Za-z0-9_]{{1,{NABTO_SHOWN_CHARACTERS_MAX}}}")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}


def shown(text: str) -> str:
    """Return a text of the file in quotes, short and without control characters."""
    return ascii(
        text
        if len(text) <= NABTO_SHOWN_CHARACTERS_MAX
        else text[:NABTO_SHOWN_CHARACTERS_MAX] + "..."
    )


@dataclass(frozen=True, slots=True)
class JsonNode:
    """A value and its position. `value` is a dict or list of nodes, or a scalar."""

    value: object
    file: str
    line: int
    path: str

    def error(self, reason: str, advice: str = "") -> PolicyFileError:
        """Return the error to raise about this value."""
        where = f"{self.path}: " if self.path else ""
        advice = advice or "Correct it."
        return PolicyFileError(where + reason, file=self.file, line=self.line, advice=advice)

    def note(self, text: str) -> str:
        """Return a note that names this position."""
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {where}{text}"

    @property
    def kind(self) -> str:
        """The kind of this value, in words."""
        return KINDS[type(self.value)]

    def text(self) -> str:
        """Return the value, which has to be a text."""
        if not isinstance(self.value, str):
            raise self.error(f"{self.kind} where a text is expected")
        return self.value

    def items(self) -> list[JsonNode]:
        """Return the values of this list."""
        if not isinstance(self.value, list):
            raise self.error(f"{self.kind} where a list is expected")
        return self.value

    def members(self) -> dict[str, JsonNode]:
        """Return the values of this object by their keys."""
        if not isinstance(self.value, dict):
            raise self.error(f"{self.kind} where an object is expected")
        return self.value

    def single_entry(self, what: str) -> tuple[str, JsonNode]:
        """Return the only key and value of this object."""
        members = self.members()
        if len(members) != 1:
            raise self.error(f"there are {len(members)} {what} where one is expected")
        return next(iter(members.items()))

    def get(self, key: str) -> JsonNode | None:
        """Return an optional member of this object, or None."""
        return self.members().get(key)

    def required(self, key: str) -> JsonNode:
        """Return a member of this object that has to be there."""
        if (found := self.get(key)) is None:
            raise self.error(f"{key} is missing")
        return found

    def unknown(self, *known: str) -> Iterator[tuple[str, JsonNode]]:
        """Yield the members that are not read.

        A key that differs from a known one only in case is an error: a parser that ignores case
        would read it, so it may be meant as a condition.
        """
        folded = {key.lower(): key for key in known}
        for key, node in self.members().items():
            if key in known:
                continue
            if meant := folded.get(key.lower()):
                raise node.error(f"the key {shown(key)} is not spelt {meant}", f"Write {meant}.")
            yield key, node


KINDS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def read(text: str, *, file: str) -> JsonNode:
    """Return the tree of a JSON text. Raises PolicyFileError with file, line and path."""
    if len(text) > NABTO_FILE_CHARACTERS_MAX:
        raise PolicyFileError(
            f"the file is longer than {NABTO_FILE_CHARACTERS_MAX} characters",
            file=file,
            line=1,
            advice="Give the file that the device wrote, and nothing else.",
        )
    return _Reader(text.removeprefix("\ufeff"), file).document()


class _Reader:
    """Parses a text in one pass, and counts lines as it goes."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line = 1

    def document(self) -> JsonNode:
        node = self._value("", 0)
        if self._peek():
            raise self._error("", "there is text after the end")
        return node

    def _value(self, path: str, depth: int) -> JsonNode:
        symbol, line = self._peek(), self._line
        if symbol and symbol in "{[":
            if depth == NABTO_DEPTH_MAX:
                raise self._error(path, f"this is nested more than {NABTO_DEPTH_MAX} deep")
            self._at += 1
            inner = self._object if symbol == "{" else self._list
            return JsonNode(inner(path, depth + 1), self._file, line, path)
        return JsonNode(self._scalar(symbol, path), self._file, line, path)

    def _object(self, path: str, depth: int) -> dict[str, JsonNode]:
        found: dict[str, JsonNode] = {}
        if self._took("}"):
            return found
        while True:
            if self._peek() != '"':
                raise self._error(path, "a key in double quotes is expected")
            key = self._string(path)
            if not self._took(":"):  # the text may be a value, so no error shows it
                raise self._error(path, "a colon is expected after a key")
            inner = f"{path}.{key}".lstrip(".") if _KEY.fullmatch(key) else f"{path}[{shown(key)}]"
            if key in found:
                raise self._error(inner, f"the key occurs twice, also in line {found[key].line}")
            found[key] = self._value(inner, depth)
            if self._took("}"):
                return found
            if not self._took(","):
                raise self._error(inner, "a comma or the end of the object is expected")

    def _list(self, path: str, depth: int) -> list[JsonNode]:
        found: list[JsonNode] = []
        if self._took("]"):
            return found
        while True:
            inner = f"{path}[{len(found)}]"
            found.append(self._value(inner, depth))
            if self._took("]"):
                return found
            if not self._took(","):
                raise self._error(inner, "a comma or the end of the list is expected")

    def _scalar(self, symbol: str, path: str) -> object:
        if symbol == '"':
            return self._string(path)
        if number := _NUMBER.match(self._text, self._at):
            if number.end() - self._at > NABTO_NUMBER_CHARACTERS_MAX:
                raise self._error(path, "this number is too long")
            self._at = number.end()
            digits = number[0]
            return int(digits) if digits.lstrip("-").isdigit() else float(digits)
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        raise self._error(path, "a value is expected" if symbol else "the file ends too early")

    def _string(self, path: str) -> str:
        if (found := _STRING.match(self._text, self._at)) is None:
            raise self._error(
                path, "a text is not closed, or has a character that JSON does not allow"
            )
        text: str = json.loads(found[0])
        if _SURROGATE.search(text):
            raise self._error(path, "a text has half a surrogate pair")
        if "\0" in text:  # some readers end a text there, and so read another one
            raise self._error(path, "a text has a zero byte")
        self._at = found.end()
        return text

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        if blank := _BLANK.match(self._text, self._at):
            self._line += blank[0].count("\n")
            self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _took(self, symbol: str) -> bool:
        if self._peek() != symbol:
            return False
        self._at += 1
        return True

    def _error(self, path: str, reason: str) -> PolicyFileError:
        node = JsonNode(None, self._file, self._line, path)
        return node.error(reason, "Give the JSON file as the device wrote it.")
