"""The type checker reports every function that does not handle a new pairing method."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("peer", "iam", "device_app", "client_app")
REGISTRY = "peer/pairing/methods.py"
BRANCHES = {
    (REGISTRY, "spec"),  # its properties
    ("device_app/pairing/methods.py", "lacking"),  # what the device needs for it
    ("device_app/pairing/methods.py", "_offer"),  # the device's side
    ("device_app/terminal/render_pairing.py", "_client_command"),  # what to do at the client
    ("device_app/terminal/render_pairing.py", "_mismatch"),  # the meaning of a wrong message
    ("client_app/pairing/method_choice.py", "meaning"),  # what it proves
    ("client_app/pairing/method_choice.py", "_lacking"),  # what the client needs for it
    ("client_app/pairing/method_choice.py", "side_maker"),  # the client's side
    ("client_app/pairing/attempt.py", "_needs_comparison"),  # if the device knows the client
}
"""Every function that depends on the method. `peer.pairing.methods` tells contributors to rely on
this list being complete."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the configuration of mypy, in a folder of their own."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def unhandled(tree: Path) -> set[tuple[str, str]]:
    """The functions in which mypy finds a method that reaches `assert_never`."""
    files = sorted(
        str(path.relative_to(tree))
        for package in PACKAGES
        for path in (tree / package).rglob("*.py")
        if "case Method." in path.read_text(encoding="utf-8")
    )
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir=.cache", *files],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in {0, 1}, run.stderr
    found = re.findall(
        r'^(.+?):(\d+): error: Argument 1 to "assert_never"', run.stdout, re.MULTILINE
    )
    return {(file, function_at(tree / file, int(line))) for file, line in found}


def function_at(file: Path, line: int) -> str:
    """The name of the innermost function around a line."""
    names = [
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return names[-1]


def test_every_method_is_handled_in_every_function(copy: Path) -> None:
    assert unhandled(copy) == set()


def test_a_new_method_is_reported_in_every_function(copy: Path) -> None:
    file = copy / REGISTRY
    text = file.read_text(encoding="utf-8")
    last = '    BUTTON = "button"\n'
    assert text.count(last) == 1
    file.write_text(text.replace(last, f'{last}    NEW = "new"\n'), encoding="utf-8")
    assert unhandled(copy) == BRANCHES
