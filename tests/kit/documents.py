"""The two documents of the protocol, in parts that a test compares with the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycddl

from peer import cbor

DOCS = Path(__file__).parents[2] / "docs"


def strict(text: str) -> str:
    """The same rules in words that the validator cannot take too lightly.

    By RFC 8610 a range wants a number (§2.2.2.1), a `.size` its target's type (§3.8.1), and a
    `.regexp` the whole text (§3.8.3, as in XSD). pycddl 0.6 also lets other types pass, and texts
    that match in some place, and takes a key that is called like a rule for that rule (§3.5.1).
    Elements of arrays are `Cddl`'s to look at, one by one.
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
        """Raise `pycddl.ValidationError` unless the CBOR is what the rule says.

        The content of an array or of a byte string is validated by itself: within an array, pycddl
        overlooks keys that a map should not have, and takes what is said of one element for a rule
        of the whole. And to it a map that may be empty may have any key, `[+ …]` be empty.
        """
        value: Any = cbor.decode_untrusted(data)
        if forms := self.forms(rule):
            if not any(self.fits(form, data) for form in forms):
                raise pycddl.ValidationError(f"no {' or '.join(forms)}")
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
        """Whether the CBOR is what the rule says."""
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
        """The type at each place, if this is an array with one line for each; else nothing."""
        found = re.fullmatch(r"\[\n(.*)\]\s*", self.definition(rule), re.DOTALL)
        return re.findall(r"^  (.*),", found[1], re.MULTILINE) if found else []

    def element(self, rule: str) -> str:
        """The rule of each element, if this one is an array of any length; else nothing."""
        found = re.fullmatch(r"\[[*+] ([a-z-]+)\]\s*", self.definition(rule))
        return found[1] if found else ""

    def lists(self, rule: str, *, signs: str = "*+") -> dict[object, str]:
        """Of a map: the keys whose values are arrays, and the rule of their elements."""
        pattern = rf"(-?\w+)(?::| =>) \[[{signs}] ([a-z-]+)\]"
        pairs = re.findall(pattern, self.definition(rule))
        return {int(key) if key.lstrip("-").isdigit() else key: inner for key, inner in pairs}

    def keys(self, rule: str) -> set[object]:
        """Of a map: the keys that may be there, of each form that it may have."""
        pattern = r'^ *(?:\? )?(?:"?([a-z:_]+)"?(?::| =>)|(-?\d+) =>)'
        found = re.findall(pattern, self.definition(rule), re.MULTILINE)
        own: set[object] = {word or int(number) for word, number in found}
        return own.union(*map(self.keys, self.forms(rule)))

    def optional(self, rule: str) -> set[str]:
        """Of a map: the keys that may not be there."""
        own = set(re.findall(r"\? (-?\w+)(?::| =>)", self.definition(rule)))
        return own.union(*map(self.optional, self.forms(rule)))

    def forms(self, rule: str) -> list[str]:
        """The rules that this one is a choice of."""
        found = re.fullmatch(r"[a-z-]+(?: / [a-z-]+)+\s*", self.definition(rule))
        return found[0].split()[::2] if found else []

    def _validate_alone(self, rule: str, value: Any, data: bytes = b"") -> None:
        """Validate by a rule's name, or a type: everything but the content of arrays."""
        if rule not in self._schemas:
            assert rule in self.rules or "-" not in rule, f"there is no rule {rule!r}"
            # The first rule of a file is what it describes (RFC 8610 §2).
            self._schemas[rule] = pycddl.Schema(strict(f"start = {rule}\n{self.text}"))
        self._schemas[rule].validate_cbor(data or cbor.encode(value))
        if isinstance(value, dict):
            empty = {key for key in self.lists(rule, signs="+") if value.get(key) == []}
            if wrong := value.keys() - self.keys(rule) | empty:
                raise pycddl.ValidationError(f"{rule} has no {wrong}")

    def definition(self, rule: str) -> str:
        """The text after `rule =`, without comments, and with its groups in their places.

        A type that is not defined here, such as `text`, is what it says.
        """
        if rule not in self.rules:
            return rule
        lines = re.sub(r";.*", "", self.text)
        match = re.search(rf"^{rule} = (.*?)(?=^[a-z-]+ = |\Z)", lines, re.DOTALL | re.MULTILINE)
        assert match is not None, rule
        groups = re.findall(r"^  ([a-z-]+),$", match[1], re.MULTILINE)
        return match[1] + "".join(map(self.definition, groups))


class Paper:
    """`docs/protocol.md`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def vectors(self, name: str) -> dict[str, str]:
        """The named values of a marked block; continued lines are joined."""
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
