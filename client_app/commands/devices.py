"""`handfast devices`: the paired devices."""

import click

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.known_device import KnownDevice
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices


@click.command(cls=Verb, epilog="handfast devices --json")
@click.pass_obj
def command(invocation: Invocation) -> list[KnownDevice] | bytes:
    """List the devices that this client is paired with."""
    devices = invocation.book.all()
    if devices or invocation.json:
        return devices
    invocation.screen.say("No devices are paired yet. Run `handfast pair` to add one.")
    return b""
