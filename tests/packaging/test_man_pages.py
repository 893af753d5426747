"""Each verb of both commands has a manual page, which has all of its options and no mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from client_app.cli import main as client_cli
from device_app.cli import main as device_cli
from tests.kit.distribution import ROOT

Pages = dict[str, str]


def verbs() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command with the name of its page."""
    waiting = [
        (name, group, click.Context(group, info_name=name, **group.context_settings))
        for name, group in (("handfast", client_cli), ("handfast-device", device_cli))
    ]
    while waiting:
        name, command, context = waiting.pop()
        yield name, command, context
        if isinstance(command, click.Group):
            for verb in command.list_commands(context):
                below = command.get_command(context, verb)
                assert below is not None
                entry = (f"{name}-{verb}", below, click.Context(below, context, info_name=verb))
                waiting.append(entry)  # type: ignore[arg-type]  # a group is a command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man")
    program = ROOT / "packaging" / "deb" / "man_pages.py"
    subprocess.run([sys.executable, program, made, "1.2.3", "2026-01-02"], check=True)
    return made


@pytest.fixture(scope="module")
def pages(folder: Path) -> Pages:
    return {path.name.removesuffix(".1"): path.read_text() for path in folder.iterdir()}


def plain(roff: str) -> str:
    """The text of a page without the escapes of groff."""
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda match: chr(int(match[1], 16)), roff)
    for escape, character in (
        (r"\[aq]", "'"),
        (r"\[dq]", '"'),
        (r"\[ga]", "`"),
        (r"\[ha]", "^"),
        (r"\[ti]", "~"),
        (r"\-", "-"),
        (r"\&", ""),
        (r"\[rs]", "\\"),
    ):
        text = text.replace(escape, character)
    return text


def test_every_verb_has_a_page(pages: Pages) -> None:
    names = {name for name, command, _ in verbs() if not command.hidden}
    assert len(names) > 60
    assert pages.keys() == names


def test_no_summary_is_cut(pages: Pages) -> None:
    for name, page in pages.items():
        match = re.search(r"^\.SH NAME\n(.*)\n\.SH SYNOPSIS$", page, re.MULTILINE)
        assert match, name
        title, _, summary = plain(match[1]).partition(" - ")
        assert title == name
        assert len(summary) > 10
        assert not summary.endswith(".")


def test_every_option_is_documented(pages: Pages) -> None:
    for name, command, context in verbs():
        text = plain(pages[name])
        _, _, options = text.partition(".SH OPTIONS\n")
        for param in command.get_params(context):
            if isinstance(param, click.Option) and not param.hidden:
                for option in param.opts:
                    assert re.search(rf"^\.B .*{re.escape(option)}\b", options, re.MULTILINE), (
                        name,
                        option,
                    )


def test_every_word_of_the_help_is_on_the_page(pages: Pages) -> None:
    for name, command, _ in verbs():
        words = set(plain(pages[name]).split())
        help_text = (command.help or "").replace("\b", "")
        assert set(help_text.split()) - words == set(), name


@pytest.mark.needs_tool("groff")
def test_groff_has_no_warning(folder: Path) -> None:
    command = ["groff", "-man", "-ww", "-b", "-z", "-Tutf8", "-K", "utf8", "-rLL=78n"]
    done = subprocess.run(
        [*command, *sorted(folder.iterdir())], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs_tool("groff")
def test_a_text_that_looks_like_roff_is_shown_as_it_is(tmp_path: Path) -> None:
    hostile = [".so /etc/passwd", "'br", r"\f(CWbold\n", "a -- b ~^`", '"x"', "Grüße → …"]
    script = r"import sys, man_pages as m; print(*map(m.roff, sys.argv[1:]), sep='\n.br\n')"
    source = subprocess.run(
        [sys.executable, "-c", script, *hostile],
        cwd=ROOT / "packaging" / "deb",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = tmp_path / "page.1"
    page.write_text(f".TH X 1\n.nh\n.SH NAME\n{source}")
    command = ["groff", "-man", "-ww", "-Tutf8", "-P-c", "-rLL=78n", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = [re.sub(r".\x08", "", line).strip() for line in done.stdout.splitlines()]
    assert [line for line in hostile if line not in shown] == []
