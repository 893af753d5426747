"""TOML with the line of every key and value: what tomllib parses, and where it stands.

tomllib decides what is valid and returns the values, but no lines. `iam.toml_positions` finds the
lines in a second pass over the same text. Both results are merged; if they ever disagree, the text
is refused and no line is guessed.

The characters of a text and of a line, and the depth of brackets, are bounded, so that neither pass
can be made to recurse deeply or to parse a number for minutes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from iam.errors import PolicyFileError
from iam.limits import (
    TOML_CHARACTERS_MAX,
    TOML_DEPTH_MAX,
    TOML_ENTRIES_MAX,
    TOML_LINE_CHARACTERS_MAX,
)
from iam.toml_positions import Position, PositionScanner


@dataclass(frozen=True, slots=True)
class TomlNode:
    """A value and the line of its key; an element of an array has the line where it begins.

    `value` is a dict of nodes for a table, which begins at its header if it has one, a list of
    nodes for an array, and otherwise what tomllib returns.
    """

    file: str
    line: int
    value: object

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
                    f"{what} has no key {key[:80]!r}", f"Known keys: {', '.join(known)}."
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


def read(text: str, *, file: str) -> TomlNode:
    """Parse a whole file as one table. Raises PolicyFileError."""
    text = text.replace("\r\n", "\n")
    _check_bounds(text, file)
    try:
        return _with_positions(tomllib.loads(text), PositionScanner(text, file).positions(), file)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        line = int(at[1]) if (at := _AT.search(said)) else text.rstrip().count("\n") + 1
        why = _AT.sub("", said).replace(" (at end of document)", "") + _unusual(text, at)
        why, advice = _twice(text, why) or (why, "Correct that line.")
        raise PolicyFileError(
            f"this is not TOML: {why}", file=file, line=line, advice=advice
        ) from error
    except RecursionError:  # nesting that `_check_bounds` does not count
        why = "a value in this file is nested too deeply"
        raise PolicyFileError(why, file=file, line=1, advice="Write it more simply.") from None


_AT = re.compile(r" \(at line ([0-9]+), column ([0-9]+)\)")


_TWICE = re.compile(r"Cannot declare \((.*)\) twice")


def _twice(text: str, why: str) -> tuple[str, str] | None:
    """Return the reason and the advice if a table has two headings, as after pasting an example."""
    if (found := _TWICE.fullmatch(why)) is None:
        return None
    name = ".".join(re.findall(r"'([^']*)'", found[1]))
    if f"[[{name}]]" in text:
        return f"[{name}] follows [[{name}]]", f"Write [[{name}]]."
    return (
        f"the table [{name}] has a second heading",
        f"Remove this heading, and move the lines below it to the first [{name}] in the file.",
    )


def _unusual(text: str, at: re.Match[str] | None) -> str:
    """Name the character where the parser stopped if it is invisible, or looks like an ASCII one.

    Word processors replace quotation marks and blanks, and files that are joined have a byte order
    mark inside.
    """
    found = text.split("\n")[int(at[1]) - 1][int(at[2]) - 1 :][:1] if at else ""
    if not found or (found.isascii() and found.isprintable()):
        return ""
    import unicodedata  # noqa: PLC0415 - 1 MB, which only this error needs

    name = "byte order mark" if found == "\ufeff" else unicodedata.name(found, "control character")
    return f" at U+{ord(found):04X} ({name.lower()})"


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
        raise PolicyFileError(why, file=file, line=1, advice="Split it, or remove entries.")
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > TOML_LINE_CHARACTERS_MAX:
            why = f"the line is longer than {TOML_LINE_CHARACTERS_MAX} characters"
            raise PolicyFileError(why, file=file, line=number, advice="Break the list into lines.")
        for bracket in _BRACKET.findall(_HIDING.sub("", line)):
            depth = max(0, depth + (1 if bracket in "[{" else -1))
            if depth > TOML_DEPTH_MAX:
                raise PolicyFileError(
                    "brackets are nested too deeply",
                    file=file,
                    line=number,
                    advice="Nest them less deeply.",
                )


_BRACKET = re.compile(r"[\[\]{}]")
# An approximation: brackets in a multi-line string count, so a file can be refused for them.
_HIDING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*')


def _with_positions(value: object, position: Position, file: str) -> TomlNode:
    """Merge a value and its position, and empty both.

    So they are freed in small pieces: freeing a large file at once holds up other threads.
    """
    if isinstance(value, dict):
        if position.table is None or value.keys() != position.table.keys():
            raise _mismatch(position, file)
        inner = {
            key: _with_positions(found, position.table[key], file) for key, found in value.items()
        }
        value.clear()
        position.table.clear()
        return TomlNode(file, position.line, inner)
    if isinstance(value, list):
        if position.array is None or len(value) != len(position.array):
            raise _mismatch(position, file)
        pairs = zip(value, position.array, strict=True)
        merged = [_with_positions(found, at, file) for found, at in pairs]
        value.clear()
        position.array.clear()
        return TomlNode(file, position.line, merged)
    return TomlNode(file, position.line, value)


def _mismatch(position: Position, file: str) -> PolicyFileError:
    return PolicyFileError(
        "the lines of the values below cannot be determined",
        file=file,
        line=position.line,
        advice="Write it more simply.",
    )
