"""`status`, `health` and `fingerprint`: describe the device, and change nothing."""

import sys
from pathlib import Path

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console.console import Console
from device_app.console.status import health_of
from device_app.console.views import HealthAnswer
from device_app.errors import NoDaemon, unwritable
from device_app.terminal import output
from device_app.terminal.render_metrics import metrics_lines
from device_app.terminal.render_status import id_and_fingerprint_lines, status_lines
from peer import files
from peer.terminal.exit_codes import ExitCode


@click.command(cls=Verb, example="handfast-device status --json")
@click.option(
    "--prometheus", is_flag=True, help="Print metrics in the text format of Prometheus instead."
)
@click.option(
    "--output",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the metrics to FILE instead, and replace it atomically.",
)
@click.pass_obj
def status(cli: CommandLine, *, prometheus: bool, file: Path | None) -> None:
    """Show the state of the device: addresses, pairing window, users, sessions, problems.

    Without a running daemon, show what the files of the device contain.

    With --prometheus, print metrics for the textfile collector of node_exporter. They contain the
    ID of the device, and no names, fingerprints or addresses. Without a running daemon, the only
    metric is `handfast_up 0`, and the exit code is 3.
    """
    if prometheus:
        if cli.as_json:
            raise click.UsageError("--prometheus cannot be combined with --json.")
        _put_metrics(cli, file)
        return
    if file is not None:
        raise click.UsageError("--output needs --prometheus.")
    answer = cli.do(Console.status)
    cli.show(answer, lambda: status_lines(answer))


def _put_metrics(cli: CommandLine, file: Path | None) -> None:
    """Print the metrics, or write them to a file. Raises `NoDaemon` after that of its absence."""
    missing: NoDaemon | None = None
    try:
        lines = metrics_lines(cli.daemon_status())
    except NoDaemon as error:
        lines, missing = metrics_lines(None), error
    if file is None:
        output.page(lines)
    else:
        text = "".join(f"{line}\n" for line in lines)
        try:
            files.atomic_write(file, text.encode(), mode=0o644)
        except OSError as error:
            raise unwritable(file, error) from error
    if missing is not None:
        raise missing


@click.command(cls=Verb, example="handfast-device health && echo fine")
@click.pass_obj
def health(cli: CommandLine) -> None:
    """Check the running daemon: exit with 0 if nothing is wrong, and with 1 otherwise.

    This is meant for service managers and scripts. Each problem is printed with advice.
    """
    try:
        answer, code = health_of(cli.daemon_status())
    except NoDaemon as error:
        answer, code = (
            HealthAnswer(healthy=False, problems=[f"{error}. {error.advice}"]),
            ExitCode.OTHER,
        )
    cli.show(answer, lambda: answer["problems"] or ["healthy"])
    sys.exit(code)


@click.command(cls=Verb, example="handfast-device fingerprint")
@click.pass_obj
def fingerprint(cli: CommandLine) -> None:
    """Show the fingerprint of this device, to compare it with the one that a client shows."""
    answer = cli.identity()
    cli.show(
        answer,
        lambda: [*id_and_fingerprint_lines(answer["fingerprint"]), f"uri          {answer['ni']}"],
    )
