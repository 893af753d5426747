"""docs/reference/configuration.md lists every setting with its default and range."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from device_app.settings import config
from device_app.settings.limits import LIMIT_SETTINGS, ORDERED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "configuration.md"
TEXT = PAGE.read_text()


def rows(name: str) -> list[list[str]]:
    """The rows of a marked table, without its header."""
    table = TEXT.partition(f"<!-- table: {name} -->\n")[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_the_documented_limits_equal_those_of_the_code() -> None:
    assert rows("limits") == [
        [
            f"`{one.name}`",
            f"{one.default:.12g}",
            one.bounds,
            "reload" if one.is_live else "restart",
            one.meaning,
        ]
        for one in LIMIT_SETTINGS.values()
    ]


def test_every_setting_is_documented_with_its_default() -> None:
    found = {name.strip("`"): default for name, default, _meaning in rows("settings")}
    limits = {f"limits.{name}" for name in LIMIT_SETTINGS}
    assert [*found] == [key for key in config.CHECKS if key not in limits]
    defaults = config.Settings()
    tables = {
        "pairing": defaults.terms,
        "board": defaults.hardware,
        "remote": defaults.remote,
        "tunnel": defaults.tunnel,
    }
    for key, documented in found.items():
        table, _, name = key.rpartition(".")
        if re.fullmatch(r"[0-9]+|`.+`", documented) and "then" not in documented:
            value = tomllib.loads(f"value = {documented.strip('`')}")["value"]
            actual = getattr(tables.get(table, defaults), name)
            assert (tuple(value) if isinstance(value, list) else value) == actual, key


def test_the_dependencies_between_limits_are_documented() -> None:
    words = TEXT.partition("Some limits depend on others")[2].partition("\n\n")[0]
    for smaller, larger in ORDERED:
        assert smaller.startswith("change") or {f"`{smaller}`", f"`{larger}`"} <= set(
            re.findall(r"`\w+`", words)
        )


def test_the_example_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"test_configuration\.py -->\n```toml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "device.toml").write_text(example)
    settings = config.load([tmp_path / "device.toml"])
    assert (settings.iam_limits.users, settings.iam_limits.invite_seconds) == (2000, 3600.0)


def test_the_files_of_the_service_are_installed_for_its_user() -> None:
    unit = (ROOT / "packaging" / "systemd" / "handfast-device.service").read_text()
    [user] = re.findall(r"^User=(.+)$", unit, re.MULTILINE)
    owner = re.compile(r"\binstall\b[^\n]* -o (\S+)[^\n]* /(?:etc|var/lib)/handfast/")
    found = {
        page.name: owners
        for page in (ROOT / "docs").rglob("*.md")
        if (owners := owner.findall(page.read_text()))
    }
    assert found.keys() >= {"remote.md", "configuration.md"}
    assert {one for owners in found.values() for one in owners} == {user}
