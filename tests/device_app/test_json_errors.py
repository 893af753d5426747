"""With `--json`, every error of `handfast-device` is one JSON object on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from device_app import cli
from device_app.console.offline import OfflineConsole
from peer.terminal.exit_codes import ExitCode
from peer.terminal.usage_errors import wants_json
from tests.kit.daemon import run, run_process

if TYPE_CHECKING:
    from tests.kit.device import Kit
    from tests.kit.process import Result

#: The arguments that verbs need; `completion` and `demo` do not need a device.
ARGUMENTS = {
    "accept": ["x"],
    "refuse": ["x"],
    "invite": ["anna"],
    "backup": ["missing/kitchen.backup"],
    "restore": ["--discard", "--yes"],
    "remote rotate": ["--yes"],
    "reset": ["--yes"],
    "users show": ["anna"],
    "users add": ["anna"],
    "users set": ["anna", "--role", "owner"],
    "users remove": ["anna"],
    "users add-key": ["anna", "ab" * 32],
    "users remove-key": ["anna", "ab" * 32],
    "invites withdraw": ["ab"],
    "policy explain": ["anna", "Hello:Get"],
    "policy check": ["missing.toml"],
    "policy import-nabto": ["missing.json"],
}
#: Verbs that create a device, run it, or need none.
OTHERS = {"init", "run", "health", "check", "completion"}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each verb."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            subcommand = command.get_command(click.Context(command), name)
            assert subcommand is not None
            yield from leaves(subcommand, (*path, name))
    else:
        yield path


VERBS = [" ".join(path) for path in leaves(cli.main)]


def error_in(result: Result) -> dict[str, Any]:
    """The error that a command printed: the last line of stderr."""
    assert not result.out
    said = json.loads(result.err.splitlines()[-1])
    assert said["schema"] == 1
    error = said["error"]
    assert set(error) == {"kind", "exit", "message", "advice"}
    assert error["exit"] == result.code != 0
    assert error["message"]
    return dict(error)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"run"}))
async def test_an_unknown_option_is_reported_as_json(tmp_path: Path, verb: str) -> None:
    for words in ([*verb.split(), "--json", "--loud"], ["--json", *verb.split(), "--loud"]):
        error = error_in(await run(tmp_path, *words))
        assert (error["kind"], error["exit"]) == ("UsageError", 2)
        assert "--loud" in error["message"]
        assert "--help" in error["advice"]


@pytest.mark.parametrize("verb", sorted(set(VERBS) - OTHERS))
async def test_a_verb_without_a_device_reports_it_as_json(tmp_path: Path, verb: str) -> None:
    words = [*verb.split(), *ARGUMENTS.get(verb, [])]
    error = error_in(await run(tmp_path, *words, "--json"))
    names_a_file = any(word.startswith("missing.") for word in words)
    assert error["exit"] == (ExitCode.USAGE if names_a_file else ExitCode.NOT_FOUND)
    assert error["kind"] in {"NoDevice", "NoDaemon", "AppError", "UsageError"}


async def test_the_daemon_reports_its_errors_as_json(tmp_path: Path) -> None:
    assert error_in(await run_process(tmp_path, "run", "--json", "--loud"))["exit"] == 2
    (tmp_path / "device.toml").write_text("port = 1")
    error = error_in(await run_process(tmp_path, "--json", "run"))
    assert (error["kind"], error["exit"]) == ("ConfigError", 2)


async def test_an_error_is_the_same_with_and_without_a_daemon(kit: Kit) -> None:
    for is_running in (False, True):
        daemon = await kit.daemon() if is_running else None
        if daemon is None:
            assert (await run(kit.home, "init")).code == 0
        error = error_in(await run(kit.home, "--json", "users", "show", "nobody"))
        assert error["kind"] == "NotFound"
        assert error["exit"] == ExitCode.REQUEST
        assert error["advice"]


async def test_a_fault_and_an_interrupt_are_reported_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[BaseException] = [ZeroDivisionError("by\x1b zero"), KeyboardInterrupt()]

    def fail(*_: object, **__: object) -> None:
        raise raised[0]

    monkeypatch.setattr(OfflineConsole, "run", fail)
    fault = error_in(await run(tmp_path, "--json", "status"))
    assert (fault["kind"], fault["exit"]) == ("InternalError", 1)
    assert "ZeroDivisionError" in fault["message"]
    shown = await run(tmp_path, "status")
    assert "bug in handfast" in shown.err
    assert "Traceback" not in shown.err
    assert "\x1b" not in shown.err
    assert "Traceback" in (await run(tmp_path, "-v", "status")).err
    raised.pop(0)
    assert error_in(await run(tmp_path, "status", "--json"))["exit"] == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json"], True),
        (["users", "list", "--json"], True),
        (["users", "list"], False),
        (["users", "show", "--", "--json"], False),
        ([], False),
    ],
)
def test_the_option_is_found_on_a_command_line_with_errors(
    words: list[str], expected: bool
) -> None:
    assert wants_json(words) is expected
