"""docs/security.md cites existing tests for every threat, and the README links to it.

Only the existence of a cited test is checked, and that `make test` runs it, not what it shows.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
HEAD = "| threat | answer | backed by |"
CITED = re.compile(r"tests/[\w/.-]+::[\w:\[\]-]+")
GROUPS = [
    "Pairing",
    "Methods of pairing",
    'The link, and "local"',
    "DTLS and identity",
    "CoAP and the resources",
    "Users, rights and the store",
    "Policies and time",
    "Invites and remote administration",
    "Remote reach",
    "Tunnels",
    "Denial of service",
    "The local machine: files, control socket, logs",
    "The client: devices file, terminal",
]


def rows() -> list[tuple[str, list[str]]]:
    """Every row of the tables: its threat, and the content of its last cell."""
    found = []
    for table in TEXT.split(HEAD)[1:]:
        for line in table.partition("\n\n")[0].splitlines()[2:]:
            threat, _answer, backed = (cell.strip() for cell in line.strip("|").split(" | "))
            found.append((threat, [one.strip() for one in backed.split(",")]))
    return found


def is_test_class(node: ast.stmt) -> str:
    """The name of a test class, including one created by hypothesis (`TestX = Y.TestCase`)."""
    match node:
        case ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr="TestCase")):
            return name
        case _:
            return ""


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests and test classes of a file, as `name` or `Class::name`, without benchmarks."""
    assert (ROOT / path).is_file(), f"there is no {path}"
    found: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if name := is_test_class(node):
                if name.startswith("Test"):
                    found.add(prefix + name)
                if isinstance(node, ast.ClassDef):
                    collect(node.body, f"{prefix}{name}::")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if node.name.startswith("test_") and "mark.bench" not in marks:
                    found.add(prefix + node.name)

    collect(ast.parse((ROOT / path).read_text()).body, "")
    return frozenset(found)


def exists(cited: str) -> bool:
    """Whether a citation names an existing test; its parameters are ignored."""
    path, _, name = cited.partition("::")
    return name.partition("[")[0] in names_in(path)


def test_all_groups_of_threats_exist_and_have_rows() -> None:
    headings = re.findall(r"^### (.*)\n\n(.*)$", TEXT, re.MULTILINE)
    assert headings == [(group, HEAD) for group in GROUPS]
    threats = TEXT.partition("\n## Threats\n")[2].partition("\n## ")[0]
    assert len(rows()) == sum(line.startswith("| ") for line in threats.splitlines()) - len(GROUPS)


@pytest.mark.parametrize(("threat", "backed"), rows(), ids=lambda value: str(value)[:50])
def test_every_threat_cites_existing_tests(threat: str, backed: list[str]) -> None:
    assert threat
    assert backed
    for one in backed:
        assert re.fullmatch(rf"`{CITED.pattern}`", one), f"{one} is no citation"
        assert exists(one.strip("`")), f"there is no test {one}"


def test_every_citation_names_an_existing_test() -> None:
    found = CITED.findall(TEXT)
    assert found
    assert [one for one in found if not exists(one)] == []


def test_the_check_finds_a_citation_of_a_missing_test() -> None:
    here = "tests/docs/test_security.py"
    assert exists(f"{here}::test_the_check_finds_a_citation_of_a_missing_test")
    assert exists(f"{here}::test_every_threat_cites_existing_tests[some-thing]")
    assert exists("tests/iam/test_random_lives.py::TestLives")
    for wrong in ("test_nothing", "exists", "rows", "CITED"):
        assert not exists(f"{here}::{wrong}")
    with pytest.raises(AssertionError):
        exists("tests/docs/test_nothing.py::test_nothing")


def test_assumptions_and_residual_risks_are_documented() -> None:
    for heading in (
        *("Scope", "Assets and actors", "Assumptions", "What each method proves"),
        "Residual risks",
    ):
        _, found, after = TEXT.partition(f"\n## {heading}\n")
        assert found, heading
        assert len(after.partition("\n## ")[0]) > 200, heading


def test_how_to_report_a_weakness_is_documented_in_one_place() -> None:
    _, found, after = TEXT.partition("\n## Reporting a problem\n")
    assert found
    assert "(../SECURITY.md)" in after
    policy = (ROOT / "SECURITY.md").read_text()
    headings = re.findall(r"^## (.*)$", policy, re.MULTILINE)
    assert headings == ["Report a weakness", "Supported versions", "In scope", "Not in scope"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"| {version.rpartition('.')[0]} (current) | yes |" in policy
    assert not re.search(r"\S+@\S+|https?://", policy)  # no contact that may become invalid


def test_the_readme_links_to_the_security_page() -> None:
    """The README has a summary; the page also states what is not protected."""
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"^## Security.*?(?=^## )", readme, re.DOTALL | re.MULTILINE)
    assert section is not None
    assert "(docs/security.md)" in section[0]
    assert "does **not** protect" in section[0]
