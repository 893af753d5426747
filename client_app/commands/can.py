"""`handfast can`: may I, and if not, what is missing?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from client_app import render_rights  # noqa: F401 - it teaches `render` about permissions
from client_app.setting import Setting, Verb, device_argument

if TYPE_CHECKING:
    from client_app.rights import Permission


@click.command(cls=Verb, example="handfast can kitchen Pairing:OpenWindow && handfast open kitchen")
@device_argument
@click.argument("action")
@click.option("--user", default="", metavar="NAME", help="Another user of the device.")
@click.pass_obj
async def command(setting: Setting, device: str, action: str, user: str) -> Permission:
    """Ask whether you may do ACTION on a device now and from here; nothing is done.

    Exits with 0 if it is allowed, and with 7 and what is missing if it is not. If it depends on
    what the request is about, it is not allowed for sure: that is 7 too, and says on what.
    """
    async with setting.client() as client:
        return await (await client.connect(device)).iam.check(action, user=user)
