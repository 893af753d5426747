"""`handfast roles`: the roles of a device."""

import click

from client_app.commands.common import Setting, Verb, device_argument
from client_app.terminal.render_administration import Roles


@click.command(cls=Verb, example="handfast roles kitchen")
@device_argument
@click.pass_obj
async def command(setting: Setting, device: str) -> Roles:
    """List the roles of a device with their ranks and policies, lowest rank first."""
    async with setting.client() as client:
        return Roles(await (await client.connect(device)).iam.roles())
