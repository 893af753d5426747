"""`handfast rename`: change an alias."""

import click

from client_app.commands.common import Verb
from client_app.commands.device_argument import known_aliases
from client_app.commands.invocation import Invocation
from client_app.known_device import KnownDevice
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices


@click.command(cls=Verb, epilog="handfast rename kitchen cellar")
@click.argument("old", shell_complete=known_aliases)
@click.argument("new")
@click.pass_obj
def command(invocation: Invocation, old: str, new: str) -> KnownDevice:
    """Change the alias of a device on this client from OLD to NEW. The device keeps its name."""
    return invocation.book.rename(old, new)
