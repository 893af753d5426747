"""`handfast devices`: the paired devices."""

import click

from client_app.commands.common import Setting, Verb
from client_app.models import KnownDevice


@click.command(cls=Verb, example="handfast devices --json")
@click.pass_obj
def command(setting: Setting) -> list[KnownDevice]:
    """List the devices that this client is paired with."""
    return setting.book.all()
