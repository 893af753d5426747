"""`handfast whoami`: the user that a device knows this client as."""

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.models import Whoami
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result


@click.command(cls=NetworkVerb, epilog="handfast whoami kitchen")
@optional_device()
@click.pass_obj
async def command(invocation: Invocation, device: str) -> Whoami:
    """Show your user, role and permissions on a device, and how you are connected to it."""
    async with invocation.client() as client:
        return await (await client.connect(device)).whoami()
