"""`handfast doctor`: diagnosis of this client and one device."""

from collections.abc import AsyncIterator

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import known_aliases
from client_app.commands.invocation import Invocation
from client_app.deadline import Deadline
from client_app.models import Check
from client_app.terminal import render_checks  # noqa: F401 - registers the rendering of checks


@click.command(cls=NetworkVerb, epilog="handfast doctor kitchen")
@click.argument("device", default="", shell_complete=known_aliases)
@click.pass_obj
async def command(invocation: Invocation, device: str) -> AsyncIterator[Check]:
    """Diagnose connection problems: check the key, files, network, addresses and policy.

    Without DEVICE, only this client and its network are checked. The exit code is that of the
    first check that fails.
    """
    from client_app.doctor import diagnose  # noqa: PLC0415 - slow; see `invocation`

    async with Deadline(invocation.seconds_left()), invocation.client() as client:
        async for check in diagnose(client, device):
            yield check
