"""Every relative link in a Markdown file resolves to a file, and to a heading if it has an anchor.

The format of decision pages and of the glossary is checked here as well.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
LINES_PER_DECISION = 60
FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\[]*\]\(([^()\s]+)\)")
SECTION = re.compile(r"\bprotocol(?:\.md)?,?\s+(?:§|section )(\d+(?:\.\d+)*)", re.IGNORECASE)
CODE = ("peer", "iam", "device_app", "client_app", "examples", "tests")
PATH = re.compile(r"`((?:peer|iam|device_app|client_app|tests|docs|\.ci)/[\w./-]*)`")


def pages() -> list[Path]:
    """Every Markdown file of the project, found without git so that an archive can be tested."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "build"]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The text without its code blocks."""
    return FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings by GitHub's rule, with a number for a repeated heading."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", prose(page), re.MULTILINE):
        text = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    repeated = {f"{slug}-{n}" for slug, last in found.items() for n in range(1, last + 1)}
    return frozenset(found.keys() | repeated)


def link_error(page: Path, target: str) -> str:
    """The error in a link, or an empty text; links to other hosts are not checked."""
    if re.match(r"[a-z]+:", target):
        return ""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(ROOT) or not file.exists():
        return f"{target}: there is no such file"
    if anchor and anchor not in anchors(file):
        return f"{target}: there is no such heading"
    return ""


@every_page
def test_every_link_resolves(page: Path) -> None:
    targets = LINK.findall(prose(page))
    assert [wrong for target in targets if (wrong := link_error(page, target))] == []


def test_the_check_finds_broken_links(tmp_path: Path) -> None:
    assert sum(len(LINK.findall(prose(page))) for page in pages()) > 100
    page = ROOT / "docs" / "security.md"
    assert link_error(page, "protocol.md#5-pairing") == ""
    assert link_error(page, "https://example.net/") == ""
    for target in ("no-such.md", "protocol.md#no-such", "#no-such", "../../outside.md"):
        assert link_error(page, target), target
    sample = tmp_path / "sample.md"
    sample.write_text("# A `b`: c, §5.1\n\n## Same\n\n## Same\n\n```sh\n# no heading\n```\n")
    assert anchors(sample) == {"a-b-c-51", "same", "same-1"}


def sections() -> frozenset[str]:
    """The numbers of the sections of the protocol."""
    text = prose(ROOT / "docs" / "protocol.md")
    return frozenset(re.findall(r"^#+ (\d+(?:\.\d+)*) ", text, re.MULTILINE))


@pytest.mark.parametrize("folder", [*CODE, "docs"])
def test_every_section_of_the_protocol_that_is_named_exists(folder: str) -> None:
    files = [
        path for path in (ROOT / folder).rglob("*.*") if path.suffix in {".py", ".md", ".cddl"}
    ]
    named = [(path, number) for path in files for number in SECTION.findall(path.read_text())]
    assert [pair for pair in named if pair[1] not in sections()] == []


def test_a_section_is_seen_across_a_line_break() -> None:
    assert SECTION.findall("(protocol §5.8), [protocol.md\n§2.1](x), protocol.md, section 8") == [
        "5.8",
        "2.1",
        "8",
    ]
    assert {"1", "5.12", "10"} <= sections()


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "SECURITY.md",
        ROOT / "docs" / "index.md",
        ROOT / "docs" / "glossary.md",
        *sorted(DECISIONS.glob("*.md")),
    ],
    ids=lambda page: page.stem,
)
def test_every_named_file_exists(page: Path) -> None:
    assert [path for path in PATH.findall(prose(page)) if not (ROOT / path).exists()] == []


def test_the_index_links_to_every_page() -> None:
    linked = set()
    for page in (ROOT / "docs" / "index.md", DECISIONS / "index.md"):
        found = (target.partition("#")[0] for target in LINK.findall(prose(page)))
        linked |= {(page.parent / path).resolve() for path in found if path}
    ours = {path for path in (ROOT / "docs").rglob("*") if path.suffix in {".md", ".cddl"}}
    assert ours - linked == {ROOT / "docs" / "index.md"}


@pytest.mark.parametrize(
    "page",
    [page for page in sorted(DECISIONS.glob("*.md")) if page.name != "index.md"],
    ids=lambda page: page.stem,
)
def test_a_decision_has_three_sections_and_a_bounded_length(page: Path) -> None:
    text = page.read_text()
    title, *headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == ["Context", "Choice", "Consequences"]
    assert len(text.splitlines()) <= LINES_PER_DECISION
    assert f"[{title}]({page.name})" in (DECISIONS / "index.md").read_text()


def test_the_glossary_lists_each_term_once_with_its_source() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| **")]
    terms = [term.strip("*").lower() for term, _meaning, _source in rows]
    assert terms == sorted(set(terms))
    for _term, meaning, source in rows:
        assert meaning.endswith((".", ".)"))
        assert re.search(r"RFC \d{4}|\]\(|`[\w/]+\.py`", source), source
