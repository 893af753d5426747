"""`handfast doctor`: what is wrong."""

from collections.abc import AsyncIterator

import click

from client_app.setting import Setting, Verb, known_aliases
from client_app.values import Check


@click.command(cls=Verb, example="handfast doctor kitchen")
@click.argument("device", default="", shell_complete=known_aliases)
@click.pass_obj
async def command(setting: Setting, device: str) -> AsyncIterator[Check]:
    """Look for the cause when something does not work: key, files, network, address, policy.

    The exit code is that of the first failure.
    """
    from client_app.checks import examine  # noqa: PLC0415 - slow; see `setting`

    async with setting.client() as client:
        async for check in examine(client, device):
            yield check
