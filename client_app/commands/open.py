"""`handfast open`: the pairing window of a device, from afar."""

from __future__ import annotations

import click

from client_app import render_rights  # noqa: F401 - it teaches `render` about windows
from client_app.moments import Seconds
from client_app.rights import Window
from client_app.setting import Setting, Verb, device_argument
from peer.errors import UsageError


@click.command(cls=Verb, example="handfast open kitchen --for 5m --role user")
@device_argument
@click.option("--for", "seconds", type=Seconds(), metavar="TIME", help="How long: 120s, 5m.")
@click.option("--role", default="", help="The role of whoever pairs, at most yours.")
@click.option("--methods", default="", help="Methods to offer, separated by commas.")
@click.option("--close", is_flag=True, help="Close it; whoever is pairing is refused.")
@click.pass_obj
async def command(
    setting: Setting, device: str, seconds: float | None, role: str, methods: str, close: bool
) -> Window:
    """Open the pairing window of a device, or extend it.

    Who wants to pair then still has to be near it, and its user has to say yes.
    """
    if close and (seconds is not None or role or methods):
        raise UsageError("--close takes no other options", advice="Give it alone.")
    named = [word for one in methods.split(",") if (word := one.strip())]
    async with setting.client() as client:
        iam = (await client.connect(device)).iam
        if not close:
            return await iam.open_window(seconds=seconds, role=role, methods=named)
        await iam.close_window()
    return Window(open=False)
