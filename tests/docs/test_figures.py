"""The sequence diagrams of docs/protocol.md have one format and the fields of the rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from peer.pairing.methods import Method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.documents import Cddl, ProtocolDocument

COLUMNS = 76
CLIENT, DEVICE = 17, 59
OTHERS = ("plain", "invite", "redeem", "request")
BODY = re.compile(r"\b([a-z]+(?:-[a-z]+)*) \{([^{}]*)\}")

every_figure = pytest.mark.parametrize("name", [*tuple(Method), *OTHERS])


def figure(protocol: ProtocolDocument, name: str) -> list[str]:
    """The lines of one figure."""
    _, found, after = protocol.text.partition(f"<!-- figure: {name} -->\n```text\n")
    assert found, name
    return after.partition("\n```")[0].splitlines()


def messages(lines: list[str]) -> Iterator[str]:
    """The text above each arrow between client and device, on one line."""
    text: list[str] = []
    for line in lines:
        between = line[CLIENT + 1 : DEVICE]
        if re.fullmatch(r"<?-+>?", between):
            yield " ".join(text)
            text = []
        elif between.strip() and "*" not in between:
            text.append(between.strip())


def test_each_method_and_exchange_has_one_figure(protocol: ProtocolDocument) -> None:
    found = re.findall(r"^<!-- figure: ([a-z]+) -->$", protocol.text, re.MULTILINE)
    assert sorted(found) == sorted([*tuple(Method), *OTHERS])


@every_figure
def test_a_figure_has_the_common_format(protocol: ProtocolDocument, name: str) -> None:
    head, *rest = figure(protocol, name)
    assert re.search(r"client( C)? +device D", head)
    for line in [head, *rest]:
        assert len(line) <= COLUMNS
        assert line.isascii()
    for line in rest:
        assert (line[CLIENT], line[DEVICE]) == ("|", "|")
        assert line[:CLIENT].strip()[:1] in {"", "|"}


@every_figure
def test_the_bodies_of_a_figure_have_the_fields_of_their_rules(
    protocol: ProtocolDocument, cddl: Cddl, name: str
) -> None:
    bodies = [body for text in messages(figure(protocol, name)) for body in BODY.findall(text)]
    assert bodies or name == "plain"
    for rule, inside in bodies:
        fields = set(re.split(r",\s*", inside))
        required = {field for field in fields if not field.endswith("?")}
        optional = {field.rstrip("?") for field in fields - required}
        forms = leaves(cddl, rule)
        assert any(
            (required, optional) == (cddl.keys(form) - cddl.optional(form), cddl.optional(form))
            for form in forms
        ), f"{rule} {{{inside}}} is none of {forms}"


def leaves(cddl: Cddl, rule: str) -> list[str]:
    """A rule, or the rules that it is a choice of."""
    forms = cddl.alternatives(rule)
    return [leaf for form in forms for leaf in leaves(cddl, form)] if forms else [rule]


@pytest.mark.parametrize("method", tuple(Method))
def test_a_method_has_its_messages_in_its_figure(protocol: ProtocolDocument, method: str) -> None:
    """From the offer to the confirmation, with the fields of the table of §5.4."""
    sent = list(messages(figure(protocol, method)))
    rules = [rule for text in sent for rule, _ in BODY.findall(text)]
    due = ["offer", "pair-start", "pair-started", "pair-confirm", "pair-confirmed"]
    assert [rule for rule in due if rule in rules] == due
    row = next(
        row
        for line in protocol.text.splitlines()
        if line.startswith("| ") and "`pair-confirmed` |" in line and f"`{method}`" in line
        for row in [[cell.strip() for cell in line.strip("|").split("|")]]
    )
    fields = {word for cell in row[1:-1] for word in re.findall(r"`([a-z_]+)`", cell)}
    shown = {
        word for text in sent for _, inside in BODY.findall(text) for word in fields_of(inside)
    }
    assert fields <= shown


def fields_of(inside: str) -> set[str]:
    """The field names between the braces of a body."""
    return set(re.findall(r"[a-z_]+", inside))
