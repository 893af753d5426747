"""The protocol's two documents, in parts: what the tests here hold against the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycddl
import pytest

from peer import cbor

DOCS = Path(__file__).parents[2] / "docs"


def strict(text: str) -> str:
    """The same rules in words that the validator cannot take too lightly.

    By RFC 8610 a range wants a number (§2.2.2.1), a `.size` its target's type (§3.8.1), and a
    `.regexp` the whole text (§3.8.3, as in XSD). pycddl 0.6 also lets other types pass, and texts
    that match in some place.
    """
    text = re.sub(r"(?<=[:=] )(\d+\.\.\d+)", r"uint .and (\1)", text)
    text = re.sub(r"\b(text|bytes) \.size (\(.*?\)|\d+)", r"\1 .and (\1 .size \2)", text)
    return re.sub(r'\.regexp "(.*?)"', r'.regexp "^(\1)$"', text)


class Cddl:
    """`docs/handfast.cddl`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rules = set(re.findall(r"^([a-z-]+) = ", text, re.MULTILINE))
        self._schemas: dict[str, pycddl.Schema] = {}

    def validate(self, rule: str, data: bytes) -> None:
        """Raise `pycddl.ValidationError` unless the CBOR is what the rule says.

        What stands in an array is looked at once more by itself: within one, pycddl overlooks keys
        that a map should not have.
        """
        self._validate_whole(rule, data)
        for inner, value in self._elements(rule, cbor.decode_untrusted(data)):
            self.validate(inner, cbor.encode(value))

    def _elements(self, rule: str, value: Any) -> Iterator[tuple[str, object]]:
        definition = self.definition(rule)
        if outer := re.fullmatch(r"\[\* ([a-z-]+)\]\s*", definition):
            yield from ((outer[1], one) for one in value)
        elif isinstance(value, dict):
            for key, inner in re.findall(r"(\w+): \[\* ([a-z-]+)\]", definition):
                yield from ((inner, one) for one in value.get(key, ()))

    def _validate_whole(self, rule: str, data: bytes) -> None:
        if rule not in self._schemas:
            assert rule in self.rules, f"there is no rule {rule!r}"
            # The first rule of a file is what it describes (RFC 8610 §2).
            self._schemas[rule] = pycddl.Schema(f"start = {rule}\n{strict(self.text)}")
        self._schemas[rule].validate_cbor(data)

    def definition(self, rule: str) -> str:
        """What stands after `rule =`, without comments."""
        lines = re.sub(r";.*", "", self.text)
        match = re.search(rf"^{rule} = (.*?)(?=^[a-z-]+ = |\Z)", lines, re.DOTALL | re.MULTILINE)
        assert match is not None, rule
        return match[1]


class Paper:
    """`docs/protocol.md`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def vectors(self, name: str) -> dict[str, str]:
        """The named values of a marked block; lines that go on are joined."""
        found: dict[str, str] = {}
        last = ""
        for line in self._block(f"<!-- vectors: {name} -->\n```text\n").splitlines():
            named = re.fullmatch(r"(\S+(?: \S+)*) {2,}(\S.*)", line)
            last = named[1] if named else last
            found[last] = found.get(last, "") + (named[2] if named else line.strip())
        return found

    def table(self, name: str) -> list[list[str]]:
        """The rows of a marked table, without its head."""
        _, found, after = self.text.partition(f"<!-- table: {name} -->\n")
        assert found, name
        rows = after.partition("\n\n")[0].splitlines()[2:]
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]

    def messages(self) -> Iterator[tuple[str, str, bytes]]:
        """Each example of a body: its rule, its diagnostic notation, its bytes."""
        pattern = r"```cbor-diag ([a-z-]+)\n(.*?)```\n```hex\n(.*?)```"
        for rule, diagnostic, digits in re.findall(pattern, self.text, re.DOTALL):
            yield rule, diagnostic, bytes.fromhex(digits)

    def commands(self) -> list[str]:
        """The lines of the shell block that the paper says is run."""
        block = self._block("<!-- run by tests/docs -->\n```sh\n")
        return [line for line in block.splitlines() if not line.startswith("#")]

    def _block(self, head: str) -> str:
        _, found, after = self.text.partition(head)
        assert found, head
        return after.partition("```")[0]


@pytest.fixture(scope="session")
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())


@pytest.fixture(scope="session")
def paper() -> Paper:
    return Paper((DOCS / "protocol.md").read_text())
