"""`--timeout` of the verbs, and what a verb shows while it waits."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import pytest

from client_app.cli import VERBS, main
from client_app.deadline import report_waits, waiting_for
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from client_app.terminal import screen as screen_module
from client_app.terminal.screen import Screen
from peer.identity import Identity
from tests.kit.process import Program, environment
from tests.kit.refused_port import refused_udp
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.shell import Shell

HOST = "127.0.0.1"
LONGEST = 15.0  # the shortest step without --timeout takes 20 s
#: Verbs that talk to no device.
LOCAL = {
    "devices",
    "rename",
    "address",
    "forget",
    "export",
    "import",
    "completion",
    "demo",
    "import-key",
    "fingerprint",
}
FP = "5a" * 32
ARGUMENTS = {
    "get": ["/hello"],
    "put": ["/light", "--data", "x"],
    "post": ["/hello"],
    "delete": ["/light"],
    "observe": ["/count"],
    "can": ["Core:Discover"],
    "users show": ["anna"],
    "users add": ["mia"],
    "users set": ["mia", "--role", "user"],
    "users remove": ["mia", "--yes"],
    "users add-key": ["mia", FP],
    "users remove-key": ["mia", FP, "--yes"],
    "invite": ["mia"],
    "invites withdraw": ["a1b2c3d4"],
    "events": [],
    "remote": ["--refresh"],
    "tunnel": ["ssh:0"],
    "connect": ["ssh"],
}


def tree(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """All verbs, with those of groups."""
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from tree(found, (*words, name))


NETWORK = {name: verb for name, verb in tree(main) if name.partition(" ")[0] not in LOCAL}


@pytest.fixture
def silent(home: Path) -> Iterator[str]:
    """A paired device `kitchen` whose port is open and does not answer; returns its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        at = f"{HOST}:{sock.getsockname()[1]}"
        home.mkdir(mode=0o700)
        Identity.create().save(home / "identity.pem")
        key = Identity.create().fingerprint
        DeviceBook(home / "devices.json").put(
            KnownDevice("kitchen", key, user="anna", role="owner", last_seen=at)
        )
        yield at


