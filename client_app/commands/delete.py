"""`handfast delete`: delete a resource."""

import click

from client_app.commands.bodies import raw_option
from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_path, optional_device
from client_app.commands.invocation import Invocation
from client_app.content import Reply
from client_app.terminal import render_replies  # noqa: F401 - registers the rendering of responses


@click.command(cls=NetworkVerb, epilog="handfast delete kitchen /alarms/7")
@optional_device(is_path)
@click.argument("path")
@raw_option
@click.pass_obj
async def command(invocation: Invocation, device: str, path: str) -> Reply:
    """Delete a resource."""
    async with invocation.client() as client:
        return await (await client.connect(device)).delete(path)
