"""`handfast devices`: the paired devices."""

import click

from client_app.commands.common import Invocation, Verb
from client_app.models import KnownDevice


@click.command(cls=Verb, epilog="handfast devices --json")
@click.pass_obj
def command(invocation: Invocation) -> list[KnownDevice]:
    """List the devices that this client is paired with."""
    return invocation.book.all()
