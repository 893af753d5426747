"""`backup`: write key, store, settings and policies to one sealed file."""

import os
from pathlib import Path

import click

from device_app.commands.common import CommandLine
from device_app.commands.passphrase import (
    new_passphrase,
    passphrase,
    passphrase_option,
    show_passphrase,
)
from device_app.commands.verbs import Verb
from device_app.console import backup as backups
from device_app.console import offline, passphrases
from device_app.console.console import Console
from device_app.console.sealed_backup import RANDOM_BYTES
from device_app.errors import AppError
from device_app.terminal.render_restore import backup_lines
from peer.terminal.exit_codes import ExitCode


@click.command(cls=Verb, example="handfast-device backup kitchen.backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@passphrase_option
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def backup(cli: CommandLine, /, *, file: Path, force: bool, **options: Path | None) -> None:
    """Write a backup of the whole device to FILE, sealed with a passphrase.

    FILE holds the device's private key, users, keys, invites, label and audit trail, the settings
    and the policies. With FILE and its passphrase you can replace the board, and clients do not
    have to pair again. Your own modules are not in it; their names are listed.

    Without --passphrase-file, the command makes a passphrase and shows it once, on the terminal. A
    passphrase of your own has 12 characters or more.

    The daemon may run meanwhile. Do not copy its files yourself while it runs.
    """
    given = options["passphrase_file"]
    cli.require_own_files()
    if file.exists() and not force:  # before a person types a passphrase
        raise AppError(
            f"{file} already exists",
            advice="Give the name of a new file, or use --force to replace it.",
            code=ExitCode.USAGE,
        )
    status, now = cli.do(Console.status), int(cli.now())
    words = new_passphrase() if given is None else passphrase(given, is_new=True)
    passphrases.check(words)
    made = backups.make(
        cli.paths,
        name=status["name"],
        now=now,
        modules=offline.settings(cli.paths).modules,
        passphrase=words,
        random_bytes=os.urandom(RANDOM_BYTES),
    )
    view = backups.write(made, file, force=force)
    cli.show({"backup": view}, lambda: backup_lines(view))
    if given is None:
        show_passphrase(words)
