"""Each verb of `handfast` pays for what it uses: the modules that it loads.

A new import of a heavy package fails here. If the verb needs it, add it to the list and measure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from client_app.cli import VERBS, main
from client_app.clock import wall_clock
from client_app.known_devices import DeviceBook
from client_app.remote_settings import RemoteBook
from peer.identity import Identity
from peer.terminal.lazy_verbs import completions
from tests.kit.imports import loaded_by, own_modules, packages
from tests.kit.process import environment
from tests.kit.remote_settings import remote_settings
from tests.kit.threads import BoardThread
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

HELP = {
    *("client_app.cli", "client_app.commands.common", "client_app.commands.device_argument"),
    *("client_app.commands.invocation", "client_app.home", "client_app.terminal.screen"),
    *("handfast.__main__", "handfast.packages", "peer.digit_groups", "peer.errors"),
    *("peer.terminal.exit_codes", "peer.terminal.lazy_verbs", "peer.terminal.param_types"),
    *("peer.terminal.streams", "peer.terminal.suggestions", "peer.terminal.usage_errors"),
    *("peer.terminal.verb_search", "peer.terminal.version", "peer.terminal.wire_words"),
}
DEVICES = HELP | {
    *("client_app.aliases", "client_app.commands.devices", "client_app.deadline"),
    *("client_app.errors", "client_app.known_device", "client_app.known_devices"),
    *("client_app.known_devices_format", "client_app.limits", "client_app.terminal.render"),
    *("client_app.terminal.render_known_devices", "peer.files", "peer.fingerprint"),
    *("peer.json_text", "peer.limits", "peer.pasted", "peer.terminal.layout"),
    "peer.terminal.text",
}


#: A command that waits longer loads more: it searches the LAN, and notes that there was no answer.
LONG_WAITS = """
from client_app import limits
limits.DISCOVERY_DELAY_SECONDS = limits.REMOTE_LINGER_SECONDS = {seconds}
"""


@pytest.fixture
def patient(tmp_path: Path) -> dict[str, str]:
    """An environment in which a command waits for the device, however slow this machine is."""
    folder = tmp_path / "long-waits"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LONG_WAITS.format(seconds=TIMEOUT_SECONDS))
    return {"PYTHONPATH": os.pathsep.join((str(folder), environment()["PYTHONPATH"]))}


def test_help_and_a_list_of_devices_load_no_network_and_no_cryptography(home: Path) -> None:
    loaded = loaded_by("handfast", "--help")
    assert packages(loaded) == {"click", "shutil"}  # click asks for the width with shutil
    assert own_modules(loaded) == HELP
    loaded = loaded_by("handfast", "--home", str(home), "devices")
    assert packages(loaded) == {"click", "hashlib", "json"}
    assert own_modules(loaded) <= DEVICES


@pytest.mark.usefixtures("board_thread", "paired_shell")
def test_a_list_of_some_devices_loads_the_names_of_methods_as_well(home: Path) -> None:
    loaded = loaded_by("handfast", "--home", str(home), "devices")
    assert packages(loaded) == {"click", "hashlib", "json"}
    assert own_modules(loaded) == DEVICES | {"peer.pairing.methods"}


@pytest.mark.usefixtures("board_thread", "paired_shell")
def test_a_request_loads_nothing_of_discovery_pairing_and_administration(
    home: Path, patient: dict[str, str]
) -> None:
    loaded = loaded_by("handfast", "--home", str(home), "get", "kitchen", "/count", env=patient)
    assert packages(loaded) == GET
    for name in own_modules(loaded):
        assert not name.startswith(("client_app.pairing.", "peer.pairing.")), name
        assert "administration" not in name
        assert name not in {"client_app.models", "peer.net.mdns", "peer.net.discovery"}


@pytest.mark.usefixtures("paired_shell")
def test_a_request_at_an_address_loads_nothing_of_a_path_that_is_set_up(
    board_thread: BoardThread, home: Path, patient: dict[str, str]
) -> None:
    book, own = RemoteBook(home / "remote.json"), Identity.load(home / "identity.pem").fingerprint
    (known,) = DeviceBook(home / "devices.json").all()
    settings = remote_settings()
    board_thread.board.remote = settings.encode()
    book.update(
        known.fingerprint,
        lambda one: one.with_settings(settings, settings.encode(), wall_clock()),
        own=own,
    )
    loaded = loaded_by("handfast", "--home", str(home), "get", "kitchen", "/count", env=patient)
    assert packages(loaded) == GET
    remote = {name for name in own_modules(loaded) if name.startswith("peer.remote")}
    assert remote == {"peer.remote.limits"}


#: They print a script, print by themselves, or return one of two types.
NOT_PRINTED = {"completion", "connect", "demo", "discover"}

GET = {
    *("OpenSSL", "aiocoap", "asyncio", "cbor2", "click", "cryptography", "email"),
    *("hashlib", "json", "logging", "random", "socket", "ssl", "subprocess"),
    *("traceback", "typing_extensions"),
}


def test_completion_of_a_verb_imports_no_verb() -> None:
    env = {"_HANDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "handfast de", "COMP_CWORD": "1"}
    loaded = loaded_by("handfast", env=env)
    assert packages(loaded) <= {"click"}
    assert own_modules(loaded) == HELP


def test_the_table_of_verbs_names_verbs_that_exist() -> None:
    context = click.Context(main)
    for name, (_, about) in VERBS.items():
        verb = main.get_command(context, name)
        assert verb is not None
        assert verb.get_short_help_str(200).split()[0] == about.split()[0], name


def test_completion_finds_verbs_and_options() -> None:
    context = click.Context(main)
    found = main.shell_complete(context, "de")
    assert [(one.value, one.help) for one in found] == [
        ("devices", VERBS["devices"][1]),
        ("delete", VERBS["delete"][1]),
        ("demo", VERBS["demo"][1]),
    ]
    assert "--json" in {one.value for one in main.shell_complete(context, "--")}
    assert completions(main, context, "zz", {}) == []


@pytest.mark.parametrize("verb", [name for name in VERBS if name not in NOT_PRINTED])
def test_a_verb_imports_what_prints_its_result(verb: str) -> None:
    """In one process, another verb may have registered the type."""
    code = f"""
import importlib, re, click
module = importlib.import_module("client_app.commands.{VERBS[verb][0]}")
from client_app.terminal.render import as_json, as_text
known = {{one.__name__ for one in as_text.registry}}
def leaves(command):
    if not isinstance(command, click.Group):
        return [command]
    return [one for verb in command.commands.values() for one in leaves(verb)]
for one in leaves(module.command):
    returned = one.callback.__annotations__["return"]
    name = returned if isinstance(returned, str) else getattr(returned, "__name__", str(returned))
    words = set(re.findall(r"[A-Z]\\w+|bytes", f"{{name}} {{returned}}"))
    assert words & (known | {{"bytes"}}), (one.name, returned, known)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
