"""`peer` and `iam` are generic names: a foreign module of such a name is reported in words."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from handfast.packages import OWN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.distribution import Environment

pytestmark = pytest.mark.slow

SCRIPT = "import handfast; from handfast import Client, NotPaired; print(handfast.__file__)"


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_foreign_module_beside_a_script_is_named(
    installed: Environment, tmp_path: Path, name: str, kind: str
) -> None:
    place = tmp_path / (f"{name}.py" if kind == "module" else f"{name}/__init__.py")
    place.parent.mkdir(exist_ok=True)
    place.write_text("raise SystemExit('it was run')\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    for how in (("script.py",), ("-c", SCRIPT), ("-m", "handfast", "devices")):
        errors = installed.run(*how, folder=tmp_path, expected=1).stderr
        assert f"handfast cannot be imported: the module `{name}`" in errors
        assert str(place) in errors
        assert f"Rename that `{name}`, or remove its folder from the import path" in errors
        assert "it was run" not in errors


@pytest.mark.parametrize("name", OWN)
def test_a_foreign_module_on_the_path_stops_both_commands(
    installed: Environment, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("")
    for command in ("main", "device"):
        start = f"from handfast.__main__ import {command}; {command}()"
        errors = installed.run("-c", start, folder=tmp_path, expected=1).stderr
        assert f"the module `{name}` that Python finds" in errors


@pytest.mark.parametrize("command", ["handfast", "handfast-device"])
def test_a_command_that_cannot_start_prints_words_alone(
    installed: Environment, tmp_path: Path, command: str
) -> None:
    """A script gets an ImportError, which it may catch; a person at a terminal only the reason."""
    (tmp_path / "peer.py").write_text("")
    function = "main" if command == "handfast" else "device"
    script = tmp_path / command  # as pip writes it
    script.write_text(
        f"import sys\nfrom handfast.__main__ import {function}\nsys.exit({function}())\n"
    )
    starts = [
        (str(script), "devices"),
        ("-m", "handfast", "devices"),
        ("-P", "-m", "handfast", "-h"),
    ]
    for how in starts[: 3 if command == "handfast" else 1]:
        errors = installed.run(*how, folder=tmp_path, expected=1, PYTHONPATH=str(tmp_path)).stderr
        assert errors.startswith("handfast cannot be imported: the module `peer`"), errors
        assert errors.count("\n") == 1
    caught = "try:\n import handfast\nexcept ImportError as error:\n print(error.name)"
    assert installed.run("-c", caught, folder=tmp_path).stdout == "peer\n"


def test_a_module_that_was_imported_before_is_named(installed: Environment, tmp_path: Path) -> None:
    before = "import sys, types; sys.modules['iam'] = types.ModuleType('iam'); import handfast"
    errors = installed.run("-c", before, folder=tmp_path, expected=1).stderr
    assert "the module `iam` that Python finds is" in errors


@pytest.mark.parametrize("name", ["peer", "iam"])
def test_a_distribution_that_replaced_a_package_is_named(
    installed: Environment, tmp_path: Path, name: str
) -> None:
    """pip writes both distributions into one folder, and the later one wins."""
    copy = tmp_path / "packages"
    shutil.copytree(installed.packages, copy, symlinks=True)
    (copy / name / "__init__.py").write_text('"""Identity and access."""\n')
    errors = installed.run(
        "-c", "import handfast", folder=tmp_path, expected=1, PYTHONPATH=str(copy)
    ).stderr
    assert f"another distribution has replaced {copy / name / '__init__.py'}" in errors
    assert "in a virtual environment of its own" in errors


def test_a_missing_package_is_named(installed: Environment, tmp_path: Path) -> None:
    shutil.copytree(installed.packages / "handfast", tmp_path / "handfast")
    start = "import sys; sys.path[1:] = [one for one in sys.path if 'packages' not in one]"
    errors = installed.run("-c", f"{start}; import handfast", folder=tmp_path, expected=1).stderr
    assert "the package `peer` is missing. Install handfast again." in errors


def test_folders_without_code_take_no_name(installed: Environment, tmp_path: Path) -> None:
    """A clone in `~/handfast`, or a folder `peer` with data, does not hide a package."""
    for name in ("handfast", *OWN):
        (tmp_path / name / "docs").mkdir(parents=True)
    assert str(installed.packages) in installed.run("-c", SCRIPT, folder=tmp_path).stdout


def test_every_package_names_handfast_in_its_first_lines(installed: Environment) -> None:
    for name in OWN:
        assert "handfast" in (installed.packages / name / "__init__.py").read_text()[:200]
