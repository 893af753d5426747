"""`handfast services`: the TCP services of a device."""

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.models import Services
from client_app.terminal import render_tunnels  # noqa: F401 - registers the rendering of the result


@click.command(cls=NetworkVerb, epilog="handfast services kitchen")
@optional_device()
@click.pass_obj
async def command(invocation: Invocation, device: str) -> Services:
    """List the TCP services of a device that you may use, for `tunnel` and `connect`."""
    async with invocation.client() as client:
        found = await client.connect(device)
        return Services(tuple(await found.services()))
