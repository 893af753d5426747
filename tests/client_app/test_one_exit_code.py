"""One error has one exit code in both command lines: the table in docs/howto/scripts.md."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from client_app.cli import main as client_main
from client_app.home import Home
from device_app.cli import main as device_main
from device_app.errors import exit_code
from iam import errors as iam_errors
from iam.model import User
from peer.identity import Identity
from peer.net.problem import REASONS
from peer.terminal.exit_codes import ExitCode
from tests.kit.threads import DeviceThread

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "scripts.md"
FREE = "cd" * 32


def documented() -> list[list[str]]:
    """The rows: error, command elsewhere, command at the device, code."""
    after = PAGE.read_text().partition("<!-- table: one error, one code -->\n")[2]
    lines = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


ROWS = documented()


def test_the_table_is_found() -> None:
    assert len(ROWS) > 25
    assert {int(code) for *_, code in ROWS} <= set(ExitCode)


def test_one_error_has_one_code_in_both_command_lines(
    owner: DeviceThread,
    home: Path,
    lan: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each error is also one JSON object with that code; nothing is changed."""
    assert not lan
    owner.do(lambda app: app.access.registry.add_user(None, User("leo", "guest")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    key = Identity.load(Home.at(home).identity).fingerprint.hex
    before = owner.do(lambda app: app.access.store.state)
    wrong = []
    for error, elsewhere, at_the_device, code in ROWS:
        for main, folder, command in (
            (client_main, home, elsewhere),
            (device_main, tmp_path / "device", at_the_device),
        ):
            given = command.replace("KEY", key).replace("FREE", FREE)
            words = ["--home", str(folder), "--json", *shlex.split(given)[1:]]
            done = CliRunner().invoke(main, words)
            assert not isinstance(done.exception, Exception), (error, done.exception)
            said = said_code(done.stderr, done.stdout)
            if not done.exit_code == said == int(code):
                wrong.append((error, command, done.exit_code, said, done.stderr))
    assert wrong == []
    assert owner.do(lambda app: app.access.store.state) is before


def said_code(stderr: str, stdout: str) -> int:
    """The code in the error that a command printed; a decision is an answer on stdout."""
    if stdout:
        return ExitCode.DENIED if json.loads(stdout)["allowed"] is False else ExitCode.DONE
    said = json.loads(stderr.splitlines()[-1])
    assert said["schema"] == 1
    return int(said["error"]["exit"])


@pytest.mark.parametrize(
    "kind",
    [
        iam_errors.Malformed,
        iam_errors.Denied,
        iam_errors.NotFound,
        iam_errors.NameTaken,
        iam_errors.KeyTaken,
        iam_errors.InviteRefused,
        iam_errors.LastOwner,
        iam_errors.LimitReached,
    ],
)
def test_an_error_of_the_users_has_the_code_of_its_reason_on_the_wire(
    kind: type[iam_errors.IamError],
) -> None:
    error = REASONS[kind.reason].error
    expected = ExitCode.REQUEST if error is None else error.exit_code
    assert exit_code(kind("it is so")) == expected
