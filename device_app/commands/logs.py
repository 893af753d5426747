"""`logs`: show the daemon's log, wherever it is."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.errors import AppError, NoDaemon
from device_app.limits import LOG_TAIL_BYTES
from device_app.process.log_destination import LogView
from device_app.terminal import output
from peer.terminal.exit_codes import ExitCode
from peer.terminal.text import on_one_line

_READER: Final = "journalctl"


@click.command(cls=Verb, example="handfast-device logs -n 50")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Lines to show, the newest ones.",
)
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@click.pass_obj
def logs(cli: CommandLine, *, lines: int, follow: bool) -> None:
    """Show the log of the daemon.

    A daemon that systemd runs writes to the journal: this runs `journalctl` for its unit, also if
    the daemon did not start. A log that was redirected to a file is read from there. Otherwise this
    says where the log goes. With --json, it prints where the log is, and the command that shows it.
    """
    place = _place(cli)
    command = _command(place, lines=lines, follow=follow)
    if cli.as_json:
        output.json_line({"log": place, "command": command})
        return
    if not command:
        raise _not_readable(place)
    if place["kind"] == "file" and not follow:
        output.lines(_last_lines(Path(place["name"]), lines))
        return
    try:
        result = subprocess.run(command, check=False)  # a fixed program
    except FileNotFoundError as error:
        raise AppError(
            f"the log is in the journal, and {command[0]} is not installed here",
            advice=f"Read it on this machine with: {' '.join(command)}",
            code=ExitCode.NOT_FOUND,
        ) from error
    sys.exit(result.returncode)


def _place(cli: CommandLine) -> LogView:
    """Return where the daemon writes, or its unit if it does not run."""
    try:
        return cli.daemon_status()["log"]
    except NoDaemon as error:
        if unit := _installed_unit():
            return {"kind": "journal", "name": unit, "user": False}
        raise AppError(
            "no daemon is running here, so nothing tells where its log is",
            advice="See why it does not start: `handfast-device check`, then "
            "`handfast-device run`, which logs to the terminal. If systemd starts it, run "
            "`journalctl -u UNIT` with the name of its unit.",
            code=ExitCode.NOT_FOUND,
        ) from error


def _installed_unit() -> str:
    """Return the only unit of systemd that is named after handfast, or nothing."""
    command = ["systemctl", "list-unit-files", "--no-legend", "--type=service", "*handfast*"]
    try:
        found = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        return ""
    units = [line.split()[0] for line in found.stdout.splitlines() if line.strip()]
    return units[0] if len(units) == 1 else ""


def _command(place: LogView, *, lines: int, follow: bool) -> list[str]:
    match place["kind"]:
        case "journal" if place["name"]:
            scope = "--user-unit" if place["user"] else "--unit"
            more = ["--follow"] if follow else ["--no-pager"]
            return [_READER, f"{scope}={place['name']}", f"--lines={lines}", *more]
        case "file":
            more = ["--follow=name", "--retry"] if follow else []
            return ["tail", f"--lines={lines}", *more, "--", place["name"]]
        case _:
            return []


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read(LOG_TAIL_BYTES).decode(errors="replace")
    except OSError as error:
        raise AppError(
            f"the log {path} cannot be read: {error.strerror}",
            advice="Read it as the user that runs the daemon.",
        ) from error
    return [on_one_line(line) for line in text.splitlines()[-count:]]


def _not_readable(place: LogView) -> AppError:
    match place["kind"]:
        case "terminal":
            where = f"on the terminal where the daemon runs, {place['name']}"
            advice = "Look there, or start the daemon with `2> FILE`."
        case "nowhere":
            where = "discarded: the daemon's standard error is closed or /dev/null"
            advice = "Start the daemon with `2> FILE`, or as a service of systemd."
        case _:
            where = "read by the program that has started the daemon"
            advice = "Ask that program, for example `docker logs`, or start it with `2> FILE`."
    return AppError(f"the log is {where}", advice=advice, code=ExitCode.NOT_FOUND)
