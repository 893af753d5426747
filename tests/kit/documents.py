"""The two specifications of the protocol, parsed so that tests can compare them with the code."""

import re
from collections.abc import Iterator
from pathlib import Path

from cddl_verifier import Validator, render_text

DOCS = Path(__file__).parents[2] / "docs"


class CddlError(ValueError):
    """CBOR that its rule does not allow."""


class Cddl:
    """`docs/handfast.cddl`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rules = set(re.findall(r"^([a-z-]+) = ", text, re.MULTILINE))
        self._validator = Validator(text)

    def validate(self, rule: str, data: bytes) -> None:
        """Raise `CddlError` unless the bytes are deterministic CBOR and match the rule."""
        assert rule in self.rules, f"there is no rule {rule!r}"
        result = self._validator.validate(data, rule, require_deterministic=True)
        if not result.valid:
            raise CddlError(f"{rule}: {render_text(result.diagnostics)}")

    def fits(self, rule: str, data: bytes) -> bool:
        """True if the CBOR matches the rule."""
        try:
            self.validate(rule, data)
        except CddlError:
            return False
        return True

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


def quoted(cell: str) -> list[str]:
    """The parts of a text between backquotes."""
    return re.findall(r"`([^`]+)`", cell)
