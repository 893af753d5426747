"""`status`, `health` and `fingerprint`: describe the device, and change nothing."""

import sys

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console import offline
from device_app.console.console import Console
from device_app.console.status import health_of
from device_app.console.views import HealthAnswer
from device_app.errors import NoDaemon
from device_app.terminal.render_status import id_and_fingerprint_lines, status_lines
from peer.terminal.exit_codes import ExitCode


@click.command(cls=Verb, example="handfast-device status --json")
@click.pass_obj
def status(cli: CommandLine) -> None:
    """Show the state of the device: addresses, pairing window, users, sessions, problems.

    Without a running daemon, show what the files of the device contain.
    """
    answer = cli.do(Console.status)
    cli.show(answer, lambda: status_lines(answer))


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
    answer = offline.fingerprint(cli.paths)
    cli.show(
        answer,
        lambda: [*id_and_fingerprint_lines(answer["fingerprint"]), f"uri          {answer['ni']}"],
    )
