"""The generated reference is up to date; see docs/generate.py."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from client_app.cli import main as client_cli
from device_app.cli import main as device_cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The program docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """The title of each command, with each of its options."""
    for param in command.params:
        for option in param.opts if isinstance(param, click.Option) else ():
            yield context.command_path, option
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from options(subcommand, click.Context(subcommand, context, info_name=name))


@pytest.mark.parametrize("name", ["cli.md", "errors.md"])
def test_a_generated_page_is_up_to_date(name: str, generate: Any) -> None:
    page = (DOCS / "reference" / name).read_text()
    assert page == generate.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("group", [client_cli, device_cli], ids=["handfast", "handfast-device"])
def test_the_page_lists_every_option(group: click.Group, generate: Any) -> None:
    name = "handfast" if group is client_cli else "handfast-device"
    sections = dict(
        re.findall(r"^###? (.*)\n((?:(?!##).*\n?)*)", generate.command_line(), re.MULTILINE)
    )
    found = list(options(group, click.Context(group, info_name=name)))
    assert len(found) > 50
    for title, option in found:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections[title] + sections[name]), title


def test_each_public_name_is_in_the_api(generate: Any, tmp_path: Path) -> None:
    generate.write_api(tmp_path)
    for name in (*generate.API, "handfast.sync"):
        page = (tmp_path / f"{name.replace('.', '/')}.html").read_text()
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            is_page = inspect.ismodule(getattr(module, public))
            assert is_page or f'id="{public}"' in page, public
