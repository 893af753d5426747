"""`restore`: a whole device from a backup, only its users, or the copy that was set aside."""

from pathlib import Path
from typing import TypedDict, Unpack

import click

from device_app.commands.common import CommandLine
from device_app.commands.passphrase import passphrase, passphrase_option
from device_app.commands.verbs import Verb
from device_app.console import device_restore, incoming, running
from device_app.console.answers import DeviceRestoreAnswer, RestoreAnswer
from device_app.console.backup_note import note_of
from device_app.console.console import Console
from device_app.console.device_restore import Restoration
from device_app.console.sealed_backup import Contents, Kind, SealedBackup, kind_of
from device_app.console.sealed_key import unsealed_untrusted
from device_app.errors import AppError, DamagedBackup
from device_app.limits import BACKUP_USERS_SHOWN
from device_app.terminal import output
from device_app.terminal.render_restore import device_lines, restore_lines, sealed_lines
from device_app.terminal.render_status import id_and_fingerprint_lines
from iam import files, staged_store

_CONSEQUENCE = "Users and keys marked + get access; those marked - lose it."
_DEVICE_CONSEQUENCE = (
    "A user who was removed since then gets access again. Two boards with one key must not both "
    "run: clear the other board, or destroy its disk."
)


class _Options(TypedDict):
    replace: bool
    users_only: bool
    with_key: bool
    passphrase_file: Path | None
    discard: bool
    yes: bool


