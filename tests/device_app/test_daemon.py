"""The daemon and its command line as real processes."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import pty
import signal
import stat
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from device_app.cli import main
from device_app.console import control_access
from device_app.console.control_client import call
from device_app.console.control_server import ControlServer
from device_app.errors import AppError, NoDaemon
from peer.errors import ObservationEnded
from peer.terminal.exit_codes import ExitCode
from tests.kit.daemon import command, environment, run, run_process
from tests.kit.device import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.device import Kit

pytestmark = pytest.mark.slow


async def test_init_is_safe_to_repeat(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = await run(home, "init", "--name", "kitchen", "--json")
    assert first.code == 0, first
    made = json.loads(first.out)
    assert (made["schema"], made["name"], len(made["id"])) == (1, "kitchen", 8)
    assert stat.S_IMODE((home / "device-key.pem").stat().st_mode) == 0o600
    again = await run(home, "init", "--json")
    assert json.loads(again.out)["fingerprint"] == made["fingerprint"]
    other = await run(home, "init", "--name", "cellar")
    assert (other.code, "cellar" in other.out) == (0, True)
    forced = await run(home, "--json", "init", "--name", "cellar", "--force")
    assert json.loads(forced.out)["name"] == "cellar"
    assert json.loads(forced.out)["fingerprint"] == made["fingerprint"]
    shown = json.loads((await run(home, "fingerprint", "--json")).out)
    assert shown["fingerprint"] == made["fingerprint"]
    assert shown["grouped"].replace(" ", "") == made["fingerprint"]
    status = json.loads((await run(home, "status", "--json")).out)
    assert (status["running"], status["users"]) == (False, [])
    assert (await run(home, "health")).code == 1


async def test_a_verb_without_a_device_or_daemon_names_the_command_to_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for verb in (
        *(["status"], ["fingerprint"], ["users", "list"], ["reset", "--yes"], ["events"]),
        *(["invite", "anna"], ["invites"], ["policy", "list"], ["clock"]),
    ):
        result = await run(home, *verb)
        assert (result.code, "handfast-device init" in result.err) == (3, True), result
    for verb in (
        ["open"],
        ["close"],
        ["pending"],
        ["policy", "reload"],
        ["accept", "x"],
        ["refuse", "x"],
    ):
        result = await run(home, *verb)
        assert (result.code, "handfast-device run" in result.err) == (3, True), result
    assert (await run(home, "dance")).code == 2
    assert (await run(home, "users", "set", "anna")).code == 2
    assert (await run(home, "open", "--for", "soon")).code == 2
    assert (await run(home, "--version")).code == 0


def verbs(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb and group of verbs, with the words that select it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*before, name), found
        if isinstance(found, click.Group):
            yield from verbs(found, *before, name)


def test_every_verb_has_help_with_an_example_of_itself() -> None:
    found = dict(verbs(main))
    assert len(found) > 30
    for words, one in found.items():
        help_text = CliRunner().invoke(main, [*words, "--help"])
        assert help_text.exit_code == 0, words
        assert one.help is not None
        assert f"handfast-device {' '.join(words)}" in help_text.output.partition("Example:")[2], (
            words
        )
        for option in ("--home", "--json", "--quiet"):
            assert option in help_text.output, words


async def test_users_are_managed_with_and_without_a_daemon(kit: Kit) -> None:
    await run(kit.home, "init", "--name", "kitchen")
    anna = ["anna", "--role", "owner", "--key", "AB" * 32]
    added = await run(kit.home, "users", "add", *anna, "--json")
    assert json.loads(added.out)["user"]["keys"][0]["fingerprint"] == "ab" * 32
    daemon = await kit.daemon()
    assert not daemon.status["window"]["open"]
    listed = await daemon.json("users", "list")
    assert [user["name"] for user in listed["users"]] == ["anna"]
    assert "anna" in (await daemon.run("users", "list")).out
    for args, code in (
        (["add", "anna"], 8),
        (["add", "a  b"], 2),
        (["add", "bob", "--role", "king"], 8),
        (["show", "bob"], 8),
        (["remove", "anna"], 8),
        (["add-key", "anna", "xyz"], 2),
        (["add-key", "anna", "cd" * 32, "--key-name", "phone"], 0),
        (["remove-key", "anna", "cd" * 32], 0),
        (["remove-key", "anna", "cd" * 32], 8),
        (["set", "anna", "--display", "Anna"], 0),
        (["set", "anna", "--rename", "annie"], 0),
        (["add", "bob", "--role", "owner", "--key", "ef" * 32], 0),
        (["set", "annie", "--role", "guest", "--until", "4000000000"], 0),
        (["set", "annie", "--until", "0"], 0),
        (["remove", "annie"], 0),
    ):
        result = await daemon.run("users", *args)
        assert result.code == code, (args, result)
        assert bool(result.err) == (code != 0)


async def test_a_user_pairs_at_the_first_boot_and_is_removed(kit: Kit) -> None:
    daemon = await kit.daemon("-v")
    assert daemon.status["window"]["open"]
    assert 200 < daemon.status["window"]["seconds_left"] <= 300
    caller = kit.caller(daemon.port)
    started = await caller.start("anna")
    [pending] = (await daemon.json("pending"))["pending"]
    assert (pending["name"], pending["fingerprint"]) == ("anna", caller.fingerprint)
    assert (await daemon.run("accept", "nonsense")).code == 3
    assert (await daemon.run("accept")).code == 2
    assert (await daemon.run("accept", pending["id"])).code == 0
    assert (await daemon.run("accept", pending["id"])).code == 3
    assert (await caller.confirm(started)).code == "2.04"
    assert (await caller.ask("GET", "/hello")).body.startswith("Hello anna")

    observing = asyncio.Event()

    async def observe() -> None:
        with pytest.raises(ObservationEnded):  # noqa: PT012  # the loop raises
            async for _ in caller.observe("/board"):
                observing.set()

    task = asyncio.create_task(observe())
    await asyncio.wait_for(observing.wait(), 60)
    status = await daemon.json("status")
    assert [session["user"] for session in status["sessions"] if session["on"] == "regular"] == [
        "anna"
    ]
    assert status["counters"]["regular"]["handshakes"] == 1
    await daemon.run("users", "add", "bob", "--role", "owner", "--key", "ab" * 32)
    assert (await daemon.run("users", "remove", "anna")).code == 0
    await asyncio.wait_for(task, 60)
    assert (await caller.ask("GET", "/hello")).reason == "not-paired"
    assert (await daemon.run("health")).code == 0
    assert await daemon.stop() == 0
    secrets = [(kit.home / "device-key.pem").read_text().splitlines()[1]]
    assert not any(secret in line for secret in secrets for line in daemon.log_lines)


async def test_a_paired_user_is_kept_after_a_restart(kit: Kit) -> None:
    daemon = await kit.daemon()
    caller = kit.caller(daemon.port)
    asking = asyncio.create_task(caller.pair_ask("POST", "/pair?name=anna"))
    while not (await daemon.json("pending"))["pending"]:
        assert not asking.done()
    assert (await daemon.run("accept", *caller.identity.fingerprint.grouped.split())).code == 0
    assert (await asking).body == "paired as anna with role owner"
    assert await daemon.stop() == 0
    again = await kit.daemon()
    assert not again.status["window"]["open"]
    assert (await kit.caller(again.port, caller.identity).ask("GET", "/hello")).code == "2.05"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_daemon_cleanly(kit: Kit, number: signal.Signals) -> None:
    daemon = await kit.daemon("--pair")
    caller = kit.caller(daemon.port)
    connection = await caller.connect()
    assert stat.S_IMODE((kit.home / "control.sock").stat().st_mode) == 0o600
    assert await daemon.stop(number) == 0
    assert not (kit.home / "control.sock").exists()
    assert not (kit.home / "device.db-wal").exists()  # closed, not abandoned
    async with asyncio.timeout(60):  # the client gets close_notify
        while connection.is_open:
            await asyncio.get_running_loop().run_in_executor(None, os.sched_yield)
    assert not any("Traceback" in line for line in daemon.log_lines)


async def test_a_second_daemon_names_the_process_of_the_first(kit: Kit) -> None:
    daemon = await kit.daemon()
    second = await run_process(kit.home, "run", "--port", "0")
    assert second.code == 1
    assert str(daemon.pid) in second.err
    assert (await daemon.run("health")).code == 0


async def test_the_socket_of_a_killed_daemon_does_not_prevent_a_restart(kit: Kit) -> None:
    daemon = await kit.daemon()
    await daemon.stop(signal.SIGKILL)
    assert (kit.home / "control.sock").exists()
    assert (await run(kit.home, "pending")).code == 3
    again = await kit.daemon()
    assert (await again.run("health")).code == 0


async def test_open_validates_its_options_and_reports_a_timeout(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
    daemon = await kit.daemon()
    opened = await daemon.json("open", "--no-wait", "--for", "30s", "--role", "user")
    assert (opened["window"]["open"], opened["window"]["role"]) == (True, "user")
    assert (await daemon.run("open", "--no-wait", "--role", "guest")).code == 8
    assert (await daemon.json("close"))["closed"]
    assert not (await daemon.json("close"))["closed"]
    assert (await daemon.run("open", "--role", "king", "--no-wait")).code == 8
    assert (await daemon.run("open", "--methods", "telepathy", "--no-wait")).code == 2
    timed_out = await daemon.run("open", "--for", "0.2s")
    assert (timed_out.code, "time" in timed_out.err) == (4, True)


async def test_open_prints_events_as_json_lines(kit: Kit) -> None:
    daemon = await kit.daemon()
    waiting = await asyncio.create_subprocess_exec(
        *command(kit.home, "open", "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert waiting.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await waiting.stdout.readline())["event"] == "window"
        caller = kit.caller(daemon.port)
        asking = asyncio.create_task(caller.pair_ask("POST", "/pair?name=anna"))
        event = json.loads(await waiting.stdout.readline())
        assert (event["event"], event["ceremony"]["name"]) == ("pending", "anna")
        await daemon.run("accept", event["ceremony"]["id"])
        assert (await asking).code == "2.04"
        lines = [json.loads(line) async for line in waiting.stdout]
        assert [line.get("event") for line in lines] == ["ended", "closed", None]
        assert lines[-1]["paired"]["name"] == "anna"
        assert await waiting.wait() == 0


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 12)])
@pytest.mark.parametrize("verb", ["open", "run"])
async def test_run_and_open_prompt_on_a_terminal(
    kit: Kit, verb: str, answer: str, code: int
) -> None:
    master, terminal = pty.openpty()
    options = ["--port", "0", "--pairing-port", "0", "--listen", "127.0.0.1", "--allow-loopback"]
    daemon = None if verb == "run" else await kit.daemon()
    prompting = await asyncio.create_subprocess_exec(
        *command(kit.home, verb, *(options if verb == "run" else [])),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(),
    )
    os.close(terminal)
    screen = Screen(master)
    try:
        await screen.until("ready" if verb == "run" else "handfast pair")
        status = json.loads((await run(kit.home, "status", "--json")).out)
        caller = Caller(lambda *, pairing: status["pairing_port" if pairing else "port"])
        os.write(master, b"yes\n")  # input before the prompt is not an answer to it
        await screen.until("yes")
        started = await caller.start("anna")
        await screen.until("[yes/no]")
        assert (await caller.pair_ask("GET", f"/pair/{started.body['id']}")).body == {
            "state": "PENDING_USER_CONFIRMATION"
        }
        plain = screen.text.replace("\r\n", " ")
        for fingerprint in (caller.fingerprint, status["fingerprint"]):
            assert fingerprint in plain.replace(" ", "")
        os.write(master, b"maybe\n")
        await screen.until("Please answer")
        os.write(master, answer.encode() + b"\n")
        async with asyncio.timeout(60):
            async for seen in caller.observe(f"/pair/{started.body['id']}", pairing=True):
                if seen.body["state"] != "PENDING_USER_CONFIRMATION":
                    break
        if code == 0:
            assert (await caller.confirm(started)).code == "2.04"
        else:
            assert (await caller.confirm(started)).reason == "refused"
        if verb == "run":
            prompting.send_signal(signal.SIGTERM)
            code = 0
        elif code:
            await run(kit.home, "close")
        async with asyncio.timeout(60):
            assert await prompting.wait() == code
        await caller.close()
    finally:
        screen.close()
        if prompting.returncode is None:
            prompting.kill()
            await prompting.wait()
        if daemon is not None:
            await daemon.stop()


class Screen:
    """The output of a terminal."""

    def __init__(self, master: int) -> None:
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master = master
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            # A read may end within a character.
            self.text += self._decoder.decode(os.read(self._master, 65536))
        except OSError:  # all users are removed
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.text:
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


async def test_interrupting_open_closes_its_window(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
    daemon = await kit.daemon()
    waiting = await asyncio.create_subprocess_exec(
        *command(kit.home, "open"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert waiting.stderr is not None
    async with asyncio.timeout(60):
        while b"handfast pair" not in await waiting.stderr.readline():
            pass
        assert (await daemon.json("status"))["window"]["open"]
        waiting.send_signal(signal.SIGINT)
        assert await waiting.wait() == 130
        while (await daemon.json("status"))["window"]["open"]:
            pass


@pytest.mark.parametrize("keep", [False, True])
async def test_reset_removes_all_users(kit: Kit, *, keep: bool) -> None:
    daemon = await kit.daemon()
    caller = kit.caller(daemon.port)
    started = await caller.start("anna")
    await daemon.run("accept", started.body["id"])
    await caller.confirm(started)
    assert (await caller.ask("GET", "/hello")).code == "2.05"
    assert (await daemon.run("reset")).code == 2
    options = ["--keep-identity"] if keep else []
    assert (await daemon.run("reset", "--yes", *options)).code == 0
    await daemon.until("ready\n", times=2)
    status = await daemon.json("status")
    assert (status["fingerprint"] == daemon.status["fingerprint"]) is keep
    assert status["users"] == []
    assert status["window"]["open"]
    daemon.status = status
    assert (await caller.ask("GET", "/hello")).reason == "not-paired"


async def test_an_invalid_configuration_prevents_the_start_and_names_the_line(kit: Kit) -> None:
    kit.home.mkdir()
    (kit.home / "device.toml").write_text('[pairing]\nrole = "king"\n', encoding="utf-8")
    refused = await run_process(kit.home, "run", "--port", "0")
    assert refused.code == 2
    assert "device.toml:2" in refused.err
    assert "Traceback" not in refused.err


# -- the control socket ---------------------------------------------------------------------------


async def answers(_args: object, _say: object) -> dict[str, object]:
    return {"fine": True}


async def fails(_args: object, _say: object) -> dict[str, object]:
    raise ZeroDivisionError("a secret")


async def test_the_control_socket_accepts_only_the_daemons_user_and_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (
        tmp_path / ("deep" * 40) / "control.sock"
    )  # longer than the 108 bytes of a socket address
    server = await ControlServer.start(path, {"ask": answers, "fail": fails})
    try:
        assert await call(path, "ask", {}) == {"fine": True}
        with pytest.raises(AppError, match="does not know"):
            await call(path, "dance", {})
        with pytest.raises(AppError, match="failed to do this") as caught:
            await call(path, "fail", {})
        assert "secret" not in str(caught.value) + caught.value.advice
        other = control_access.Credentials(os.getuid() + 1, os.getgid())
        monkeypatch.setattr(control_access.Credentials, "of", lambda _sock: other)
        with pytest.raises(AppError, match="may not use this device's console") as refused:
            await call(path, "ask", {})
        assert refused.value.code == ExitCode.DENIED
    finally:
        await server.close()
    with pytest.raises(NoDaemon):
        await call(path, "ask", {})


@pytest.mark.parametrize(
    "line",
    [b"\n", b"[]\n", b"{}\n", b'{"verb": []}\n', b'{"verb": "ask", "args": 7}\n', b"x" * 99999],
)
async def test_a_malformed_request_does_not_stop_the_control_socket(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "control.sock"
    server = await ControlServer.start(path, {"ask": answers})
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line)
        writer.write_eof()
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()
        assert await call(path, "ask", {}) == {"fine": True}
    finally:
        await server.close()
