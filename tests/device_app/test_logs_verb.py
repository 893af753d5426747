"""`handfast-device logs`: where the daemon's log is, and its last lines."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_app.console import device_status
from device_app.process import log_destination
from tests.kit.daemon import HOST, command, environment, run
from tests.kit.device import Kit
from tests.kit.process import Program
from tests.kit.waiting import until


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched first for programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def systemd_journal(tmp_path: Path) -> Iterator[int]:
    """A descriptor that stands for a stream to systemd's journal."""
    with (tmp_path / "stream").open("wb") as stream:
        yield stream.fileno()


def place(kind: str, name: str = "", *, user: bool = False) -> log_destination.LogView:
    return {"kind": kind, "name": name, "user": user}


@pytest.mark.parametrize(
    ("cgroup", "unit", "user"),
    [
        ("0::/system.slice/my-lamp.service\n", "my-lamp.service", False),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n",
            "a.service",
            True,
        ),
        ("1:name=systemd:/system.slice/a.service\n0::/\n", "a.service", False),
        ("0::/\n", "", False),
    ],
)
def test_a_service_logs_to_the_systemd_journal(
    tmp_path: Path,
    systemd_journal: int,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    unit: str,
    user: bool,
) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    monkeypatch.setattr(log_destination, "CGROUP", tmp_path / "cgroup")
    status = os.fstat(systemd_journal)
    stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    found = log_destination.log_destination(stream, descriptor=systemd_journal)
    assert found == place("journal", unit, user=user)
    # a service may redirect standard error elsewhere, and the variable is inherited
    other = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
    found = log_destination.log_destination(other, descriptor=systemd_journal)
    assert found == place("file", str(tmp_path / "stream"))


def test_other_destinations_are_distinguished() -> None:
    terminal, slave = os.openpty()
    reading, writing = os.pipe()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor, expected in (
            (slave, place("terminal", os.ttyname(slave))),
            (writing, place("program")),
            (nowhere, place("nowhere")),
        ):
            assert log_destination.log_destination({}, descriptor=descriptor) == expected
    finally:
        for descriptor in (terminal, slave, reading, writing, nowhere):
            os.close(descriptor)
    closed = log_destination.log_destination({}, descriptor=nowhere)
    assert closed == place("nowhere")


async def test_a_daemon_reports_the_file_of_its_log_and_its_last_lines_are_shown(
    tmp_path: Path,
) -> None:
    home, log = tmp_path / "home", tmp_path / "my log.txt"
    options = ["--port", "0", "--pairing-port", "0", "--listen", HOST, "--allow-loopback"]
    script = f'exec "$@" 2> "{log}"'
    argv = ["sh", "-c", script, "sh", *command(home, "run", *options)]
    daemon = Program(argv, environment())
    try:
        await until(lambda: log.exists() and "ready" in log.read_text())
        shown = await run(home, "logs", "-n", "1")
        assert (shown.code, shown.out) == (0, log.read_text().splitlines()[-1] + "\n")
        value = (await run(home, "logs", "--json", "-f")).value
        assert value["log"] == place("file", str(log))
        assert value["command"] == [
            "tail",
            "--lines=100",
            "--follow=name",
            "--retry",
            "--",
            str(log),
        ]
        log.unlink()
        gone = await run(home, "logs")
        assert (gone.code, str(log) in gone.err) == (1, True)
    finally:
        await asyncio.to_thread(daemon.close)


@pytest.mark.parametrize("user", [False, True])
async def test_the_systemd_journal_of_the_unit_is_shown(
    kit: Kit, programs: Path, monkeypatch: pytest.MonkeyPatch, *, user: bool
) -> None:
    monkeypatch.setattr(device_status, "own_log", lambda: place("journal", "a.service", user=user))
    program(programs, "journalctl", f'echo "$@" > {programs}/asked; exit 3')
    await kit.device()
    shown = await run(kit.home, "logs", "-n", "7")
    scope = "--user-unit" if user else "--unit"
    expected = f"{scope}=a.service --lines=7 --no-pager\n"
    assert (shown.code, (programs / "asked").read_text()) == (3, expected)
    await run(kit.home, "logs", "--follow")
    assert (programs / "asked").read_text() == f"{scope}=a.service --lines=100 --follow\n"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (place("terminal", "/dev/pts/9"), "on the terminal where the daemon runs, /dev/pts/9"),
        (place("nowhere"), "discarded"),
        (place("program"), "read by the program that has started the daemon"),
        (place("journal"), "read by the program"),
    ],
)
async def test_a_log_that_cannot_be_shown_has_words(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, log: log_destination.LogView, words: str
) -> None:
    monkeypatch.setattr(device_status, "own_log", lambda: log)
    await kit.device()
    shown = await run(kit.home, "logs")
    assert (shown.code, shown.out) == (3, "")
    assert words in shown.err
    assert len(shown.err.splitlines()) == 2
    assert (await run(kit.home, "logs", "--json")).value["command"] == []


async def test_without_a_daemon_the_unit_that_is_installed_is_shown(
    tmp_path: Path, programs: Path
) -> None:
    program(programs, "journalctl", f'echo "$@" > {programs}/asked')
    program(programs, "systemctl", 'echo "my-handfast.service enabled"')
    assert (await run(tmp_path, "logs")).code == 0
    assert (programs / "asked").read_text() == "--unit=my-handfast.service --lines=100 --no-pager\n"
    program(programs, "systemctl", 'echo "handfast-a.service x"; echo "handfast-b.service x"')
    shown = await run(tmp_path, "logs")
    assert (shown.code, "`handfast-device check`" in shown.err) == (3, True)