@click.command(cls=Verb, example="handfast-device restore kitchen.backup")
@click.argument(
    "copy", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--replace", is_flag=True, help="Replace the whole device although it has users.")
@click.option(
    "--users-only",
    is_flag=True,
    help="Only users, keys, invites and label. The daemon may run.",
)
@click.option(
    "--with-key", is_flag=True, help="Also the key, if FILE is a backup of the former format."
)
@passphrase_option
@click.option("--discard", is_flag=True, help="Keep the users in force; delete the copy set aside.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def restore(cli: CommandLine, /, *, copy: Path | None, **options: Unpack[_Options]) -> None:
    """Restore a device from a backup.

    FILE was made by `handfast-device backup`. Its key, users, keys, label, audit trail, settings
    and policies become those of this board, and clients do not have to pair again. Stop the daemon
    first. A device with users is replaced only with --replace; its store is kept as
    device.db.before-restore. Invites are withdrawn, and failed attempts are not forgotten.

    With --users-only, or if FILE is a copy of device.db, this restores only users, keys, invites
    and label, whether or not the daemon runs. The present store is saved as device.db.replaced.

    Without FILE, this restores the users of the copy that the device set aside because its store
    was damaged or older than expected. Until you do that, or use --discard to keep the users as
    they are, `status` and `health` report it.

    All changes are shown before they are made. A key that was revoked after the backup would be
    valid again.
    """
    _check(copy, options)
    if options["discard"]:
        _discard(cli, yes=options["yes"])
    elif copy is None:
        _show(cli, _restored(cli, None, None, yes=options["yes"]), yes=options["yes"])
    else:
        cli.require_own_files()
        _restore_file(cli, copy, options)


def _check(copy: Path | None, options: _Options) -> None:
    whole = options["replace"] or options["with_key"]
    if options["discard"] and (copy is not None or whole or options["users_only"]):
        raise click.UsageError("--discard deletes the copy set aside, and takes no FILE.")
    if copy is None and (whole or options["users_only"]):
        raise click.UsageError("--replace, --users-only and --with-key need the FILE of a backup.")
    if whole and options["users_only"]:
        raise click.UsageError("--users-only restores neither the key nor the whole device.")


def _discard(cli: CommandLine, *, yes: bool) -> None:
    consequence = "This keeps the users in force, and deletes the copy that was set aside."
    cli.confirm(consequence, yes=yes)
    answer = cli.do(Console.restore_discard)
    done = "kept the users in force" if answer["discarded"] else "no copy was set aside"
    cli.show(answer, lambda: [done])


def _restore_file(cli: CommandLine, copy: Path, options: _Options) -> None:
    kind, yes = kind_of(copy), options["yes"]
    if kind is Kind.OTHER:
        raise DamagedBackup(copy, "it is no backup, or its beginning was changed")
    if kind is Kind.SEALED:
        if not options["users_only"]:
            _require_stopped(cli)
        contents = _contents(copy, options["passphrase_file"])
        if not options["users_only"]:
            restoration = Restoration(
                copy.absolute(),
                contents.store,
                contents.identity,
                contents.settings,
                contents.modules,
                contents.remote_key,
            )
            _restore_device(cli, restoration, options)
            return
        with incoming.placed(contents.store, cli.paths.store) as file:
            restored = _restored(cli, str(file), str(copy.absolute()), yes=yes)
        _show(cli, restored, yes=yes)
    elif options["replace"] or options["with_key"]:
        _require_stopped(cli)
        _restore_device(cli, _former(cli, copy, options), options)
    else:
        with incoming.copied(copy, cli.paths.store) as file:
            restored = _restored(cli, str(file), str(copy.absolute()), yes=yes)
        _show(cli, restored, yes=yes)


def _require_stopped(cli: CommandLine) -> None:
    """Raise `AppError` if the daemon runs: before a person types a passphrase."""
    if (daemon := running.daemon_of(cli.paths.store)) is not None:
        raise AppError(
            f"the daemon is running (process {daemon.pid}), and uses this device's files",
            advice="Stop it, run this again, then start it. To restore only users, keys, invites "
            "and the label of a backup, use --users-only.",
        )


def _contents(copy: Path, passphrase_file: Path | None) -> Contents:
    sealed = SealedBackup.read_untrusted(copy)
    if passphrase_file is None:
        for line in sealed_lines(sealed.header.device_id, sealed.header.made):
            output.message(line)
    return sealed.opened(passphrase(passphrase_file))


def _former(cli: CommandLine, copy: Path, options: _Options) -> Restoration:
    """The content of a copy of a store, with the key of the former format if that is asked for."""
    identity = None
    if options["with_key"]:
        note = note_of(copy)
        if note is None or note.key is None:
            raise AppError(
                f"there is no key in {copy}",
                advice="Restore it without --with-key, or use a newer backup.",
            )
        words = passphrase(options["passphrase_file"])
        identity = unsealed_untrusted(note.key, words, note.fingerprint)
    files.create_folder(cli.paths.state, 0o700)
    with incoming.copied(copy, cli.paths.store) as file, files.acting_as_owner_of(cli.paths.state):
        store = staged_store.bytes_of(file)
    return Restoration(copy.absolute(), store, identity)


def _restore_device(cli: CommandLine, restoration: Restoration, options: _Options) -> None:
    with device_restore.checked(cli.paths, restoration, replace=options["replace"]) as ready:
        if not options["yes"]:
            for line in device_lines(ready.answer, most_users=BACKUP_USERS_SHOWN):
                output.message(line)
        cli.confirm(_DEVICE_CONSEQUENCE, yes=options["yes"])
        answer = device_restore.restore_device(cli.paths, ready)
    cli.show(answer, lambda: _device_done(answer, restoration, yes=options["yes"]))


def _device_done(answer: DeviceRestoreAnswer, restoration: Restoration, *, yes: bool) -> list[str]:
    lines = (
        [*device_lines(answer, most_users=BACKUP_USERS_SHOWN), _DEVICE_CONSEQUENCE] if yes else []
    )
    lines.append("restored")
    if "replaced" in answer:
        lines.append(f"the former store is saved as {answer['replaced']}")
    if restoration.identity is not None:
        lines += id_and_fingerprint_lines(restoration.identity.fingerprint.hex)
    return lines


def _restored(cli: CommandLine, file: str | None, name: str | None, *, yes: bool) -> RestoreAnswer:
    """Show what a copy changes, ask, and restore it."""
    shown = cli.do(Console.restore_show, file=file, name=name)
    if not yes:
        for line in restore_lines(shown):
            output.message(line)
    cli.confirm(_CONSEQUENCE, yes=yes)
    return cli.do(Console.restore, file=file, name=name, total=shown["total"])


def _show(cli: CommandLine, restored: RestoreAnswer, *, yes: bool) -> None:
    lines = restore_lines(restored) if yes else []
    lines.append(f"restored; the former store is saved as {restored['replaced']}")
    cli.show(restored, lambda: lines)