def test_every_verb_is_a_local_one_or_has_a_timeout() -> None:
    assert set(VERBS) >= LOCAL
    for name, verb in NETWORK.items():
        options = {one for param in verb.get_params(click.Context(verb)) for one in param.opts}
        assert "--timeout" in options, name


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("verb", [name for name in NETWORK if name not in {"discover", "pair"}])
def test_a_verb_ends_in_time_if_the_device_is_silent(
    shell: Shell, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the whole time, also if half of it has passed when the network is used."""
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + 0.1)
    monkeypatch.setattr("client_app.commands.invocation.time", late)
    monkeypatch.setattr("client_app.doctor.DIAGNOSIS_SECONDS", TIMEOUT_SECONDS)
    first, *rest = verb.split()
    began = time.monotonic()
    done = shell(first, "kitchen", *rest, *ARGUMENTS.get(verb, []), "--timeout", "0.2s", "--json")
    assert time.monotonic() - began < LONGEST
    assert done.code == 4, done.err
    error = json.loads(done.err.splitlines()[-1])["error"]
    assert error["exit"] == 4
    assert error["message"].startswith("timed out after 0.2 s")


def test_pairing_ends_in_time_if_the_device_is_silent(shell: Shell, silent: str) -> None:
    done = shell("pair", silent, "--expect-fingerprint", FP, "--timeout", "0.2s")
    assert done.code == 4
    assert "timed out after 0.2 s" in done.err


def test_a_shorter_step_ends_before_a_long_timeout(shell: Shell, silent: str, home: Path) -> None:
    assert silent
    book = DeviceBook(home / "devices.json")
    (known,) = book.all()
    with refused_udp() as place:
        book.put(KnownDevice("kitchen", known.fingerprint, last_seen=place))
        done = shell("get", "kitchen", "/hello", "--timeout", "60s")
    assert done.code == 3
    assert "nothing listens" in done.err


@pytest.mark.parametrize("words", [["pair", "-"], ["put", "kitchen", "/light", "--file", "-"]])
@pytest.mark.usefixtures("silent")
def test_waiting_for_standard_input_is_a_part_of_the_timeout(home: Path, words: list[str]) -> None:
    argv = [sys.executable, "-m", "client_app", "--home", str(home), *words, "--timeout", "0.5s"]
    program = Program(argv, environment(), typed=True)
    try:
        assert "timed out after 0.5 s" in program.end(code=4).out
    finally:
        program.close()


@pytest.mark.usefixtures("silent")
def test_a_terminal_shows_what_a_verb_waits_for(home: Path) -> None:
    argv = [sys.executable, "-m", "client_app", "--home", str(home)]
    program = Program(
        [*argv, "get", "kitchen", "/hello", "--timeout", "8s"], environment(), terminal=True
    )
    try:
        said = program.end(code=4).out
    finally:
        program.close()
    assert "connecting to kitchen …" in said
    assert "timed out after 8 s while connecting to kitchen" in said
    assert said.count("\n") <= 4


# -- the line of a wait ---------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Stands for stderr."""

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return self.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()

    def echo(text: str = "", *, err: bool, nl: bool = True) -> None:
        assert err
        made.write(text + "\n" * nl)

    monkeypatch.setattr(screen_module, "sys", SimpleNamespace(stderr=made, stdin=sys.stdin))
    monkeypatch.setattr(click, "echo", echo)
    monkeypatch.setattr("client_app.limits.SHOWN_AFTER_SECONDS", 0.02)
    monkeypatch.setattr("client_app.limits.TURN_SECONDS", 0.01)
    return made


async def drawn(terminal: Terminal, text: str, *, since: int = 0) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while text not in terminal.text[since:]:  # noqa: ASYNC110  # a terminal has no such event
            await asyncio.sleep(0.005)


async def test_a_wait_is_shown_after_a_while_and_removed_at_its_end(terminal: Terminal) -> None:
    screen = Screen()
    report_waits(screen.begin_wait)
    with waiting_for("connecting to kitchen", seconds=60):
        assert not terminal.text
        await drawn(terminal, "connecting to kitchen … ")
        with waiting_for("checking"):
            await drawn(terminal, "checking …")
    assert terminal.text.endswith("\r\x1b[K")
    shown = len(terminal.text)
    await asyncio.sleep(0.05)
    assert len(terminal.text) == shown


async def test_a_short_wait_is_not_shown(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.limits.SHOWN_AFTER_SECONDS", 60.0)
    screen = Screen()
    end = screen.begin_wait("connecting")
    await asyncio.sleep(0.02)
    end()
    assert not terminal.text


async def test_several_short_waits_in_a_row_do_not_add_up_unless_they_overlap(
    terminal: Terminal,
) -> None:
    screen = Screen()
    outer = screen.begin_wait("pairing")
    inner = screen.begin_wait("asking")
    inner()
    await drawn(terminal, "pairing …")
    outer()


@pytest.mark.parametrize("quiet", [False, True])
async def test_nothing_is_shown_without_a_terminal_or_with_quiet(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    if not quiet:
        monkeypatch.setattr(Terminal, "isatty", lambda _self: False)
    screen = Screen()
    screen.quiet = quiet
    end = screen.begin_wait("connecting")
    screen.progress("searching", seconds=60)
    await asyncio.sleep(0.1)
    end()
    screen.done()
    assert not terminal.text


async def test_a_message_does_not_end_a_wait(terminal: Terminal) -> None:
    screen = Screen()
    end = screen.begin_wait("connecting")
    await drawn(terminal, "connecting …")
    screen.warn("a message")
    assert terminal.text.endswith("\r\x1b[Ka message\n")
    await drawn(terminal, "connecting", since=len(terminal.text))
    end()
