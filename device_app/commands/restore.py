"""`restore`: put back a copy of the store, or decide about one that was set aside."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from device_app.commands.common import Talk, Verb
from device_app.console import offline
from device_app.errors import AppError, NoDaemon
from device_app.terminal import render


@click.command(cls=Verb)
@click.argument(
    "copy", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--discard", is_flag=True, help="Keep what is in force; remove the copy set aside.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(talk: Talk, *, copy: Path | None, discard: bool, yes: bool) -> None:
    """Put back the users, keys, invites and label of a copy of the store.

    FILE is a copy of device.db; without it, it is the one that the device set aside because it was
    damaged or older than it should be. What would change is shown first. The audit trail and the
    count of failed attempts stay as they are, and what was in force is kept in
    device.db.replaced.

    After a store was lost or damaged, only keys that are certainly good are in force, and `status`
    and `health` say so until you restore a copy, or keep what is in force with --discard.

    Example: handfast-device restore
    """
    if discard:
        if copy is not None:
            raise click.UsageError("--discard is about the copy set aside; give no FILE.")
        _confirm("This keeps what is in force, and removes the copy that was set aside.", yes=yes)
        done = _do(talk, "restore-discard", {})
        talk.show(done, ["kept what is in force" if done["discarded"] else "nothing to decide"])
        return
    args = {"file": str(copy.absolute()) if copy is not None else None}
    found = _do(talk, "restore-show", args)
    if not yes:
        for line in render.restore_lines(found):
            render.talk(line)
    _confirm("Keys and users marked + get access by it, those marked - lose it.", yes=yes)
    done = _do(talk, "restore", {**args, "total": found["total"]})
    lines = render.restore_lines(done) if yes else []
    talk.show(done, [*lines, f"restored; what was in force is in {done['replaced']}"])


def _confirm(what: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("This asks first; without a terminal, give --yes.")
    render.talk(what)
    if not click.confirm("Go on?", err=True):
        raise AppError("nothing was changed")


def _do(talk: Talk, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return talk.ask(verb, args)
    except NoDaemon:
        return offline.restore(talk.places, verb, args)
