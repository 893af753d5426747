"""Words of both command lines: an error names an option, and a typing error gets a suggestion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from client_app.cli import main as client
from device_app.cli import main as device
from device_app.commands.verbs import SYNONYMS
from peer.terminal.wire_words import FIELDS, options_by_field
from tests.kit.daemon import Daemon, run

USER = {"name", "role", "display", "not_before", "not_after"}
INVITE = {"name", "role", "seconds", "uses", "key", "not_after"}
#: The fields of the bodies that a verb sends, below the name of the verb in both programs.
BODIES: Mapping[str, set[str]] = {
    "users add": USER,
    "users set": USER,
    "users add-key": {"name", "fingerprint"},
    "invite": INVITE,
    "open": {"seconds", "role", "methods"},
}
PROGRAMS = {"client": client, "device": device}


def verbs(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            assert verb is not None
            yield path + name, verb
            yield from verbs(verb, f"{path}{name} ")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("verb", BODIES)
def test_each_field_of_a_body_is_known_by_an_option(program: str, verb: str) -> None:
    command = dict(verbs(PROGRAMS[program]))[verb]
    options = options_by_field(command.params)
    for field in BODIES[verb]:
        assert options[field].startswith("--") or options[field].isupper(), field


def test_each_other_name_of_a_parameter_is_used() -> None:
    names = {
        one.name
        for program in PROGRAMS.values()
        for _, verb in verbs(program)
        for one in verb.params
    }
    assert set(FIELDS) <= names


async def test_errors_of_the_device_name_the_options_of_the_verb(tmp_path: Path) -> None:
    """With a daemon, and without one."""
    homes = tmp_path / "running", tmp_path / "without"
    for home in homes:
        assert (await run(home, "init", "--name", "kitchen")).code == 0
    daemon = await Daemon.start(homes[0])
    try:
        await _check_errors(homes)
    finally:
        await daemon.end()


async def _check_errors(homes: Sequence[Path]) -> None:
    for words, shown in (
        (("invite", "mia", "--for", "1000d"), "--for is not a duration of at most"),
        (("users", "add", "mia", "--display", "x" * 999), "--display is not printable text"),
        (("users", "add-key", "mia", "ab" * 32, "--key-name", "\x07"), "--key-name is not printab"),
    ):
        for home in homes:
            result = await run(home, *words)
            assert result.code == 2, result
            assert f"handfast-device: {shown}" in result.err
            assert f"Give {shown.split()[0]} as" in result.err
            as_json = await run(home, *words, "--json")
            assert as_json.error["message"].startswith(shown)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_typing_error_in_any_verb_gets_a_suggestion(program: str) -> None:
    for path, _ in verbs(PROGRAMS[program]):
        *family, verb = path.split()
        if len(verb) < 3:
            continue
        typed = f"{verb[:-1]}x{verb[-1]}"
        device_argument = ["kitchen"] if family and program == "client" else []
        result = CliRunner().invoke(PROGRAMS[program], [*family, *device_argument, typed])
        assert result.exit_code == 2, path
        assert f"There is no verb {typed!r}. Did you mean" in result.stderr, path
        assert f"`{verb}`" in result.stderr, path


@pytest.mark.parametrize("word", SYNONYMS)
def test_a_word_of_another_program_leads_to_the_verb(word: str) -> None:
    assert word not in device.list_commands(click.Context(device))
    stderr = CliRunner().invoke(device, [word]).stderr
    assert f"There is no verb {word!r}. Did you mean `{SYNONYMS[word]}`" in stderr
