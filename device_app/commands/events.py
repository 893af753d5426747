"""`events`: the audit trail, read from the file or followed on the running daemon."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from device_app.commands.common import Talk, Verb
from device_app.console import audit
from device_app.console.control_client import call
from device_app.errors import Exit
from device_app.terminal import render

_NUMBER = click.IntRange(0, 2**63 - 1)  # as far as SQLite counts


@click.command(cls=Verb)
@click.option("--follow", is_flag=True, help="Go on telling until Ctrl-C; needs the daemon.")
@click.option("--verify", is_flag=True, help="Walk the hash chain; exit 1 where it breaks.")
@click.option("--since", type=_NUMBER, metavar="SEQ", help="Those after this number.")
@click.option(
    "--last",
    type=_NUMBER,
    metavar="N",
    help=f"The last N; without --since {audit.SHOWN}.",
)
@click.pass_obj
def events(talk: Talk, *, follow: bool, verify: bool, since: int | None, last: int | None) -> None:
    """What has happened here: pairings, changes, refusals. With --json, one event a line.

    Works while the daemon runs and while it does not. A digest that was noted elsewhere shows
    later whether somebody has rewritten the whole file.

    Example: handfast-device events --follow --last 20
    """
    if verify and (follow or since is not None or last is not None):
        raise click.UsageError("--verify walks the whole trail; give it alone.")
    if verify:
        _verify(talk)
    elif follow:
        _follow(talk, since, last)
    else:
        for one in audit.read(talk.places, since=since, last=last)["events"]:
            _show(talk, one)


def _verify(talk: Talk) -> None:
    value = audit.verify(talk.places)
    if value["verified"]:
        line = f"whole: {value['head']} events, the last with digest {value['digest']}"
        talk.show(value, [line])
        return
    talk.show(value, [f"broken at event {value['seq']}: {value['why']}"])
    talk.say("Somebody or something has changed the file. What stands before that is whole.")
    sys.exit(Exit.OTHER)


def _follow(talk: Talk, since: int | None, last: int | None) -> None:
    def heard(said: Mapping[str, Any]) -> None:
        _show(talk, said["record"])

    asyncio.run(call(talk.places.socket, "events", {"since": since, "last": last}, on_event=heard))


def _show(talk: Talk, event: Mapping[str, Any]) -> None:
    try:
        talk.show(event, [render.event_line(event)])
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.DONE)
