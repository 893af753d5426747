"""A test uses what the packages and the kit offer to everyone, and no private attribute of theirs.

The exceptions are in `tests/kit/internals.py`, one named function each. A name counts as private if
the packages or the kit define it with one leading underscore, so those of other libraries do not. A
class that derives from one of a package, like the half of an attacker, may use what it inherits.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("peer", "iam", "device_app", "client_app", "tests/kit")
INTERNALS = ROOT / "tests" / "kit" / "internals.py"
_PRIVATE = re.compile(r"_(?!_)\w+")


def private_names(source: str) -> Iterator[str]:
    """Names with one leading underscore that a module defines, at any level."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                pass
            case ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case _:
                continue
        if _PRIVATE.fullmatch(name):
            yield name


def private_uses(source: str) -> Iterator[str]:
    """Private names that a module takes from somewhere else: `x._y`, an import, or a patch."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                names = []
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom():
                names = [alias.name for alias in node.names]
            case ast.Call(func=ast.Name(id=call) | ast.Attribute(attr=call)) if "attr" in call:
                words = [one.value for one in node.args if isinstance(one, ast.Constant)]
                names = [str(word).rpartition(".")[2] for word in words]
            case _:
                names = []
        yield from (name for name in names if _PRIVATE.fullmatch(name))


def found() -> set[str]:
    """Every use of a private name of this project in a test, as "FILE:NAME"."""
    ours = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in private_names(path.read_text())
    }
    return {
        f"{path.relative_to(ROOT / 'tests')}:{name}"
        for path in (ROOT / "tests").rglob("*.py")
        if path != INTERNALS
        for name in private_uses(path.read_text())
        if name in ours
    }


def test_no_test_uses_a_private_name() -> None:
    assert sorted(found()) == []


def test_every_exception_is_still_needed() -> None:
    functions = re.findall(r"^(?:async )?def (\w+)", INTERNALS.read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert len(functions) > 20
    assert [name for name in functions if len(re.findall(rf"\b{name}\b", tests)) == 1] == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("server._endpoint.close()", ["_endpoint"]),
        ("server.tables()[0]._rate = 3", ["_rate"]),
        ("from peer.net.site import _check_options", ["_check_options"]),
        ("patch.setattr(site, '_find', None)", ["_find"]),
        ("patch.setattr('peer.net.site.GuardedSite._find', None)", ["_find"]),
        ("getattr(site, '_find')", ["_find"]),
        ("self._kept = cls._made", []),
        ("_kept = patch.setattr(site, 'find', '_kept of it')", []),
        ("one.__class__.__init__", []),
    ],
)
def test_a_use_is_found(source: str, names: list[str]) -> None:
    assert [*private_uses(source)] == names


def test_a_definition_is_found() -> None:
    source = "class A:\n  _one = 1\n  def _two(self, _not):\n    self._three = _not\n_FOUR: int = 4"
    assert sorted(private_names(source)) == ["_FOUR", "_one", "_three", "_two"]
