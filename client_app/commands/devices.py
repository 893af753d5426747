"""`handfast devices`: the paired devices."""

import click

from client_app.devices import KnownDevice
from client_app.setting import Setting, Verb


@click.command(cls=Verb, example="handfast devices --json")
@click.pass_obj
def command(setting: Setting) -> list[KnownDevice]:
    """List the devices that this client is paired with."""
    return setting.book.all()
