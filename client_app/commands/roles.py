"""`handfast roles`: the roles of a device."""

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.terminal.render_administration import Roles


@click.command(cls=NetworkVerb, epilog="handfast roles kitchen")
@optional_device()
@click.pass_obj
async def command(invocation: Invocation, device: str) -> Roles:
    """List the roles of a device with their ranks and policies, lowest rank first."""
    async with invocation.client() as client:
        return Roles(await (await client.connect(device)).iam.roles())
