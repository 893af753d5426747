"""The wheel, installed without extras: what a new user has after `pip install handfast`."""

from __future__ import annotations

import re
from importlib.metadata import Distribution
from typing import TYPE_CHECKING

import pytest

from tests.docs.test_readme import missing
from tests.kit.distribution import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.distribution import Environment

pytestmark = pytest.mark.slow


def test_the_demo_runs_to_its_end_and_prints_the_output_in_the_readme(
    installed: Environment, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- printed by make demo -->\n```\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    assert "\t@$(BIN)/handfast demo" in (ROOT / "Makefile").read_text()
    demo = installed.run("-m", "handfast", "demo", folder=tmp_path)
    assert missing(found[1], demo.stdout) == []
    assert missing("$ handfast dance", demo.stdout) == ["$ handfast dance"]
    out = demo.stdout
    assert demo.stderr == ""
    commands = re.findall(r"^\$ (.*)$", out, re.MULTILINE)
    order = [" init", " run", " open", " discover", " --code ", "anna get", "anna observe"]
    order += [" invite ", "mia get", "users kitchen", " export | ", "eve get", " events "]
    order += ["mia observe", "remove mia"]
    places = [next(n for n, line in enumerate(commands) if word in line) for word in order]
    assert places == sorted(places)
    assert "You lack the right Iam:ListUsers." in out
    assert re.search(r"denied  user=mia .*action=Iam:ListUsers", out)
    assert "?" not in out.replace("handfast pair?", "")  # no one is asked anything
    assert (out.count("(exit 10)"), out.count("(exit 7)")) == (2, 1)
    [code] = set(re.findall(r"[0-9]{4}-[0-9]{4}", out.partition("discover")[0]))
    assert f"--code {code}" in out
    assert "End of the demonstration" in out


def test_both_commands_start_and_the_module_is_the_command(
    installed: Environment, tmp_path: Path
) -> None:
    (about,) = installed.packages.glob("handfast-*.dist-info")
    commands = {one.name: one for one in Distribution.at(about).entry_points}
    assert commands.keys() == {"handfast", "handfast-device"}
    helps = {}
    for name, entry in commands.items():
        start = f"from {entry.module} import {entry.attr} as main; main()"
        (tmp_path / name).write_text(start)  # the script that pip writes
        helps[name] = installed.run(name, "--help", folder=tmp_path).stdout
        assert f"Usage: {name} " in helps[name]
    assert installed.run("-m", "handfast", "--help", folder=tmp_path).stdout == helps["handfast"]
