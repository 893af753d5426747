"""`backup`: write a copy of the device's store to a file, while the daemon runs or not."""

import os
from pathlib import Path

import click

from device_app.commands.common import CommandLine
from device_app.commands.passphrase import passphrase, passphrase_option
from device_app.commands.verbs import Verb
from device_app.console import backup as backups
from device_app.console.console import Console
from device_app.console.sealed_key import RANDOM_BYTES, check_passphrase
from device_app.errors import AppError
from device_app.terminal.render_restore import backup_lines
from peer.terminal.exit_codes import ExitCode


@click.command(cls=Verb, example="handfast-device backup --with-key kitchen.backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--with-key", is_flag=True, help="Include the device's key, sealed with a passphrase."
)
@passphrase_option
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def backup(
    cli: CommandLine, /, *, file: Path, with_key: bool, force: bool, **options: Path | None
) -> None:
    """Write a backup of users, keys, invites, label and audit trail to FILE.

    It is safe while the daemon runs. Copying the daemon's own files then is not. The backup does
    not include settings and policies; copy those files yourself.

    With --with-key, you can restore the device on another board. Its private key is sealed with a
    passphrase, which you are asked for. Without this option, FILE contains no private key.
    """
    given = options["passphrase_file"]
    if file.exists() and not force:  # before a person types a passphrase
        raise AppError(
            f"{file} already exists",
            advice="Give the name of a new file, or use --force to replace it.",
            code=ExitCode.USAGE,
        )
    status, now = cli.do(Console.status), int(cli.now())
    words = passphrase(given, is_new=True) if with_key or given is not None else None
    if words is not None:
        check_passphrase(words)
    made = backups.make(
        cli.paths,
        name=status["name"],
        now=now,
        passphrase=words,
        random_bytes=os.urandom(RANDOM_BYTES),
    )
    view = backups.write(made, file, force=force)
    cli.show({"backup": view}, lambda: backup_lines(view))
