"""`handfast open`: the pairing window of a device."""

from __future__ import annotations

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.models import Window
from client_app.terminal import render_administration  # noqa: F401 - registers the rendering of windows
from peer.errors import UsageError
from peer.terminal.param_types import Duration


@click.command(cls=NetworkVerb, epilog="handfast open kitchen --for 5m --role user")
@optional_device()
@click.option(
    "--for", "seconds", type=Duration(), metavar="TIME", help="How long it stays open: 120s, 5m."
)
@click.option("--role", default="", help="Role of the new user, not above yours.")
@click.option("--methods", default="", help="Pairing methods to offer, separated by commas.")
@click.option("--close", is_flag=True, help="Close the window; a pairing in progress is refused.")
@click.pass_obj
async def command(
    invocation: Invocation, device: str, seconds: float | None, role: str, methods: str, close: bool
) -> Window:
    """Open the pairing window of a device, or extend it if it is already open.

    A new client still has to be on the device's network and to complete the pairing method.
    """
    if close and (seconds is not None or role or methods):
        raise UsageError("--close cannot be used with other options", advice="Give --close alone.")
    named = [word for one in methods.split(",") if (word := one.strip())]
    async with invocation.client() as client:
        iam = (await client.connect(device)).iam
        if not close:
            return await iam.open_window(seconds=seconds, role=role, methods=named)
        await iam.close_window()
    return Window(open=False)
