"""Modules that verbs of `handfast-device` load; see tests/client_app/test_command_imports.py."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING

import click

from device_app.cli import VERBS, main
from tests.kit.daemon import HOST, Daemon, run
from tests.kit.distribution import ROOT
from tests.kit.imports import loaded_by, modules_of, own_modules, packages, probe

if TYPE_CHECKING:
    from pathlib import Path

HELP = {
    *("device_app.__main__", "device_app.cli", "device_app.commands.verbs"),
    *("handfast.__main__", "handfast.packages", "peer.digit_groups", "peer.errors"),
    *("peer.terminal.exit_codes", "peer.terminal.lazy_verbs", "peer.terminal.streams"),
    *("peer.terminal.suggestions", "peer.terminal.usage_errors", "peer.terminal.verb_search"),
    "peer.terminal.version",
}


def test_help_and_completion_load_nothing_of_the_device() -> None:
    for env in ({}, {"_HANDFAST_DEVICE_COMPLETE": "bash_complete", "COMP_CWORD": "1"}):
        words = ("handfast-device", *(() if env else ("--help",)))
        loaded = loaded_by(*words, env={"COMP_WORDS": "handfast-device st", **env})
        assert packages(loaded) <= {"click", "shutil"}  # click asks for the width with shutil
        assert own_modules(loaded) == HELP


def test_the_table_of_verbs_has_the_first_sentence_of_each_help() -> None:
    context = click.Context(main)
    for name, (_, _, about) in VERBS.items():
        verb = main.get_command(context, name)
        assert verb is not None
        assert verb.name == name
        assert verb.get_short_help_str(200) == about, name


def test_completion_finds_verbs_and_options() -> None:
    context = click.Context(main)
    assert [one.value for one in main.shell_complete(context, "res")] == ["restore", "reset"]
    assert "--home" in {one.value for one in main.shell_complete(context, "--")}


async def test_status_loads_no_library_that_few_verbs_need(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert (await run(home, "init", "--name", "kitchen")).code == 0
    daemon = await Daemon.start(home)
    try:
        loaded = loaded_by("handfast-device", "--home", str(home), "status")
        assert packages(loaded) == STATUS
        assert not {name for name in own_modules(loaded) if name.startswith("peer.dtls.")}
    finally:
        await daemon.end()


STATUS = {
    *("asyncio", "cbor2", "click", "cryptography", "email", "hashlib"),
    *("json", "logging", "random", "rpds"),
    *("socket", "sqlite3", "ssl", "subprocess", "tomllib", "traceback"),
}


async def test_an_idle_daemon_has_loaded_nothing_that_only_pairing_and_pictures_need(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    assert (await run(home, "init", "--owner", f"anna={'ab' * 32}")).code == 0
    loaded = await asyncio.to_thread(loaded_by_a_daemon, home)
    assert packages(loaded) == DAEMON
    assert not {name for name in loaded if name.startswith("Crypto.")}  # only its version is read
    # Of pyroute2, only the messages; it is not in `sys.modules`, so that applications get it whole.
    assert "peer.net.netlink_messages" in loaded
    for name in own_modules(loaded):
        # It takes 1 MB. The compiler may import it as well, for names of characters.
        text = (ROOT / f"{name.replace('.', '/')}.py").read_text()
        assert not re.search(r"^(import|from) unicodedata", text, re.MULTILINE), name
    # Remote reach is off: of it, a daemon has imported the bounds alone.
    assert {name for name in own_modules(loaded) if name.startswith("peer.remote.")} <= {
        "peer.remote.limits"
    }
    unused = {"device_app.commands.backup", "device_app.commands.policy", "peer.terminal.qr"}
    assert not own_modules(loaded) & unused


def loaded_by_a_daemon(home: Path) -> set[str]:
    """The modules of a daemon when it is ready; SIGTERM ends it."""
    options = ("--port", "0", "--pairing-port", "0", "--listen", HOST, "--allow-loopback")
    program = probe("handfast-device", "--home", str(home), "run", *options)
    try:
        program.until("ready\n")
        program.send(signal.SIGTERM)
        return modules_of(program.end())
    finally:
        program.close()


DAEMON = STATUS | {
    *("Crypto", "OpenSSL", "aiocoap", "ctypes", "cython_runtime", "ifaddr"),
    *("shutil", "tempfile", "typing_extensions", "zeroconf"),
}
