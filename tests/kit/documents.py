"""The two specifications of the protocol, parsed so that tests can compare them with the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycddl

from peer import cbor

DOCS = Path(__file__).parents[2] / "docs"


def strict(text: str) -> str:
    """Rewrite the rules so that pycddl 0.6 applies them strictly.

    RFC 8610 requires a number for a range (§2.2.2.1), the target's type for a `.size` (§3.8.1), and
    a match of the whole text for a `.regexp` (§3.8.3, as in XSD). pycddl also accepts other types
    and partial matches, and treats a key with the name of a rule as that rule (§3.5.1). `Cddl`
    validates elements of arrays separately.
    """
    text = re.sub(r"^(  (?:\? )?)([a-z_]+):", r'\1"\2":', text, flags=re.MULTILINE)
    text = re.sub(r"\[([*+]) [a-z]+(?:-[a-z]+)*\]", r"[\1 any]", text)
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
        """Raise `pycddl.ValidationError` unless the CBOR matches the rule.

        The content of an array or a byte string is validated separately: within an array, pycddl
        ignores unexpected keys of a map, and applies the rule of an element to the whole array. It
        also accepts any key in a map that may be empty, and an empty array for `[+ …]`.
        """
        value: Any = cbor.decode_untrusted(data)
        if alternatives := self.alternatives(rule):
            if not any(self.fits(form, data) for form in alternatives):
                raise pycddl.ValidationError(f"no {' or '.join(alternatives)}")
        elif places := self.places(rule):
            if not isinstance(value, list) or len(value) != len(places):
                raise pycddl.ValidationError(f"{rule} has {len(places)} elements")
            for place, one in zip(places, value, strict=True):
                outer, _, inner = place.partition(" .cbor ")
                self._validate_alone(outer, one)
                if inner:
                    self.validate(inner, one)
        else:
            self._validate_alone(rule, value, data)
            for inner, one in self._elements(rule, value):
                self.validate(inner, cbor.encode(one))

    def fits(self, rule: str, data: bytes) -> bool:
        """True if the CBOR matches the rule."""
        try:
            self.validate(rule, data)
        except pycddl.ValidationError:
            return False
        return True

    def _elements(self, rule: str, value: Any) -> Iterator[tuple[str, object]]:
        if outer := self.element(rule):
            yield from ((outer, one) for one in value)
        elif isinstance(value, dict):
            for key, inner in self.lists(rule).items():
                yield from ((inner, one) for one in value.get(key, ()))

    def places(self, rule: str) -> list[str]:
        """The types of a fixed-length array, one per line of the rule; empty for any other rule."""
        found = re.fullmatch(r"\[\n(.*)\]\s*", self.definition(rule), re.DOTALL)
        return re.findall(r"^  (.*),", found[1], re.MULTILINE) if found else []

    def element(self, rule: str) -> str:
        """The rule of the elements of an array of any length; empty for any other rule."""
        found = re.fullmatch(r"\[[*+] ([a-z-]+)\]\s*", self.definition(rule))
        return found[1] if found else ""

    def lists(self, rule: str, *, signs: str = "*+") -> dict[object, str]:
        """The keys of a map whose values are arrays, with the rules of their elements."""
        pattern = rf"(-?\w+)(?::| =>) \[[{signs}] ([a-z-]+)\]"
        pairs = re.findall(pattern, self.definition(rule))
        return {int(key) if key.lstrip("-").isdigit() else key: inner for key, inner in pairs}

    def keys(self, rule: str) -> set[object]:
        """The allowed keys of a map, over all of its alternatives."""
        pattern = r'^ *(?:\? )?(?:"?([a-z:_]+)"?(?::| =>)|(-?\d+) =>)'
        found = re.findall(pattern, self.definition(rule), re.MULTILINE)
        own: set[object] = {text_key or int(number) for text_key, number in found}
        return own.union(*map(self.keys, self.alternatives(rule)))

    def optional(self, rule: str) -> set[str]:
        """The optional keys of a map."""
        own = set(re.findall(r"\? (-?\w+)(?::| =>)", self.definition(rule)))
        return own.union(*map(self.optional, self.alternatives(rule)))

    def alternatives(self, rule: str) -> list[str]:
        """The alternatives, if the rule is a choice."""
        found = re.fullmatch(r"[a-z-]+(?: / [a-z-]+)+\s*", self.definition(rule))
        return found[0].split()[::2] if found else []

    def _validate_alone(self, rule: str, value: Any, data: bytes = b"") -> None:
        """Validate by a rule's name or a type, except for the content of arrays."""
        if rule not in self._schemas:
            assert rule in self.rules or "-" not in rule, f"there is no rule {rule!r}"
            # The first rule of a CDDL file describes the data (RFC 8610 §2).
            self._schemas[rule] = pycddl.Schema(strict(f"start = {rule}\n{self.text}"))
        self._schemas[rule].validate_cbor(data or cbor.encode(value))
        if isinstance(value, dict):
            empty = {key for key in self.lists(rule, signs="+") if value.get(key) == []}
            if wrong := value.keys() - self.keys(rule) | empty:
                raise pycddl.ValidationError(f"{rule} has no {wrong}")

    def definition(self, rule: str) -> str:
        """The text after `rule =`, without comments, and with groups expanded.

        A type without a definition here, such as `text`, is returned unchanged.
        """
        if rule not in self.rules:
            return rule
        lines = re.sub(r";.*", "", self.text)
        match = re.search(rf"^{rule} = (.*?)(?=^[a-z-]+ = |\Z)", lines, re.DOTALL | re.MULTILINE)
        assert match is not None, rule
        groups = re.findall(r"^  ([a-z-]+),$", match[1], re.MULTILINE)
        return match[1] + "".join(map(self.definition, groups))


class ProtocolDocument:
    """`docs/protocol.md`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def vectors(self, name: str) -> dict[str, str]:
        """The named values of a marked block; continuation lines are joined."""
        found: dict[str, str] = {}
        last = ""
        for line in self._block(f"<!-- vectors: {name} -->\n```text\n").splitlines():
            named = re.fullmatch(r"(\S+(?: \S+)*) {2,}(\S.*)", line)
            last = named[1] if named else last
            found[last] = found.get(last, "") + (named[2] if named else line.strip())
        return found

    def table(self, name: str) -> list[list[str]]:
        """The rows of a marked table, without its header."""
        _, found, after = self.text.partition(f"<!-- table: {name} -->\n")
        assert found, name
        rows = after.partition("\n\n")[0].splitlines()[2:]
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]

    def messages(self) -> Iterator[tuple[str, str, bytes]]:
        """Each example of a body: rule, diagnostic notation and bytes."""
        pattern = r"```cbor-diag ([a-z-]+)\n(.*?)```\n```hex\n(.*?)```"
        for rule, diagnostic, digits in re.findall(pattern, self.text, re.DOTALL):
            yield rule, diagnostic, bytes.fromhex(digits)

    def commands(self) -> list[str]:
        """The lines of the shell block that the tests run."""
        block = self._block("<!-- run by tests/docs -->\n```sh\n")
        return [line for line in block.splitlines() if not line.startswith("#")]

    def _block(self, head: str) -> str:
        _, found, after = self.text.partition(head)
        assert found, head
        return after.partition("```")[0]
