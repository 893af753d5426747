"""`events`: the audit trail, from the file or from the running daemon."""

import sys

import click

from device_app.access.records import RecordView
from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console import audit
from device_app.console.answers import AuditEvent
from device_app.console.console import Console
from device_app.limits import EVENTS_SHOWN
from device_app.terminal.render_events import event_line
from peer.terminal.exit_codes import ExitCode
from peer.terminal.streams import ReaderGone

_NUMBER = click.IntRange(0, 2**63 - 1)  # the largest integer of SQLite


@click.command(cls=Verb, example="handfast-device events --follow --last 20")
@click.option("--follow", is_flag=True, help="Keep running and print new events, until Ctrl-C.")
@click.option("--verify", is_flag=True, help="Verify the hash chain; exit with 1 if it is broken.")
@click.option("--since", type=_NUMBER, metavar="SEQ", help="Only events after this number.")
@click.option(
    "--last",
    type=_NUMBER,
    metavar="N",
    help=f"Only the last N events.  [default: {EVENTS_SHOWN}, or all with --since]",
)
@click.pass_obj
def events(
    cli: CommandLine, *, follow: bool, verify: bool, since: int | None, last: int | None
) -> None:
    """Show the audit trail: pairings, changes to users, refused requests.

    With --json, each event is one line of JSON. Only --follow needs a running daemon.

    Each event contains the digest of the one before it, so --verify finds an event that was changed
    or removed. To find a log that was rewritten as a whole, note the newest digest somewhere else.
    """
    if verify and (follow or since is not None or last is not None):
        raise click.UsageError("--verify cannot be combined with other options.")
    if verify:
        _verify(cli)
    elif follow:

        def heard(event: AuditEvent) -> None:
            _show(cli, event["record"])

        try:
            cli.follow(Console.events, heard, since=since, last=last)
        except ReaderGone:  # as after `| head`
            sys.exit(ExitCode.DONE)
    elif cli.paths.service_socket is not None:  # its files are not this user's

        def listed(records: list[RecordView]) -> None:
            for record in records:
                _show(cli, record)

        cli.list_rows(Console.trail, "events", listed, since=since, last=last)
    else:
        for record in audit.read(cli.paths, since=since, last=last)["events"]:
            _show(cli, record)


def _verify(cli: CommandLine) -> None:
    answer = audit.verify(cli.paths)
    if answer["verified"]:
        text = f"intact: {answer['head']} events, the newest has the digest {answer['digest']}"
        cli.show(answer, lambda: [text])
        return
    cli.show(answer, lambda: [f"broken at event {answer['seq']}: {answer['why']}"])
    cli.message("The file was damaged or edited there. The events before that one are intact.")
    sys.exit(ExitCode.OTHER)


def _show(cli: CommandLine, record: RecordView) -> None:
    try:
        cli.show(record, lambda: [event_line(record)])
    except ReaderGone:  # as after `| head`
        sys.exit(ExitCode.DONE)
