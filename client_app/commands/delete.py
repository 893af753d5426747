"""`handfast delete`: delete a resource."""

import click

from client_app.commands.bodies import raw_option
from client_app.commands.common import Invocation, NetworkVerb, device_argument
from client_app.content import Reply


@click.command(cls=NetworkVerb, epilog="handfast delete kitchen /alarms/7")
@device_argument
@click.argument("path")
@raw_option
@click.pass_obj
async def command(invocation: Invocation, device: str, path: str) -> Reply:
    """Delete a resource."""
    async with invocation.client() as client:
        return await (await client.connect(device)).delete(path)
