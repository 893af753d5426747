"""`restore`: put a copy of the store in force, or decide about the one that was set aside."""

from pathlib import Path

import click

from device_app.commands.common import CommandLine, Verb
from device_app.console.console import Console
from device_app.terminal import output
from device_app.terminal.render_restore import restore_lines


@click.command(cls=Verb, example="handfast-device restore backup/device.db")
@click.argument(
    "copy", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--discard", is_flag=True, help="Keep the users in force; delete the copy set aside.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def restore(cli: CommandLine, *, copy: Path | None, discard: bool, yes: bool) -> None:
    """Restore the users, keys, invites and label from a copy of the store.

    FILE is a copy of device.db. Without FILE, this uses the copy that the device set aside because
    its store was damaged or older than expected. All changes are shown before they are made. The
    audit trail and the count of failed attempts are kept, and the present store is saved as
    device.db.replaced.

    After a store was damaged or lost, the device accepts only the keys that are certainly valid.
    `status` and `health` report this until you restore a copy, or use --discard to keep the users
    as they are.
    """
    if discard:
        if copy is not None:
            raise click.UsageError("--discard deletes the copy set aside, and takes no FILE.")
        consequence = "This keeps the users in force, and deletes the copy that was set aside."
        cli.confirm(consequence, yes=yes)
        answer = cli.do(Console.restore_discard)
        done = "kept the users in force" if answer["discarded"] else "no copy was set aside"
        cli.show(answer, lambda: [done])
        return
    file = str(copy.absolute()) if copy is not None else None
    shown = cli.do(Console.restore_show, file=file)
    if not yes:
        for line in restore_lines(shown):
            output.message(line)
    cli.confirm("Users and keys marked + get access; those marked - lose it.", yes=yes)
    restored = cli.do(Console.restore, file=file, total=shown["total"])
    lines = restore_lines(restored) if yes else []
    saved = f"restored; the former store is saved as {restored['replaced']}"
    cli.show(restored, lambda: [*lines, saved])
