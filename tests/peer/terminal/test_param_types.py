"""Option types: both command lines accept the same durations and times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from client_app.cli import main as client
from device_app.cli import main as device
from peer.terminal.param_types import Duration, Time


def types_of(command: click.Command, name: str) -> list[click.ParamType[object]]:
    """The types of all options below `command` whose names include `name`."""
    found = [one.type for one in command.params if name in one.opts]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for verb in command.list_commands(context):
            found += types_of(command.get_command(context, verb) or command, name)
    return found


@pytest.mark.parametrize("program", [client, device], ids=["client", "device"])
def test_every_duration_and_time_option_has_its_type(program: click.Group) -> None:
    durations, times = types_of(program, "--for"), types_of(program, "--until")
    assert len(durations) == 2  # `open`, `invite`
    assert len(times) == 3  # `invite`, `users add`, `users set`
    assert all(isinstance(one, Duration) for one in durations)
    assert all(isinstance(one, Time) for one in times)


@pytest.mark.parametrize("program", [client, device], ids=["client", "device"])
def test_no_option_takes_a_plain_number_of_seconds(program: click.Group) -> None:
    for option in options_of(program):
        shown = f"{option.metavar} {option.help}".casefold()
        assert "seconds" not in shown or isinstance(option.type, Duration | Time), option.name
        assert not isinstance(option.type, click.types.FloatParamType), option.name


def options_of(command: click.Command) -> Iterator[click.Option]:
    """All options of a command line."""
    yield from (one for one in command.params if isinstance(one, click.Option))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for verb in command.list_commands(context):
            yield from options_of(command.get_command(context, verb) or command)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("0.3", 0.3), ("300ms", 0.3), ("1 min", 60)]
)
def test_a_press_can_be_given_in_any_unit(text: str, seconds: float) -> None:
    (held,) = types_of(device, "--held")
    assert held.convert(text, None, None) == seconds
    with pytest.raises(click.UsageError, match="is not a duration"):
        held.convert("-1", None, None)


def test_a_duration_of_zero_is_refused_elsewhere() -> None:
    with pytest.raises(click.UsageError, match="it must be more than 0"):
        Duration().convert("0", None, None)


@pytest.mark.parametrize("text", ["500ms", "2min", "2m", "1h30m"])
def test_durations_accept_several_units(text: str) -> None:
    seconds = {"500ms": 0.5, "2min": 120.0, "2m": 120.0, "1h30m": 5400.0}[text]
    assert Duration().convert(text, None, None) == seconds
    assert Time().convert(text, None, None) == timedelta(seconds=seconds)


def test_a_duration_has_an_upper_limit() -> None:
    with pytest.raises(click.UsageError, match="more than 60 s"):
        Duration(60).convert("2min", None, None)


@pytest.mark.parametrize("program", [client, device], ids=["client", "device"])
def test_a_wrong_duration_is_a_usage_error(program: click.Group) -> None:
    words = ["open", *(["kitchen"] if program is client else []), "--for", "2 moons"]
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 2
    assert "'2 moons' is not a duration. Examples: 90s, 2m" in result.stderr


@pytest.mark.parametrize("program", [client, device], ids=["client", "device"])
def test_every_verb_with_a_time_asks_before_it_takes_one_in_the_past(
    program: click.Group, tmp_path: Path
) -> None:
    """A time in the past is refused without a terminal, before anything is contacted."""
    of_device = ["kitchen"] if program is client else []
    if program is device:  # which knows the time
        assert CliRunner().invoke(device, ["--home", str(tmp_path), "init"]).exit_code == 0
    verbs = [
        ["users", *of_device, "add", "mia"],
        ["users", *of_device, "set", "mia"],
        ["invite", *of_device, "mia"],
    ]
    for words in verbs:
        for option in ("--from", "--until")[words[0] == "invite" :]:
            given = [*words, option, "2001-09-10"]
            result = CliRunner().invoke(program, ["--home", str(tmp_path), *given])
            assert result.exit_code == 2, given
            assert "confirm" in result.stderr, given
            agreed = CliRunner().invoke(program, ["--home", str(tmp_path), *given, "--yes"])
            assert "confirm" not in agreed.stderr, given
