"""Settings are read strictly; an error names file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app import config
from device_app.console import offline
from device_app.errors import ConfigError
from device_app.paths import Paths
from peer.net.onlink import LocalMode
from peer.pairing.ceremony import OverlapRule

if TYPE_CHECKING:
    from tests.device_app.conftest import Kit


def load(tmp_path: Path, *texts: str) -> config.Settings:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text, encoding="utf-8")
    return config.load(files)


def test_nothing_said_is_the_default(tmp_path: Path) -> None:
    assert config.load([]) == config.Settings()
    assert load(tmp_path, "") == config.Settings()


def test_every_setting(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'name = "kitchen"\n[network]\nlisten = ["127.0.0.1"]\nport = 0\npairing_port = 7\n'
        'interfaces = ["eth0"]\nadvertise = false\nlocal = "compat"\n'
        'local_interfaces = ["wg0"]\nallow_loopback = true\n'
        '[pairing]\nrole = "user"\nmethods = ["compare"]\nseconds = "5m"\n'
        'overlap = "first-wins"\n[resources]\nmodules = ["my_board.lamp"]\n',
    )
    assert (settings.name, settings.port, settings.pairing_port) == ("kitchen", 0, 7)
    assert settings.local is LocalMode.COMPAT
    assert settings.terms.overlap is OverlapRule.FIRST_WINS
    assert (settings.terms.role, settings.terms.seconds) == ("user", 300)
    assert settings.modules == ("my_board.lamp",)


def test_a_later_file_wins_key_by_key(tmp_path: Path) -> None:
    settings = load(tmp_path, 'name = "a"\n[network]\nport = 1\n', "[network]\nport = 2\n")
    assert (settings.name, settings.port) == ("a", 2)
    assert settings.origin["network.port"].endswith("1.toml:2")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('name = "x"\n\ncolour = "red"\n', 3, "no setting 'colour'"),
        ("[network]\nport = 1\nprot = 2\n", 3, "no setting 'network.prot'"),
        ("[netwrok]\nport = 1\n", 1, "no setting 'netwrok'"),
        ("[network]\nport = 70000\n", 2, "has to be a port"),
        ("[network]\nport = true\n", 2, "has to be a port"),
        ('network = { port = "x" }\n', 1, "has to be a port"),
        ("[network]\nlisten = []\n", 2, "one address"),
        ('[network]\nlocal = "loose"\n', 2, "strict, compat"),
        ("[network]\nadvertise = 1\n", 2, "true or false"),
        ('[pairing]\nmethods = ["telepathy"]\n', 2, "compare"),
        ('[pairing]\nseconds = "soon"\n', 2, "is not a duration"),
        ("[pairing]\nseconds = 0\n", 2, "a time"),
        ('[pairing]\noverlap = "both"\n', 2, "first-wins"),
        ("[pairing]\nrole = 7\n", 2, "text"),
        ('[resources]\nmodules = "x"\n', 2, "list"),
        ('name = "a b"\n', 1, "a space"),
        ("network = 7\n", 1, "no setting 'network'"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"0.toml:{line}:" in str(caught.value)
    assert words in str(caught.value)


def test_broken_toml_and_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(tmp_path, 'name = "x"\nport = = 3\n')
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load([tmp_path])


def test_the_template_is_a_configuration_that_changes_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, config.TEMPLATE.format(name='"kitchen"'))
    assert settings == config.Settings(name="kitchen")
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in config.TEMPLATE.format(name='"kitchen"').splitlines()
    )
    assert load(tmp_path, uncommented).port == config.COAPS_PORT


@pytest.mark.parametrize("role", ["king", "unpaired"])
async def test_a_window_for_an_unknown_role_is_a_refusal_to_start(kit: Kit, role: str) -> None:
    kit.home.mkdir()
    (kit.home / "device.toml").write_text(
        f'name = "kitchen"\n[pairing]\nrole = "{role}"\n', encoding="utf-8"
    )
    places = Paths(kit.home, kit.home, kit.home)
    with pytest.raises(ConfigError, match=r"device\.toml:3: there is no role"):
        await kit.device(settings=offline.settings(places))
    # Nothing is held: with the line corrected it starts.
    await kit.device()


def test_where_the_files_are(tmp_path: Path) -> None:
    home = Paths.of(tmp_path, {}, root=True)
    assert home.key.parent == home.config == home.run == tmp_path
    root = Paths.of(None, {}, root=True)
    assert str(root.store) == "/var/lib/handfast/device.db"
    assert str(root.socket) == "/run/handfast/control.sock"
    service = {
        "CONFIGURATION_DIRECTORY": "/c",
        "STATE_DIRECTORY": "/s:/t",
        "RUNTIME_DIRECTORY": "/r",
    }
    assert Paths.of(None, service, root=False).config == Path("/c")
    assert Paths.of(None, service, root=False).state == Path("/s")
    assert Paths.of(None, service, root=True).run == Path("/r")
    person = Paths.of(None, {"XDG_RUNTIME_DIR": "/run/user/7"}, root=False)
    assert person.run == Path("/run/user/7/handfast")
