"""`restore`: put a copy of the store in force, or decide about the one that was set aside."""

from pathlib import Path

import click

from device_app.commands.common import CommandLine
from device_app.commands.passphrase import passphrase, passphrase_option
from device_app.commands.verbs import Verb
from device_app.console import incoming, restored_key
from device_app.console.answers import RestoreAnswer
from device_app.console.console import Console
from device_app.errors import AppError, NoDaemon
from device_app.terminal import output
from device_app.terminal.render_restore import restore_lines
from device_app.terminal.render_status import id_and_fingerprint_lines
from peer.identity import Identity

_CONSEQUENCE = "Users and keys marked + get access; those marked - lose it."


@click.command(cls=Verb, example="handfast-device restore kitchen.backup")
@click.argument(
    "copy", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--with-key", is_flag=True, help="Also the key: this board replaces the other one.")
@passphrase_option
@click.option("--discard", is_flag=True, help="Keep the users in force; delete the copy set aside.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def restore(
    cli: CommandLine,
    /,
    *,
    copy: Path | None,
    with_key: bool,
    discard: bool,
    yes: bool,
    **options: Path | None,
) -> None:
    """Restore the users, keys, invites and label from a backup.

    FILE was made by `handfast-device backup`, or is a copy of device.db. Without FILE, this uses
    the copy that the device set aside because its store was damaged or older than expected. All
    changes are shown before they are made: who comes back, and who is lost. A key that was revoked
    after the backup would be valid again. The audit trail and the count of failed attempts are
    kept, and the present store is saved as device.db.replaced.

    With --with-key, a new board gets the key of the backup too, and so takes the place of the other
    one. Stop the daemon first, and never run both boards.

    After a store was damaged or lost, the device accepts only the keys that are certainly valid.
    `status` and `health` report this until you restore a copy, or use --discard to keep the users
    as they are.
    """
    if discard:
        if copy is not None or with_key:
            raise click.UsageError("--discard deletes the copy set aside, and takes no FILE.")
        consequence = "This keeps the users in force, and deletes the copy that was set aside."
        cli.confirm(consequence, yes=yes)
        answer = cli.do(Console.restore_discard)
        done = "kept the users in force" if answer["discarded"] else "no copy was set aside"
        cli.show(answer, lambda: [done])
        return
    if with_key:
        if copy is None:
            raise click.UsageError("--with-key needs the FILE of a backup.")
        _with_key(cli, copy, options["passphrase_file"], yes=yes)
    elif copy is None:
        _show(cli, _restored(cli, None, None, yes=yes), yes=yes)
    else:
        with incoming.copied(copy, cli.paths.store) as file:
            restored = _restored(cli, str(file), str(copy.absolute()), yes=yes)
        _show(cli, restored, yes=yes)


def _with_key(cli: CommandLine, copy: Path, passphrase_file: Path | None, *, yes: bool) -> None:
    try:
        cli.daemon_status()
    except NoDaemon:
        pass
    else:
        raise AppError(
            "the daemon is running, and uses the present key",
            advice="Stop it, run this again, then start it.",
        )
    identity = restored_key.taken_from(copy, lambda: passphrase(passphrase_file, is_new=False))
    restored_key.check_place(cli.paths, identity)
    with incoming.copied(copy, cli.paths.store) as file:
        restored = _restored(cli, str(file), str(copy.absolute()), yes=yes)
    restored_key.put(cli.paths, identity)
    restored["backup"]["is_this"] = True
    _show(cli, restored, yes=yes, identity=identity)


def _restored(cli: CommandLine, file: str | None, name: str | None, *, yes: bool) -> RestoreAnswer:
    """Show what a copy changes, ask, and restore it."""
    shown = cli.do(Console.restore_show, file=file, name=name)
    if not yes:
        for line in restore_lines(shown):
            output.message(line)
    cli.confirm(_CONSEQUENCE, yes=yes)
    return cli.do(Console.restore, file=file, name=name, total=shown["total"])


def _show(
    cli: CommandLine, restored: RestoreAnswer, *, yes: bool, identity: Identity | None = None
) -> None:
    lines = restore_lines(restored) if yes else []
    lines.append(f"restored; the former store is saved as {restored['replaced']}")
    if identity is not None:
        lines += ["This board has the key of the backup now. Never run the other board again."]
        lines += id_and_fingerprint_lines(identity.fingerprint.hex)
    cli.show(restored, lambda: lines)
