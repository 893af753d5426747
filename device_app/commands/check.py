"""`check`: what a start of the daemon would say."""

import asyncio
import contextlib
import sys

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console.start_check import check_start
from device_app.terminal.render_check import check_lines
from peer.terminal.exit_codes import ExitCode


@click.command(cls=Verb, example="handfast-device check")
@click.pass_obj
def check(cli: CommandLine) -> None:
    """Check settings, modules, policies and ports, and say what a start would say.

    Every problem is printed with advice, and nothing is changed. Exit with 0 if a start would
    succeed, and with 1 otherwise. This imports your modules and calls their `resources`, so they
    run as they do at a start. A running daemon is not affected.
    """
    cli.note_own_files()
    with contextlib.redirect_stdout(sys.stderr):  # a module may print
        answer = asyncio.run(check_start(cli.paths))
    cli.show(answer, lambda: check_lines(answer))
    sys.exit(ExitCode.DONE if answer["ready"] else ExitCode.OTHER)
