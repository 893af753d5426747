"""Unknown and invalid settings are rejected; an error names file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_app.console import offline
from device_app.errors import ConfigError
from device_app.settings import config
from device_app.settings.limits import LIMIT_SETTINGS, LimitSetting
from device_app.settings.paths import Paths
from peer.net.locality_verdict import LocalMode
from peer.pairing.ceremony import OverlapRule

if TYPE_CHECKING:
    from tests.kit.device import Kit


def load(tmp_path: Path, *texts: str) -> config.Settings:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text, encoding="utf-8")
    return config.load(files)


def test_missing_settings_have_their_defaults(tmp_path: Path) -> None:
    assert config.load([]) == config.Settings()
    assert load(tmp_path, "") == config.Settings()


def test_every_setting_is_read(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("[board]\nbuton = true\n", "Settings of [board]: button, display, label."),
        (
            "nam = 'x'\n",
            "[board], [limits], [network], [pairing], [remote], [resources], [tunnel].",
        ),
        (
            "[bord]\nbutton = true\n",
            "[board], [limits], [network], [pairing], [remote], [resources], [tunnel].",
        ),
    ],
    ids=["in a table", "at the top", "no table"],
)
def test_an_unknown_setting_names_those_of_its_table(
    tmp_path: Path, text: str, advice: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.advice.endswith(advice)
    assert len(caught.value.advice) < 120


def test_a_later_file_overrides_single_settings(tmp_path: Path) -> None:
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
        ('name = "a  b"\n', 1, "two spaces"),
        ("network = 7\n", 1, "has to be a table"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"0.toml:{line}:" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("one", LIMIT_SETTINGS.values(), ids=lambda one: one.name)
def test_a_limit_outside_its_range_is_rejected(tmp_path: Path, one: LimitSetting) -> None:
    assert one.least <= one.default <= one.most
    below, above = one.least - 1 if one.is_whole else one.least / 2, one.most + 1
    for value in (below, above):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, f"[limits]\n{one.name} = {value}\n")
        assert f"0.toml:2: limits.{one.name} " in str(caught.value)
        assert "has to be a" in str(caught.value)
    for text in (f'"{one.name}"', "true", "[1]"):
        with pytest.raises(ConfigError, match=f"limits.{one.name} "):
            load(tmp_path, f"[limits]\n{one.name} = {text}\n")


def test_limits_are_passed_to_the_limits_objects(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[limits]\nusers = 100_000\nsessions = 200\nevents_kept = 500\n"
        'session_idle_seconds = "2h"\nhandshakes_per_second = 2.5\n',
    )
    assert (settings.iam_limits.users, settings.iam_limits.events_kept) == (100_000, 500)
    assert (settings.limits.sessions, settings.limits.session_idle_seconds) == (200, 7200.0)
    assert settings.limits.handshakes_per_second == 2.5
    assert settings.iam_limits.keys_per_user == config.Settings().iam_limits.keys_per_user


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[limits]\nsessions = 4\nsession_reserve = 4\n", 3, "smaller than limits.sessions"),
        ("[limits]\nsessions = 10\n", 2, "limits.unpaired_sessions has to be at most"),
        ("[limits]\ninvite_max_seconds = 100\n", 2, "limits.invite_seconds is 172800"),
        ("[limits]\nchange_burst = 2000\n", 2, "at most limits.all_change_burst"),
        ("[limits]\nwindow_max_seconds = 310\n[pairing]\nseconds = 900\n", 4, "more than"),
        ("[limits]\nwindow_max_seconds = 30\nfirst_boot_window_seconds = 20\n", 2, "more than"),
    ],
)
def test_limits_that_contradict_each_other_are_rejected(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"0.toml:{line}:" in str(caught.value)
    assert words in str(caught.value)


def test_limits_are_compared_after_all_files_are_merged(tmp_path: Path) -> None:
    settings = load(tmp_path, "[limits]\nsessions = 10\n", "[limits]\nunpaired_sessions = 5\n")
    assert (settings.limits.sessions, settings.limits.unpaired_sessions) == (10, 5)


def test_invalid_toml_and_unreadable_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.toml:2: this is not TOML"):
        load(tmp_path, 'name = "x"\nport = = 3\n')
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load([tmp_path])


def test_an_example_below_the_template_gets_advice(tmp_path: Path) -> None:
    """The template has every heading, so a section that is pasted below it is there twice."""
    pasted = '[tunnel.services]\nssh = "127.0.0.1:22"\n'
    with pytest.raises(ConfigError, match=r"the table \[tunnel\.services\]") as caught:
        load(tmp_path, f"{config.template('kitchen')}\n{pasted}")
    assert "move the lines below it to the first [tunnel.services]" in caught.value.advice


def test_the_template_contains_only_default_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, config.template("kitchen"))
    assert settings == config.Settings(name="kitchen")
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in config.template("kitchen").splitlines()
    )
    assert load(tmp_path, uncommented).port == config.COAPS_PORT


@pytest.mark.parametrize("role", ["king", "unpaired"])
async def test_an_unknown_pairing_role_prevents_the_start(kit: Kit, role: str) -> None:
    kit.home.mkdir()
    (kit.home / "device.toml").write_text(
        f'name = "kitchen"\n[pairing]\nrole = "{role}"\n', encoding="utf-8"
    )
    places = Paths(kit.home, kit.home, kit.home)
    with pytest.raises(ConfigError, match=r"device\.toml:3: no role"):
        await kit.device(settings=offline.settings(places))
    # The failed start released all resources, so the next one succeeds.
    await kit.device()


def test_the_paths_follow_home_user_and_service_manager(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("kept", ["device-key.pem", "device.db", "device/control.sock"])
def test_a_user_without_a_device_means_the_service_of_the_machine(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    service = Path("/run/handfast/control.sock")
    person = Paths.of(None, {}, root=False)
    assert person.service_socket == service
    assert Paths.of(tmp_path, {}, root=False).service_socket is None
    assert Paths.of(None, {}, root=True).service_socket is None
    for name in ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        assert Paths.of(None, {name: str(tmp_path / "s")}, root=False).service_socket is None
    person.state.mkdir(parents=True)
    assert person.service_socket == service
    (person.state / Path(kept).name).touch()
    assert person.service_socket is None
