"""The files and names in CONTRIBUTING.md exist, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PROSE = re.sub(r"^ *```.*?^ *```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
QUOTED = re.findall(r"`([^`\n]+)`", PROSE)
PACKAGES = ("handfast", "peer", "iam", "device_app", "client_app")
TIMEOUT_SECONDS = 300.0  # mypy without a cache, on a busy machine


def commands() -> list[str]:
    """Every command of the shell blocks, and every `make TARGET` in the text."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    programs = [one for one in QUOTED if re.match(r"make |\.venv/bin/", one)]
    return list(dict.fromkeys(lines + programs))


def paths() -> list[str]:
    """Every path between backquotes."""
    named = re.compile(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:py|md|toml|cddl)")
    return sorted({one for one in QUOTED if named.fullmatch(one)})


@cache
def source() -> str:
    """The source text of all packages."""
    return "\n".join(
        path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
    )


def is_defined(name: str) -> bool:
    """Whether a class, a function or a constant of this name is defined."""
    bare = re.escape(name.removesuffix("()"))
    return bool(
        re.search(rf"^ *(?:(?:class|(?:async )?def) {bare}\b|{bare}\b.*=)", source(), re.MULTILINE)
    )


def names() -> list[str]:
    """The classes, functions and constants that the text names."""
    named = re.compile(r"(?:[A-Z][a-z]+)+|[a-z]\w*\(\)|as_\w+|_?[A-Z]{2,}(?:_[A-Z]+)*")
    return sorted({one for one in QUOTED if named.fullmatch(one)} - {"CI"})


def target(command: str) -> str:
    """The target of a `make` command, or an empty text."""
    words = command.split()
    return words[1] if words[0] == "make" else ""


def test_every_path_exists() -> None:
    assert len(paths()) > 30
    assert [path for path in paths() if not (ROOT / path).exists()] == []


def test_every_name_is_defined() -> None:
    """This includes the file that the text names for a class."""
    assert len(names()) > 10
    assert [name for name in names() if not is_defined(name)] == []
    located = re.findall(r"class `(\w+)` in\s+`([\w/]+\.py)`", PROSE)
    assert located
    for name, file in located:
        text = (ROOT / file).read_text()
        assert re.search(rf"^class {name}\b", text, re.MULTILINE), f"{name} is not in {file}"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    documented = {target(command) for command in commands()} - {""}
    assert {"check", "test", "help"} <= documented <= targets


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
@pytest.mark.parametrize("command", [one for one in commands() if not target(one)])
def test_every_other_command_runs(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    # ruff would change files of this tree, so it runs in an empty folder.
    folder = tmp_path if "ruff" in program else ROOT
    if program.startswith(".venv/bin/"):
        program = str(Path(sys.executable).with_name(Path(program).name))
    if "pytest" in arguments:
        arguments += ["-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    run = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_ten_questions_name_at_most_three_files_each() -> None:
    _, _, section = PROSE.partition("\n## Find your way\n")
    rows = re.findall(r"^\| (.*\?) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) == 10
    for question, answer in rows:
        files = re.findall(r"`[\w./]+\.(?:py|cddl)`|\]\(docs/[\w.]+|in `\w+/`", answer)
        assert len(files) <= 3, question
        assert files or "](#" in answer, question


def test_the_example_commit_obeys_the_rules_for_commits() -> None:
    areas = re.search(r"^- Areas: (.*)\.$", TEXT, re.MULTILINE)
    shown = re.search(r"```text\n(([a-z]+): [^\n]*)\n\n(.*?)```", TEXT, re.DOTALL)
    assert areas is not None
    assert shown is not None
    assert shown[2] in areas[1].split(", ")
    assert len(shown[1]) <= 72
    assert max(map(len, shown[3].splitlines())) <= 72
