"""`handfast whoami`: who this client is on a device."""

import click

from client_app.setting import Setting, Verb, device_argument
from client_app.values import Whoami


@click.command(cls=Verb, example="handfast whoami kitchen")
@device_argument
@click.pass_obj
async def command(setting: Setting, device: str) -> Whoami:
    """Show who you are on a device, what you may do there, until when and by which path."""
    async with setting.client() as client:
        return await (await client.connect(device)).whoami()
