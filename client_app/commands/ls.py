"""`handfast ls`: the resources of a device."""

from __future__ import annotations

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.links import links_untrusted
from client_app.models import Resources
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result


@click.command(cls=NetworkVerb, epilog="handfast ls kitchen")
@optional_device()
@click.pass_obj
async def command(invocation: Invocation, device: str) -> Resources:
    """List the resources of a device that you may see: paths, types and content formats."""
    async with invocation.client() as client:
        reply = await (await client.connect(device)).get("/.well-known/core")
        return Resources(links_untrusted(reply.text))
