"""`handfast rename`: another word for a device."""

import click

from client_app.devices import KnownDevice
from client_app.setting import Setting, Verb, known_aliases


@click.command(cls=Verb, example="handfast rename kitchen cellar")
@click.argument("old", shell_complete=known_aliases)
@click.argument("new")
@click.pass_obj
def command(setting: Setting, old: str, new: str) -> KnownDevice:
    """Call a device by another name here: OLD becomes NEW. The device is not told."""
    return setting.book.rename(old, new)
