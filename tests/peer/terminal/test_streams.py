"""Closed and full standard streams are reported in one line, for every verb of both commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from client_app.cli import main as client
from client_app.models import KnownDevice
from device_app.cli import main as device
from peer.identity import Fingerprint
from peer.terminal import streams
from peer.terminal.exit_codes import ExitCode
from peer.terminal.streams import OutputFailed

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {"client_app": client, "device_app": device}
WORDS = {
    ">&-": "standard output: it is closed",
    ">/dev/full": "standard output: No space left on device",
}
FAULTS = ("Traceback", "internal error", "bug in handfast", "Exception ignored")


def verbs(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every verb below a command, and of the command itself."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from verbs(found, *path, name)


EVERY_VERB = [(name, path) for name, program in PROGRAMS.items() for path in verbs(program)]


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which `client_app` and `device_app` are the programs."""
    functions = "".join(f'{name}() {{ "{sys.executable}" -m {name} "$@"; }}\n' for name in PROGRAMS)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{functions}{script}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("redirection", WORDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_failing_standard_output_is_reported_in_one_line(program: str, redirection: str) -> None:
    done = run(f"{program} completion bash {redirection}")
    assert done.returncode == ExitCode.OUTPUT
    assert f"cannot write to {WORDS[redirection]}\n  The command was carried out" in done.stderr
    assert not any(fault in done.stderr for fault in FAULTS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_that_goes_away_ends_the_command_without_a_message(program: str) -> None:
    done = run(f"exec 3> >(true); wait $!; {program} completion bash >&3")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_stream_can_be_closed(program: str, tmp_path: Path) -> None:
    """A descriptor that is closed at the start is not used for a file of the program."""
    home = f"--home {tmp_path / 'home'}"
    verb = f"devices {home}" if program == "client_app" else f"init {home}"
    done = run(
        f"{program} {verb} <&- 2>&- || exit 1\n"
        f"{program} {verb} <&- >&- 2>&-\necho code $?\n"
        f"{program} --version 2>/dev/full <&-"
    )
    assert done.returncode == 0, done
    assert f"code {0 if program == 'client_app' else ExitCode.OUTPUT}" in done.stdout
    assert done.stderr == ""


def test_the_numbers_of_closed_streams_are_not_used_for_files() -> None:
    code = "import os; from peer.terminal import streams; streams.prepare(); "
    code += "os._exit(os.open(os.devnull, os.O_RDONLY))"
    done = run(f'"{sys.executable}" -c "{code}" <&- >&- 2>&-; test $? -gt 2')
    assert done.returncode == 0


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A function that makes standard output a full disk, as `prepare` does in a process."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield lambda: monkeypatch.setattr(sys, "stdout", streams.standard_output(descriptor))
    monkeypatch.undo()
    os.close(descriptor)


@pytest.mark.parametrize(("program", "path"), EVERY_VERB, ids=str)
def test_the_help_of_every_verb_reports_a_full_output(
    program: str,
    path: tuple[str, ...],
    full: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    full()
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program].main([*path, "--help"])
    assert ended.value.code == ExitCode.OUTPUT
    errors = capsys.readouterr().err
    assert "cannot write to standard output: No space left on device" in errors
    assert not any(fault in errors for fault in FAULTS)


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("path", [path for name, path in EVERY_VERB if name == "client_app"][1:])
def test_the_result_of_every_verb_of_the_client_reports_a_full_output(
    path: tuple[str, ...],
    form: list[str],
    full: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    command: click.Command = client
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    if isinstance(command, click.Group):
        return  # a family of verbs runs its verb `list`
    result = KnownDevice("kitchen", Fingerprint(bytes(32)))
    monkeypatch.setattr(command, "callback", lambda **_: result)
    monkeypatch.setattr(command, "params", [])
    monkeypatch.setenv("HANDFAST_HOME", str(tmp_path))
    full()
    words = [path[0], "kitchen", *path[1:]] if len(path) > 1 else [*path]
    with pytest.raises(SystemExit) as ended:
        client.main([*words, *form])
    assert ended.value.code == ExitCode.OUTPUT
    errors = capsys.readouterr().err
    assert "cannot write to standard output" in errors
    assert not any(fault in errors for fault in FAULTS)


OFFLINE_VERBS = [
    *(["status"], ["fingerprint"], ["users", "list"], ["users", "add", "mia"], ["invite", "tom"]),
    *(["invites"], ["policy", "list"], ["policy", "check"], ["clock"], ["events"], ["label"]),
    *(["events", "--verify"], ["policy", "explain", "mia", "Hello:Get"], ["users", "show", "mia"]),
    *(["restore"], ["reset", "--yes"], ["init", "--force"], ["completion", "fish"]),
]


def test_the_results_of_the_verbs_of_a_device_report_a_full_output(
    tmp_path: Path, full: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    assert CliRunner().invoke(device, [*home, "init"]).exit_code == 0
    reported: set[str] = set()
    for words in OFFLINE_VERBS:
        for form in ([], ["--json"]):
            full()
            with pytest.raises(SystemExit) as ended:
                device.main([*home, *words, *form])
            errors = capsys.readouterr().err
            assert not any(fault in errors for fault in FAULTS), words
            is_reported = "cannot write to standard output: No space left on device" in errors
            assert is_reported == (ended.value.code == ExitCode.OUTPUT), (words, errors)
            reported |= {words[0]} if is_reported else set()
    verbs_with_output = {words[0] for words in OFFLINE_VERBS} - {"restore"}
    assert reported >= verbs_with_output


def test_after_an_error_nothing_is_written_and_nothing_raised() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    output = streams.standard_output(descriptor)
    output.write("first")
    with pytest.raises(OutputFailed):
        output.flush()
    output.write("second")
    output.flush()
    os.close(descriptor)


def test_a_stream_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    output = streams.standard_output(writer)
    output.write("more")
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(output.flush)
        received = bytearray()
        while not received.endswith(b"more"):
            received += os.read(reader, 4096)
        flushed.result()
    os.close(reader)
    os.close(writer)


def test_a_stream_that_a_caller_has_replaced_stays(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    streams.prepare()
    assert (sys.stdin, sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("", "")
