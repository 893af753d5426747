"""`handfast can`: whether an action is allowed, and if not, why."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_action, optional_device
from client_app.commands.invocation import Invocation
from client_app.terminal import render_administration  # noqa: F401 - registers the rendering of permissions
from peer.errors import PeerError

if TYPE_CHECKING:
    from client_app.models import Permission


@click.command(
    cls=NetworkVerb, epilog="handfast can kitchen Pairing:OpenWindow && handfast open kitchen"
)
@optional_device(is_action)
@click.argument("action")
@click.option(
    "--user", default="", metavar="NAME", help="Check for this user of the device instead of you."
)
@click.pass_obj
async def command(invocation: Invocation, device: str, action: str, user: str) -> Permission:
    """Check whether a device allows you ACTION now and from here. The action is not performed.

    Exits with 0 if the action is allowed and with 7 if it is denied, and prints the reason. If the
    decision depends on the content of the request, it exits with 7 and prints the attributes that
    decide.
    """
    async with invocation.client() as client:
        connected = await client.connect(device)
        found = await connected.iam.check(action, user=user)
        if not (found.allowed or user):
            with contextlib.suppress(PeerError):  # the answer does not depend on the suggestion
                for own in (await connected.whoami()).actions:
                    if own != action and own.casefold() == action.casefold():
                        invocation.screen.say(f"Did you mean {own}? Upper and lower case differ.")
        return found
